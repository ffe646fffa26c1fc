"""What searches keep and continue: pure functions of scores, one file for each published rule."""
