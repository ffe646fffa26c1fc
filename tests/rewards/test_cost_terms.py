"""The terms that speak of threads, tokens and time, each with numbers derived here."""

import itertools
import json
from typing import Any

import pytest
from episodes import call, episode
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from data.episodes.topology import (
    concurrency,
    critical_tokens,
    peak_concurrency,
    token_clock,
    total_seconds,
    total_tokens,
)
from data.episodes.trajectory import Episode, Forced, Limit, ThreadOutcome, Violation, ViolationKind
from data.tasks.countdown import Countdown
from data.tasks.problem import Problem
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rewards.compose import RewardConfig, at_step, compose, factors_at
from rewards.terms.concurrency import concurrency_bonus
from rewards.terms.critical_path import path_penalty
from rewards.terms.outcomes import ENDINGS, outcome_penalty, price
from rewards.terms.parallelism import parallelism_bonus
from rewards.terms.parl import finish_reward, parallel_reward
from rewards.terms.spawn_count import spawn_penalty

CONFIG: TypeAdapter[Any] = TypeAdapter(RewardConfig)
TASK = Countdown()
CODEC = Codec(build_tokenizer(TASK.words(), numbers=99, digits=False))
PROBLEM = Problem("p", "countdown", {"numbers": [10, 9, 4, 2], "target": 44})
RIGHT = (Forced(ids=CODEC.encode("9 * 4 10 - 2 36 + 8")),)
WRONG = (Forced(ids=CODEC.encode("9 * 4 10 - 2 36 - 8")),)
BAD = (Violation(kind=ViolationKind.UNCLOSED_TAG, call=0),)


def terms(*configs: dict[str, Any]) -> list[Any]:
    return [CONFIG.validate_json(json.dumps(config), strict=True) for config in configs]


def reward(config: dict[str, Any], of: Episode) -> float:
    """What one term contributes."""
    value = compose(terms(config), TASK, CODEC)(PROBLEM, of).value
    assert value is not None
    return value


def forked(**given: Any) -> Episode:
    """A parent (30 tokens, 1 s) forks threads of 70 (0.5 s) and 200 (2 s) and goes on for 10 (0.25 s).

    total 310, critical 240; in seconds 3.75 and 3.25.
    """
    calls = (
        call(0, 0, 30, seconds=1.0),
        call(1, 1, 70, (0,), seconds=0.5),
        call(2, 2, 200, (0,), seconds=2.0),
        call(3, 0, 10, (0, 1, 2), seconds=0.25),
    )
    return episode(calls, **{"answer": RIGHT, **given})


def alone(**given: Any) -> Episode:
    return episode((call(0, 0, 30),), **{"answer": RIGHT, **given})


# the token clock


def test_the_token_clock_by_hand() -> None:
    assert token_clock(forked()) == ((0, 30), (30, 100), (30, 230), (230, 240))
    assert concurrency(forked()) == pytest.approx(310 / 240)
    assert peak_concurrency(forked()) == 2
    assert peak_concurrency(alone()) == 1
    assert (concurrency(episode(())), peak_concurrency(episode(()))) == (0.0, 0)


def test_a_call_that_begins_when_another_ends_is_not_beside_it() -> None:
    chain = episode((call(0, 0, 5), call(1, 0, 5, (0,)), call(2, 0, 0, (1,))))
    assert peak_concurrency(chain) == 1


@st.composite
def dags(draw: st.DrawFn) -> Episode:
    """Any calls that wait for any earlier ones."""
    sizes = draw(st.lists(st.integers(0, 6), min_size=1, max_size=8))
    calls = []
    for index, size in enumerate(sizes):
        after = draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else ()
        calls.append(call(index, 0, size, sorted(after)))
    return episode(calls)


@settings(deadline=None)
@given(dags())
def test_concurrency_is_the_published_mean_over_ticks_and_equals_total_over_critical(dag: Episode) -> None:
    """Tick by tick: a_t calls are active at t; no tick before the end is empty."""
    clock = token_clock(dag)
    end = max(stop for _, stop in clock)
    active = [sum(begin <= tick < stop for begin, stop in clock) for tick in range(end)]
    assert end == critical_tokens(dag)
    assert peak_concurrency(dag) == max(active, default=0)
    assert all(active)
    if end:
        eta = 1 - end / total_tokens(dag)
        assert concurrency(dag) == pytest.approx(sum(active) / end)
        assert concurrency(dag) == pytest.approx(1 / (1 - eta))


# concurrency


