"""What an evaluation found: outcomes of episodes, their summary with intervals, the table and the picture.

Everything here is pure aggregation over `Outcome` records; rolling episodes out is the stage's business.
"""
