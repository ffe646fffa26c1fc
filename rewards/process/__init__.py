"""Process rewards: step scores, what they add up to, and the term that gives them."""
