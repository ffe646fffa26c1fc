"""Plans of steps that wait for each other: their text, solver and the task."""
