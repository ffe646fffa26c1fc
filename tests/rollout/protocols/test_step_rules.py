"""Which steps stand: tries by doubt, conformal acceptance, drafts; and verdicts that come to rest."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from rollout.protocols.selection import drafted_steps, latts
from rollout.protocols.selection.conformal import fewest_scores, p_value, threshold
from rollout.protocols.selection.latts import Patience, tries
from rollout.protocols.selection.temporal_consistency import at_rest, majority
from rollout.protocols.selection.tried_steps import Move, Tried


@pytest.mark.parametrize(
    ("mean", "most", "found"),
    [
        (0.5, 4, 4),  # 4 x 4 x 0.25
        (0.1, 4, 2),  # 4 x 4 x 0.09 = 1.44
        (0.25, 4, 3),  # 4 x 4 x 0.1875 = 3, a whole number
        (0.9, 10, 4),  # 4 x 10 x 0.09 = 3.6
        (0.0, 9, 1),
        (1.0, 9, 1),
        (0.5, 1, 1),
    ],
)
def test_there_are_more_tries_where_the_scorer_is_unsure(mean: float, most: int, found: int) -> None:
    assert tries(mean, most) == found


def patience(**changes: int | bool) -> Patience:
    options = {"most": 3, "backups": 1, "restarts": 1, "go_on": True} | changes
    return Patience(accept=0.7, **options)  # type: ignore[arg-type]


def steps(*values: float) -> list[Tried]:
    return [Tried(value=value) for value in values]


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ((), ()),
        ((0.7,), (0,)),
        # Unsure: 4 x 3 x 0.25 = 3 tries. The third of them is accepted.
        ((0.5,), ()),
        ((0.5, 0.5, 0.9), (2,)),
        # Three are used up, and there is no step before: the text begins anew, with tries of its own.
        ((0.5, 0.5, 0.5), ()),
        ((0.5, 0.5, 0.5, 0.8), (3,)),
        # A step of 0.1 is tried ceil(4 x 3 x 0.09) = 2 times; then the one before is dropped too.
        ((0.9, 0.1), (0,)),
        ((0.9, 0.1, 0.1), ()),
        ((0.9, 0.1, 0.1, 0.8), (3,)),
        # Backed up once: the next time the text begins anew; the time after that the best try goes on.
        ((0.9, 0.0, 0.8, 0.9, 0.0), ()),
        ((0.9, 0.0, 0.8, 0.9, 0.0, 0.3, 0.2, 0.4), (7,)),
    ],
)
def test_what_a_chain_does_next(values: tuple[float, ...], path: tuple[int, ...]) -> None:
    assert latts.walk(steps(*values), patience()) == Move(path=path)


def test_a_chain_ends_with_an_accepted_answer_or_with_what_it_has() -> None:
    answer = Tried(value=0.9, finished=True, answered=True)
    assert latts.walk([*steps(0.8), answer], patience()) == Move(path=(0, 1), ends=True)
    # Nothing is left to try: the best of the last tries, or no answer, as the recipe says.
    spent = patience(most=1, backups=0, restarts=0)
    weak = Tried(value=0.4, finished=True, answered=True)
    assert latts.walk([*steps(0.8), weak], spent) == Move(path=(0, 1), ends=True)
    stops = patience(most=1, backups=0, restarts=0, go_on=False)
    assert latts.walk([*steps(0.8), weak], stops) == Move(path=(), ends=True)
    # A text that ended without an answer scores 0 and cannot go on; an answer that was given before counts.
    ended = Tried(value=0.0, finished=True)
    assert latts.walk([ended], spent) == Move(path=(), ends=True)
    again = patience(most=1, backups=0, restarts=1)
    assert latts.walk([*steps(0.8), weak, ended], again) == Move(path=(0, 1), ends=True)


def test_a_chain_that_is_never_accepted_ends_within_its_patience() -> None:
    rng = random.Random(5)
    for _ in range(300):
        given = patience(
            most=rng.randint(1, 4), backups=rng.randint(0, 3), restarts=rng.randint(0, 2),
            go_on=rng.random() < 0.5,
        )  # fmt: skip
        tried: list[Tried] = []
        while not (move := latts.walk(tried, given)).ends:
            depth = len(move.path) + 1
            ended = depth == 4
            answered = ended and rng.random() < 0.3
            value = rng.random() if answered or not ended else 0.0
            tried.append(Tried(value=value, finished=ended, answered=answered))
            # Texts of at most four steps, each tried `most` times, after every backup and restart once more.
            assert len(tried) <= 4 * given.most * (given.backups + 1) * (given.restarts + 2)
        assert not move.path or tried[move.path[-1]].finished
        assert all(before < after for before, after in pairwise(move.path))


@pytest.mark.parametrize(
    ("score", "calibration", "p"),
    [
        (0.5, (0.2, 0.4, 0.6, 0.8), 3 / 5),
        (0.1, (0.2, 0.4, 0.6, 0.8), 1 / 5),
        (0.9, (0.8, 0.6, 0.4, 0.2), 1.0),
        # Scores that equal it count as lower: p is larger, and less is rejected.
        (0.4, (0.4, 0.4, 0.6), 3 / 4),
        (0.3, (), 1.0),
    ],
)
def test_conformal_p_values(score: float, calibration: tuple[float, ...], p: float) -> None:
    assert p_value(score, calibration) == p


def test_the_threshold_is_where_the_p_value_passes_alpha() -> None:
    # Nine scores at 0.1: 0.1 x 10 = 1, the smallest. Nineteen: the second smallest. Eight: nothing.
    nine = [n / 10 for n in range(1, 10)]
    assert threshold(nine, 0.1) == 0.1 and threshold(nine[1:], 0.1) == 0.0
    assert threshold([n / 20 for n in range(19, 0, -1)], 0.1) == 2 / 20
    assert threshold([0.5] * 29, 0.1) == 0.5, "0.1 x 30 is 3"
    assert [fewest_scores(alpha) for alpha in (0.1, 0.05, 0.3, 0.5, 0.25)] == [9, 19, 3, 1, 3]
    rng = random.Random(1)
    for _ in range(400):
        alpha = rng.choice([0.05, 0.1, 0.25, 0.3, 0.5])
        scores = [rng.choice([rng.random(), 0.5]) for _ in range(rng.randint(0, 40))]
        score = rng.choice([rng.random(), *scores])
        assert (score < threshold(scores, alpha)) == (p_value(score, scores) <= alpha + 1e-12)
        assert (threshold(scores, alpha) > 0) == (len(scores) >= fewest_scores(alpha))


def rejected(draw: Sequence[float], alpha: float) -> bool:
    """Whether the last score of a draw is rejected by the others."""
    return p_value(draw[-1], draw[:-1]) <= alpha


@pytest.mark.medium
@pytest.mark.parametrize(
    ("size", "alpha", "rate"),
    # A good step has every place among n + 1 with the same probability: it is rejected in the lowest
    # floor(alpha (n + 1)) of them. 19 scores: 2 of 20; 24: 2 of 25, not 2.5; 8: none of 9.
    [(19, 0.1, 0.1), (24, 0.1, 0.08), (99, 0.05, 0.05), (8, 0.1, 0.0)],
)
def test_good_steps_are_rejected_at_the_rate_that_alpha_promises(
    size: int, alpha: float, rate: float
) -> None:
    rng, trials = random.Random(7), 4000
    # Any continuous distribution will do; this one is not uniform.
    draws = ([rng.random() ** 3 for _ in range(size + 1)] for _ in range(trials))
    found = sum(rejected(draw, alpha) for draw in draws) / trials
    # Trials are independent: deviation sqrt(r (1 - r) / trials), 0.0047 at 0.1; four of them.
    margin = 4 * math.sqrt(rate * (1 - rate) / trials)
    assert abs(found - rate) <= margin and found <= alpha + margin


@pytest.mark.medium
def test_ties_never_raise_the_rate_above_alpha() -> None:
    # Scores of three values only. Rejected at n = 19, alpha = 0.1: no more than one other is as low. A score
    # of 0 (a third of all) with at most one other 0 among 19 has probability
    # (2/3)^19 + 19 (1/3) (2/3)^18 = 0.00474, and the higher values nearly none: about 0.00158 in all.
    rng, trials = random.Random(11), 4000
    found = sum(rejected([rng.randrange(3) / 2 for _ in range(20)], 0.1) for _ in range(trials)) / trials
    assert found == pytest.approx(0.00158, abs=4 * math.sqrt(0.00158 / trials)) and found < 0.1


@pytest.mark.medium
def test_bad_steps_are_rejected_as_often_as_their_distribution_says() -> None:
    # Good scores uniform, bad ones U^2, with density s^(-1/2) / 2. At n = 19, alpha = 0.1 a score s is
    # rejected with at most one lower one: (1 - s)^19 + 19 s (1 - s)^18. Integrated over s:
    # (B(1/2, 20) + 19 B(3/2, 19)) / 2.
    def beta(a: float, b: float) -> float:
        return math.exp(math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))

    rate = (beta(0.5, 20) + 19 * beta(1.5, 19)) / 2
    rng, trials = random.Random(3), 4000
    draws = ([*(rng.random() for _ in range(19)), rng.random() ** 2] for _ in range(trials))
    found = sum(rejected(draw, 0.1) for draw in draws) / trials
    assert rate == pytest.approx(0.295, abs=5e-3)
    assert found == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / trials))


def draft(value: float, **end: bool) -> Tried:
    return Tried(value=value, role="draft", **end)


TARGET = Tried(value=0.1)
"""A step of the target, which stands whatever its score."""


def test_drafts_stand_by_their_score_and_steps_of_the_target_always() -> None:
    assert drafted_steps.walk((), 0.7) == Move(path=(), role="draft")
    assert drafted_steps.walk([draft(0.7)], 0.7) == Move(path=(0,), role="draft")
    assert drafted_steps.walk([draft(0.9), draft(0.4)], 0.7) == Move(path=(0,), role="chain")
    assert drafted_steps.walk([draft(0.9), draft(0.4), TARGET], 0.7) == Move(path=(0, 2), role="draft")
    assert drafted_steps.walk([draft(0.0)], 0.0) == Move(path=(0,), role="draft"), "nothing is rejected"


def test_a_chain_ends_with_a_draft_that_answers_or_a_step_of_the_target() -> None:
    answer = draft(0.8, finished=True, answered=True)
    assert drafted_steps.walk([draft(0.9), answer], 0.7) == Move(path=(0, 1), ends=True)
    assert drafted_steps.walk([draft(0.9), answer], 0.9) == Move(path=(0,), role="chain")
    # A draft that gives up is written again even where nothing can be rejected by its score.
    assert drafted_steps.walk([draft(0.0, finished=True)], 0.0) == Move(path=(), role="chain")
    gave_up = Tried(value=0.0, finished=True)
    assert drafted_steps.walk([draft(0.1), gave_up], 0.7) == Move(path=(1,), ends=True)


A, B = "1 right", "1 wrong"


@pytest.mark.parametrize(
    ("rounds", "agree", "growing", "rest"),
    [
        # One judge: the same twice.
        ([[A], [B], [B]], 2, True, True),
        ([[A], [B], [A]], 2, True, False),
        # Fewer rounds than must agree.
        ([[B]], 2, True, False),
        # Majority A with 2/3 and 3/3, and the other way round.
        ([[A, A, B], [A, A, A]], 2, True, True),
        ([[A, A, A], [A, A, B]], 2, True, False),
        ([[A, A, A], [A, A, B]], 2, False, True),
        # Silent judges count in the share: 2/3, then 1/3.
        ([[A, A, B], [A, None, None]], 2, True, False),
        ([[A], [None], [A]], 2, False, False),
        # Only the last three rounds count.
        ([[B, B], [A, B], [A, A], [A, A]], 3, True, True),
    ],
)
def test_verdicts_come_to_rest(rounds: list[list[str | None]], agree: int, growing: bool, rest: bool) -> None:
    assert at_rest(rounds, agree, growing=growing) is rest


def test_the_majority_and_its_share_of_all_judges() -> None:
    assert majority([A, B, B]) == (B, 2 / 3) and majority([A, B]) == (A, 1 / 2), "of equals the first"
    assert majority([None, B, None, None]) == (B, 1 / 4) and majority([None]) is None
