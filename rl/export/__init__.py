"""Exports: a checkpoint as a plain Hugging Face directory with its model card."""
