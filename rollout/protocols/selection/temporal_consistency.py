"""Temporal consistency (arXiv 2503.14495): when judges who see their own last verdict have come to rest.

Pure functions on verdicts, round by round; None is a judge without a readable verdict. With v_t the verdict
that most judges give in round t, and p_t the share of all judges that give it, they have come to rest after
round T when for the last k rounds

    v_{T-k+1} = .. = v_T                   the majority is stable
    p_{T-k+1} <= .. <= p_T                 and does not crumble (asked for by `growing`)

Example, k = 2, three judges: A A B, then A A A: the majority is A with 2/3, then 3/3: at rest. The other way
round it crumbles. One judge is at rest as soon as it says the same twice.
"""

from collections.abc import Sequence

from rollout.protocols.shared.voting import Answer, vote

Verdicts = Sequence[Answer | None]
"""[judges] verdicts of one round."""


def majority(verdicts: Verdicts) -> tuple[Answer, float] | None:
    """The verdict that most judges give, of equals the first, and their share of all; None without any."""
    winner = vote(verdicts)
    if winner is None:
        return None
    verdict = verdicts[winner]
    assert verdict is not None, "a vote is won by a verdict"
    return verdict, sum(said == verdict for said in verdicts) / len(verdicts)


def at_rest(rounds: Sequence[Verdicts], agree: int, *, growing: bool) -> bool:
    """Whether the last `agree` rounds (k above) have one stable majority; never before there are so many."""
    last = [majority(verdicts) for verdicts in rounds[-agree:]]
    found = [each for each in last if each is not None]
    if len(found) < agree or len({verdict for verdict, _ in found}) > 1:
        return False
    shares = [share for _, share in found]
    return not growing or shares == sorted(shares)
