"""One reinforcement stage without its engines and its learner: the controller's own code over simulated time.

Also the stand-ins that replace one side of a real run by what another run has recorded of it.
"""
