"""Simulation of a reinforcement stage: the controller's own code over simulated time (`braid plan`).

Also simulated engines and a simulated learner, each of which replaces one side of a real run
(`braid train --simulate`).
"""
