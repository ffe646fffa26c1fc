"""The verifier's share of full marks: partly right answers earn a part.

Verifiers that know only right and wrong give 1 and 0; reasoning_gym, code and ifeval also give shares
between, of which only full marks are `correct`.
"""

from typing import Literal

from rewards.score import Judged, Score
from rewards.term import TermParams
from rewards.verifiers.verdict import UngradableError


class VerifierScoreParams(TermParams):
    """No keys of its own; `weight` is the value of full marks."""

    name: Literal["verifier_score"]
    """Name of the reward term."""


class VerifierScoreTerm:
    """The share of full marks, 0 to 1; 0 for no answer."""

    def __init__(self, params: VerifierScoreParams) -> None:
        self._params = params

    def __call__(self, judged: Judged) -> Score:
        """The share that the verifier gave."""
        if judged.share is None:
            raise UngradableError(judged.unchecked)
        reason = f"{judged.share:.0%} of full marks"
        return Score(value=judged.share, components={"verifier_score": judged.share}, reason=reason)
