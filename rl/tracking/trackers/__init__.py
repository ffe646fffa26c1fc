"""Trackers: other programs' stores of metrics, fed from metrics.jsonl."""
