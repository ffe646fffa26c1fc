"""The running processes: the Ray session, placement, engine pool, reward pool, learner ranks."""
