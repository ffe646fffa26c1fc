"""Episodes: the DAG of calls, its costs and monitors, and its form on disk."""
