"""Strategies that choose among recorded samples after the fact, and what each would have cost. Pure."""
