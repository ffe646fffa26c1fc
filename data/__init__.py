"""Data structures: tasks, episodes, forests, tokenizers, the ledger. Imports no other package of Braid."""
