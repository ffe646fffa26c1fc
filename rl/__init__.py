"""Training runs: recipes, controller, learner, stages, evaluation, export and the command line."""
