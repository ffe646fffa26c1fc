"""The controller's parts: admission, canary, validation, rollouts of problem sets, step metrics."""
