"""The ledger: SQLite database with the state of a run, its queries and its audit."""
