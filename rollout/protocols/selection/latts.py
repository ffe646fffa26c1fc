"""LATTS (arXiv 2509.20368): accept a step, sample it again, back up, restart, or stop. Pure functions.

Of the paper the abstract was read: a scorer's criterion decides at each step between these, and so spends
more where the scorer finds it hard. The rule is Braid's own. The score v of a step is the probability that
it is right:

    accept    v >= a: the step stands, and the next one is sampled
    resample  else, while there are fewer than n = max(1, ceil(4 N m (1 - m))) tries at this place, with m
              their mean score and N = `most`: a verdict of probability m has the variance m (1 - m), largest
              at 1/2, so there are more tries where the scorer is unsure
    back up   else: drop the step before too and sample it again, at most `backups` times a text
    restart   else: begin the text anew, at most `restarts` times
    stop      else: go on with the best try of this place that can go on (`go_on`), or end without an answer

Example, a = 0.7, N = 4: a step of 0.5 is sampled again up to ceil(4 x 4 x 0.25) = 4 tries, one of 0.1 up to
ceil(1.44) = 2, one of 0 not at all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rollout.protocols.selection.tried_steps import Move, Tried


def tries(mean: float, most: int) -> int:
    """n of the module's docstring for tries that score `mean` on average: 1 to `most`."""
    # Less an error of the last bit, which would round a whole number up.
    return max(1, math.ceil(4 * most * mean * (1 - mean) - 1e-9))


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How much a chain is given before it stops."""

    accept: float
    """Least score of a step that stands."""
    most: int
    """Most tries of a step at one place."""
    backups: int
    restarts: int
    go_on: bool
    """Whether a chain that has used up all of these goes on with the best of its last tries."""


@dataclass(kw_only=True, slots=True)
class _Chain:
    """State of a chain while its steps are gone through."""

    path: tuple[int, ...] = ()
    here: list[int] = field(default_factory=list)
    """Tries at the end of the path since something last changed."""
    backed: int = 0
    begun: int = 0
    texts: list[tuple[int, ...]] = field(default_factory=list)
    """[tried] the path up to and including each step."""


def walk(tried: Sequence[Tried], patience: Patience) -> Move:
    """What a chain does after all the steps that it has tried; its first move for ()."""
    chain = _Chain()
    for place, step in enumerate(tried):
        chain.here.append(place)
        chain.texts.append((*chain.path, place))
        accepted = step.value >= patience.accept
        if not accepted and _tries_again(chain, tried, patience):
            continue
        if not accepted and not patience.go_on:
            return Move(path=(), ends=True)
        taken = place if accepted else _best(chain, tried)
        if taken is None:
            return Move(path=_best_text(chain, tried), ends=True)
        chain.path, chain.here = (*chain.path, taken), []
        if tried[taken].finished:
            return Move(path=chain.path, ends=True)
    return Move(path=chain.path)


def _tries_again(chain: _Chain, tried: Sequence[Tried], patience: Patience) -> bool:
    """Resample, back up or restart, whichever is left in this order; False when none is."""
    values = [tried[place].value for place in chain.here]
    if len(values) < tries(math.fsum(values) / len(values), patience.most):
        return True
    if chain.path and chain.backed < patience.backups:
        chain.path, chain.backed = chain.path[:-1], chain.backed + 1
    elif chain.begun < patience.restarts:
        chain.path, chain.backed, chain.begun = (), 0, chain.begun + 1
    else:
        return False
    chain.here = []
    return True


def _best(chain: _Chain, tried: Sequence[Tried]) -> int | None:
    """The best try of this place that has an answer or can go on; of equals the first."""
    usable = [place for place in chain.here if tried[place].answered or not tried[place].finished]
    return max(usable, key=lambda place: tried[place].value, default=None)


def _best_text(chain: _Chain, tried: Sequence[Tried]) -> tuple[int, ...]:
    """The text with an answer whose last step scores best, if there is one; it was not accepted."""
    answered = [place for place, step in enumerate(tried[: len(chain.texts)]) if step.answered]
    best = max(answered, key=lambda place: tried[place].value, default=None)
    return () if best is None else chain.texts[best]