@pytest.mark.parametrize(
    ("eta", "capacity", "tau", "bonus"),
    [
        (310 / 240, 4, 0.5, 0.6458),  # a share of 0.3229 of the pool, of 0.5 that are wanted
        (2.5, 4, 0.5, 1.0),  # 0.625 of the pool: more than is wanted
        (1.0, 4, 0.5, 0.5),  # one line of thought
        (0.0, 4, 0.5, 0.0),
    ],
)
def test_concurrency_bonus(eta: float, capacity: int, tau: float, bonus: float) -> None:
    assert concurrency_bonus(eta, capacity=capacity, tau=tau) == pytest.approx(bonus, abs=1e-4)


def test_concurrency_counts_only_with_a_right_answer() -> None:
    config = {"name": "concurrency", "capacity": 2, "tau": 1.0, "weight": 0.5}
    assert reward(config, forked()) == pytest.approx(0.5 * 310 / 240 / 2)
    assert reward(config, forked(answer=WRONG)) == 0.0


# the price on the path, and how it differs from the share


def test_path_penalty() -> None:
    assert path_penalty(110, scale=200, clip=1.0) == pytest.approx(-0.55)
    assert path_penalty(300, scale=200, clip=1.0) == -1.0
    assert path_penalty(300, scale=200, clip=2.0) == -1.5


def test_critical_path_in_tokens_and_seconds() -> None:
    assert reward({"name": "critical_path", "scale": 480}, forked()) == -0.5
    assert reward({"name": "critical_path", "scale": 480, "weight": 3.0}, forked(answer=WRONG)) == -1.5
    assert reward({"name": "seconds", "scale": 5.0}, forked()) == pytest.approx(-0.65)
    assert total_seconds(forked()) == 3.75
    share = {"name": "parallelism", "unit": "seconds", "rho": 1.0, "clip": 1.0}
    assert reward(share, forked()) == pytest.approx(1 - 3.25 / 3.75)
    assert reward(share, alone()) == 0.0  # nothing was measured


def test_more_work_beside_a_longer_path_raises_the_share_and_the_price() -> None:
    assert parallelism_bonus(200, 100, rho=1, clip=1) == 0.5
    assert parallelism_bonus(600, 150, rho=1, clip=1) == 0.75
    assert path_penalty(100, scale=200, clip=1) == -0.5
    assert path_penalty(150, scale=200, clip=1) == -0.75


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(0, 500), st.integers(0, 500))
def test_work_off_the_path_raises_the_share_and_leaves_the_price(path: int, beside: int, more: int) -> None:
    def dag(*threads: int) -> Episode:
        children = (call(index, index, size, (0,)) for index, size in enumerate(threads, start=1))
        return episode((call(0, 0, 0), *children), answer=RIGHT)

    before, after = dag(path, min(beside, path)), dag(path, min(beside, path), min(more, path))
    share, price_of = {"name": "parallelism", "clip": 1.0}, {"name": "critical_path", "scale": 500}
    assert reward(share, after) >= reward(share, before)
    assert reward(price_of, after) == reward(price_of, before) == -path / 500


# spawn_count


@pytest.mark.parametrize(("threads", "penalty"), [(0, 0.0), (6, 0.0), (7, -0.1), (9, -0.3)])
def test_spawn_penalty(threads: int, penalty: float) -> None:
    assert spawn_penalty(threads, allowed=6, penalty=0.1) == pytest.approx(penalty)


def test_spawn_count_charges_threads_that_ran() -> None:
    refused = forked(
        threads=4, outcomes={3: ThreadOutcome.BUDGET}, limits={3: Limit.WIDTH}
    )  # asked for three, two ran
    assert reward({"name": "spawn_count", "allowed": 1}, refused) == pytest.approx(-0.1)


# parl


def test_parl_by_the_example_in_its_module() -> None:
    calls = (call(0, 0, 9), *(call(index, index, 5, (0,)) for index in (1, 2, 3, 4)))
    five = episode(
        calls,
        threads=6,
        outcomes={3: ThreadOutcome.TRUNCATED, 4: ThreadOutcome.CANCELLED, 5: ThreadOutcome.BUDGET},
        limits={5: Limit.WIDTH},
    )
    config = {"name": "parl", "parallel": 0.2, "finish": 0.1, "cap": 8}
    assert reward(config, five) == pytest.approx(0.2 * 4 / 8 + 0.1 * 2 / 4)
    assert reward(config, alone()) == 0.0  # serial collapse earns nothing


def test_parl_s_parts() -> None:
    assert [parallel_reward(threads, cap=4) for threads in (0, 2, 4, 9)] == [0.0, 0.5, 1.0, 1.0]
    assert finish_reward([]) == 0.0
    assert finish_reward([ThreadOutcome.CANCELLED]) == 0.0
    assert finish_reward([ThreadOutcome.RETURNED, ThreadOutcome.CANCELLED]) == 1.0


