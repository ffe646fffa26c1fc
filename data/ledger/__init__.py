"""The ledger: the SQLite database of a run, with its queries and its audit."""
