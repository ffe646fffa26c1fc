"""The stages of a curriculum: one file each. `rl.run` runs them in order."""
