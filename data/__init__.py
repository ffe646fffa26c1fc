"""Problems and tasks, search trees, the episode DAG, tokenizers and samplers. Imports nothing of ours."""
