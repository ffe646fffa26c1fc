"""A run that cannot learn: the counts, streak and keys that the message of each condition has."""

import re
from dataclasses import replace
from typing import Any

import pytest
from episodes import call, episode
from pydantic import TypeAdapter

from data.episodes.trajectory import StopReason
from rewards.score import Score
from rl.config.stages import RlStage
from rl.controller.health import (
    Condition,
    Finding,
    Health,
    ProtocolLimits,
    Tie,
    no_update_advice,
    protocol_limits,
    tie_of,
)
from rl.scored_group import ScoredGroup
from rollout.protocols import AnyParams, default_params

LIMITS = ProtocolLimits(forks=True, length_keys=("protocol.child_tokens",))
FINE = {"share/truncated_calls": 0.1, "share/activation": 0.8, "learner/updates": 2.0}


def stage(**health: Any) -> RlStage:
    return RlStage.model_validate(
        {
            "name": "rl", "kind": "rl", "steps": 9, "groups_per_step": 4, "samples_per_group": 2,
            "learning_rate": 1e-3, "forest_tokens": 64, "health": health,
        }
    )  # fmt: skip


def group(*scores: tuple[float | None, bool | None], stop: StopReason = StopReason.STOP) -> ScoredGroup:
    """One episode of one call for each (value, correct)."""
    said = replace(call(0, 0, 3), stop=stop)
    return ScoredGroup(
        index=0,
        problem_id="p",
        episodes=tuple(episode((said,)) for _ in scores),
        scores=tuple(
            Score(value=value, correct=correct, reason="" if value is not None else "no verifier")
            for value, correct in scores
        ),
    )


WRONG = group((0.0, False), (0.0, False))
RIGHT = group((1.0, True), (1.0, True))
UNGRADED = group((None, None), (None, None))


def feed(health: Health, *groups: ScoredGroup) -> list[Finding]:
    found = [health.on_group(item, signal=False) for item in groups]
    return [finding for finding in found if finding is not None]


@pytest.mark.parametrize(
    ("scores", "tie"),
    [
        ([(0.0, False), (0.0, False)], Tie.WRONG),
        ([(0.0, False), (None, None)], Tie.WRONG),
        ([(1.0, True), (1.0, True)], Tie.RIGHT),
        ([(None, None), (None, True)], Tie.UNGRADED),
        ([(0.5, True), (0.5, False)], Tie.EQUAL),
        ([(0.5, None), (0.5, None)], Tie.EQUAL),
    ],
)
def test_why_a_group_has_no_signal(scores: list[tuple[float | None, bool | None]], tie: Tie) -> None:
    assert tie_of(group(*scores)) is tie


def test_groups_without_signal_are_counted_by_kind_and_end_the_run() -> None:
    """Four groups to a step: reports at 4, 8 and 16 groups in a row, and the last one at 20."""
    found = feed(Health(stage(patience_groups=20), LIMITS), *[WRONG] * 17, *[RIGHT] * 5)
    assert [(finding.streak, finding.fatal) for finding in found] == [
        (4, False), (8, False), (16, False), (20, True),
    ]  # fmt: skip
    last = found[-1]
    assert last.condition is Condition.NO_SIGNAL
    assert "none of the last 20 groups" in last.text
    assert "(17 all wrong, 3 all right, 0 all ungraded, 0 otherwise tied)" in last.text
    assert "rl.samples_per_group" in last.remedy and "sft stage" in last.remedy


def test_a_group_with_signal_begins_the_count_anew() -> None:
    health = Health(stage(patience_groups=4), LIMITS)
    assert feed(health, WRONG, WRONG, WRONG) == []
    assert health.on_group(group((0.0, False), (1.0, True)), signal=True) is None
    assert feed(health, WRONG, WRONG, WRONG) == []
    (finding,) = feed(health, WRONG)
    assert finding.fatal


def test_solved_problems_and_ungraded_episodes_get_other_advice() -> None:
    (right,) = feed(Health(stage(), LIMITS), *[RIGHT] * 4)
    assert "harder problems" in right.remedy and right.condition is Condition.NO_SIGNAL
    (ungraded,) = feed(Health(stage(), LIMITS), *[UNGRADED] * 4)
    assert ungraded.condition is Condition.UNGRADED
    assert "4 all ungraded" in ungraded.text and "no verifier" in ungraded.text
    assert "rewards" in ungraded.remedy


def test_calls_at_their_limit_are_the_first_suspect() -> None:
    """Three of four groups of two calls each: 6 of 8 calls."""
    cut = group((0.0, False), (0.0, False), stop=StopReason.LENGTH)
    (finding,) = feed(Health(stage(), LIMITS), cut, cut, WRONG, cut)
    assert "6 of 8 calls ended at their length limit" in finding.text
    assert "protocol.child_tokens or model.max_length" in finding.remedy


