"""The stages of a curriculum: one file each. `rl.train` runs them in order."""
