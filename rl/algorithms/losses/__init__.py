"""Policy losses: pure functions on flat tensors, one file each."""
