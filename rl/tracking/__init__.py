"""Reporting of a running stage: metrics, terminal, elapsed time, peak memory."""