@pytest.mark.parametrize(
    ("change", "condition", "said", "key"),
    [
        ({"share/truncated_calls": 0.75}, Condition.CUT_OFF, "50%.*75% in the last", "protocol.child_tokens"),
        ({"learner/updates": 0.0}, Condition.NO_UPDATE, "no trained token", "rl.samples_per_group"),
        (
            {"learner/updates": 0.0, "learner/skipped_updates": 1.0},
            Condition.NO_UPDATE, "not finite", "rl.learning_rate",
        ),
        ({"share/activation": 0.005}, Condition.NO_FORKS, "1.0%.*0.5% in the last", "rl.health.fork_share"),
    ],
)  # fmt: skip
def test_steps(change: dict[str, float], condition: Condition, said: str, key: str) -> None:
    """Reports at 1, 2 and 4 steps in a row, the last at 5; one good step begins the count anew."""
    health, bad = Health(stage(patience_steps=5), LIMITS), FINE | change
    assert health.on_step(0, FINE) == []
    assert [finding.streak for finding in health.on_step(1, bad)] == [1]
    assert health.on_step(2, FINE) == []
    found = [finding for step in range(3, 8) for finding in health.on_step(step, bad)]
    assert [(finding.streak, finding.fatal) for finding in found] == [
        (1, False), (2, False), (4, False), (5, True),
    ]  # fmt: skip
    assert {finding.condition for finding in found} == {condition}
    assert re.search(said, found[-1].text), found[-1].text
    assert key in found[-1].remedy


def test_a_scorer_that_is_pleased_without_reason() -> None:
    """Two blocks of two steps: opinions 0.4 and 0.8, accuracy stays; the fourth step is the first to show it.

    Then both stay: the blocks beside each other are equal, and the one that ended four steps before shows it.
    """
    health = Health(stage(scorer_steps=2, patience_steps=4), LIMITS)
    opinions = [0.4, 0.4, 0.8, 0.8, 0.8, 0.8, 0.8]
    found = [
        health.on_step(step, FINE | {"scorer/mean": opinion, "scorer/accuracy": 0.5})
        for step, opinion in enumerate(opinions)
    ]
    assert [len(each) for each in found] == [0, 0, 0, 1, 0, 1, 0]
    (finding,) = found[3]
    assert finding.condition is Condition.HACKED and not finding.fatal
    assert "within 2 steps from 0.40 to 0.80; accuracy from 0.50 to 0.50" in finding.text
    assert "gate: correct" in finding.remedy and "rl.health.scorer_follow" in finding.remedy


def test_a_scorer_that_is_hacked_for_long_ends_the_run() -> None:
    health = Health(stage(scorer_steps=2, patience_steps=3), LIMITS)
    rows = [FINE | {"scorer/mean": 0.1 * step, "scorer/accuracy": 0.5} for step in range(7)]
    found = [finding for step, row in enumerate(rows) for finding in health.on_step(step, row)]
    assert [(finding.streak, finding.fatal) for finding in found] == [
        (1, False),
        (2, False),
        (3, True),
        (4, True),
    ]


def test_a_scorer_is_not_looked_at_where_nobody_asks() -> None:
    rows = [FINE | {"scorer/mean": 0.1 * step, "scorer/accuracy": 0.5} for step in range(7)]
    health = Health(stage(scorer_steps=None), LIMITS)
    assert [health.on_step(step, row) for step, row in enumerate(rows)] == [[]] * 7
    unchecked = [{key: row[key] for key in row if key != "scorer/accuracy"} for row in rows]
    health = Health(stage(scorer_steps=2), LIMITS)
    assert [health.on_step(step, row) for step, row in enumerate(unchecked)] == [[]] * 7


def test_bounds_of_the_recipe() -> None:
    health = Health(stage(cut_off_share=1.0, fork_share=0.0), LIMITS)
    assert health.on_step(0, FINE | {"share/truncated_calls": 1.0, "share/activation": 0.0}) == []
    sequential = Health(stage(), ProtocolLimits(forks=False))
    assert sequential.on_step(0, FINE | {"share/activation": 0.0}) == []


def test_a_critic_that_warms_up_is_no_idle_learner() -> None:
    critic = {"warmup_steps": 2}
    config = stage().model_dump() | {"algorithm": {"advantage": "group_mean", "critic": critic}}
    config["drop_zero_variance"] = False
    health = Health(RlStage.model_validate(config), LIMITS)
    idle = FINE | {"learner/updates": 0.0}
    assert health.on_step(0, idle) == [] == health.on_step(1, idle)
    assert len(health.on_step(2, idle)) == 1


def test_a_default_patience_is_twenty_steps_but_at_least_256_groups() -> None:
    found = feed(Health(stage(), LIMITS), *[WRONG] * 256)
    assert [finding.streak for finding in found if finding.fatal] == [256]
    large = stage().model_copy(update={"groups_per_step": 16})
    found = feed(Health(large, LIMITS), *[WRONG] * 320)
    assert [finding.streak for finding in found if finding.fatal] == [320]


@pytest.mark.parametrize(
    ("name", "forks"), [("sequential", False), ("spawn_join", True), ("best_of_n", True)]
)
def test_a_protocol_is_asked_by_its_parameters(name: str, forks: bool) -> None:
    limits = protocol_limits(default_params(name))
    assert limits.forks is forks
    assert all(key.startswith("protocol.") and key.endswith("_tokens") for key in limits.length_keys)
    assert limits.length_keys


def test_no_forks_are_asked_of_a_protocol_whose_budget_allows_none() -> None:
    params: AnyParams = TypeAdapter(AnyParams).validate_python(
        {"name": "spawn_join", "budgets": {"depth": 0}}
    )
    assert not protocol_limits(params).forks


def test_the_last_line_of_a_stage_without_updates() -> None:
    idle = [{"learner/updates": 0.0}, {"learner/updates": 0.0}, {"time/validation_wait_s": 1.0}]
    assert "made no update in 2 steps" in (no_update_advice("rl", idle) or "")
    assert no_update_advice("rl", [*idle, {"learner/updates": 1.0}]) is None
    assert no_update_advice("rl", [{"time/simulated_s": 1.0}]) is None
