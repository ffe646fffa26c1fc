"""Formats in which steps and their labels are published, in and out."""
