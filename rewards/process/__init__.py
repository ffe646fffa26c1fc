"""Process rewards: what the scores of steps add up to. The term is rewards.terms.process."""
