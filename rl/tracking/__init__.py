"""What a run reports while it works: metrics, terminal, elapsed time, peak memory."""
