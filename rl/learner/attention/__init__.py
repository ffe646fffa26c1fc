"""Attention over forests, for any Hugging Face causal language model that uses `AttentionInterface`."""
