"""Text and token ids: tokenizers and codecs."""
