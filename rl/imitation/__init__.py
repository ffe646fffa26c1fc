"""Supervised fine-tuning: demonstrations, recorded episodes, and the trainer."""
