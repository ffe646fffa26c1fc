"""Problems, tasks, the episode DAG, forests, tokenizers and the ledger. Imports no other package of Braid."""
