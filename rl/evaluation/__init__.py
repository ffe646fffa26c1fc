"""Results of an evaluation: outcomes of episodes, their summary with intervals, the table and the picture.

All of it is computed from `Outcome` records and metrics; the evaluation stage (`rl.stages.evaluate`) samples
the episodes.
"""
