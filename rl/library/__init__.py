"""What `rl.api` offers to programs: thinking with a model, and reading runs as dataclasses and tables."""