# outcomes


def test_outcomes_by_the_example_in_its_module() -> None:
    ended = episode(
        (call(0, 0, 9),),
        threads=6,
        outcomes={2: ThreadOutcome.TRUNCATED, **dict.fromkeys((3, 4, 5), ThreadOutcome.BUDGET)},
        limits={2: Limit.CALL, 3: Limit.WIDTH, 4: Limit.WIDTH, 5: Limit.TOTAL_TOKENS},
    )
    config = {
        "name": "outcomes",
        "children": {"truncated": 0.05, "budget": 0.1, "width": 0.02},
        "root": {"truncated": 0.5},
    }
    assert reward(config, ended) == pytest.approx(-0.19)
    score = compose(terms(config), TASK, CODEC)(PROBLEM, ended)
    assert score.reason == "4 threads charged: call, width, total_tokens"
    assert reward({**config, "clip": 0.1}, ended) == -0.1
    assert reward(config, forked()) == 0.0


def test_the_root_s_end_has_its_own_price() -> None:
    out_of_budget = forked(outcomes={0: ThreadOutcome.BUDGET}, limits={0: Limit.CRITICAL_TOKENS}, answer=None)
    assert reward({"name": "outcomes"}, out_of_budget) == -0.5
    assert reward({"name": "outcomes", "root": {"critical_tokens": 0.8}}, out_of_budget) == -0.8
    assert reward({"name": "outcomes", "root": {"seconds": 0.8}}, out_of_budget) == 0.0


@settings(deadline=None)
@given(
    st.sampled_from(ThreadOutcome),
    st.none() | st.sampled_from(Limit),
    st.dictionaries(st.sampled_from(ENDINGS), st.floats(0, 2)),
)
def test_a_limit_s_price_goes_before_its_outcome_s(
    outcome: ThreadOutcome, limit: Limit | None, prices: dict[str, float]
) -> None:
    thread = episode((), threads=2, outcomes={1: outcome}, limits={} if limit is None else {1: limit}).threads
    expected = prices.get(outcome.value, 0.0) if limit is None else prices.get(
        limit.value, prices.get(outcome.value, 0.0)
    )  # fmt: skip
    assert price(thread[1], prices) == expected
    assert outcome_penalty(thread, children=prices, root={}, clip=1.0) == -min(expected, 1.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"children": {"widht": 0.1}}, "'widht' is not an ending"),
        ({"children": {"width": -0.1}}, "greater than or equal to 0"),
        ({"root": {"failed": 0.1}}, "would never be charged"),
    ],
)
def test_prices_that_cannot_be(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        terms({"name": "outcomes", **config})


# Parallel-R1


ACCURACY = {"name": "correct", "correct": 1.0, "wrong": -1.0, "none": -1.0}
TIMES = {"name": "parallel_gate", "forked": 0.0, "broken": -2.0, "alone": -2.0}
S2 = {
    "name": "parallel_gate",
    "forked": 0.2,
    "broken": -2.0,
    "alone": 0.0,
    "schedule": {"kind": "alternating", "period": 10, "start": 8, "length": 2},
}


def published(kind: str, g: int, *, correct: bool, parallel: bool, well_formed: bool) -> float:
    """As the released code decides, with g counted from 1. No block is never malformed there."""
    if kind == "times":
        return 1.0 if correct and parallel and well_formed else -1.0
    if kind == "S1" or (g - 1) % 10 < 8:
        return 1.0 if correct else -1.0
    if correct and parallel and well_formed:
        return 1.2
    return 1.0 if correct and not parallel else -1.0


@pytest.mark.parametrize("kind", ["S1", "times", "S2"])
def test_parallel_r1_s_rewards_as_recipes(kind: str) -> None:
    configs = terms(*{"S1": [ACCURACY], "times": [ACCURACY, TIMES], "S2": [ACCURACY, S2]}[kind])
    score = compose(configs, TASK, CODEC)
    for correct, parallel, well_formed in itertools.product([True, False], repeat=3):
        if not parallel and not well_formed:
            continue
        shape = forked if parallel else alone
        of = shape(answer=RIGHT if correct else WRONG, violations=() if well_formed else BAD)
        for step in range(30):
            found = at_step(score(PROBLEM, of), factors_at(configs, step)).value
            asked = published(kind, step + 1, correct=correct, parallel=parallel, well_formed=well_formed)
            assert found == pytest.approx(asked), (kind, step, correct, parallel, well_formed)


def test_an_attempt_that_opened_nothing_is_a_broken_fork() -> None:
    assert reward({"name": "parallel_gate"}, alone(violations=BAD)) == -2.0
