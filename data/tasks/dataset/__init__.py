"""Task `dataset`: a user's own rows, read from files or the hub by a column map or a recognised layout."""
