"""Attention over forests, for any Hugging Face causal language model that asks `AttentionInterface`."""
