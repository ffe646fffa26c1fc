"""Training rows as forests: prefix tries, how they are split, and their tensors."""
