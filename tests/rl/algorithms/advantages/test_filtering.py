"""Which groups can have an advantage: every estimator and credit, with values worked out by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from episodes import call, episode
from hypothesis import given
from hypothesis import strategies as st
from protocol_lab import build, drive, scripted

from data.episodes.trajectory import Episode
from rewards.score import CallReward, Score, StepReward
from rl.algorithms.advantages.credit import call_advantages
from rl.algorithms.advantages.estimators import BATCH_BASELINE, ESTIMATORS
from rl.algorithms.advantages.filtering import has_signal as has_signal_of_scores

GROUP_BASELINE = [name for name in ESTIMATORS if name not in BATCH_BASELINE]
REWARDS = st.one_of(st.none(), st.integers(-4, 4).map(lambda quarters: quarters / 4))


def has_signal(episodes: Sequence[Episode], rewards: Sequence[float | None], **given: Any) -> bool:
    """The question for episodes without rewards of calls or steps."""
    return has_signal_of_scores(episodes, [Score(value=reward) for reward in rewards], **given)


def forked(*found: bool) -> Episode:
    """A parent with one child each; `found`: whether that child succeeds. Calls: parent, children, parent."""
    lines = {
        ((key,), 0): "5 <found> 6 <eos>" if hit else "5 <nothing> <eos>" for key, hit in enumerate(found)
    }
    spawn = " <and> ".join("4" for _ in found)
    lines |= {((), 0): f"<spawn> {spawn} <join>", ((), 1): "<giveup> <eos>"}
    return drive(build("spawn_join"), scripted(lines))


def plain(rewards: Sequence[float | None], **given: Any) -> bool:
    """Whether a group of one-call episodes has signal."""
    return has_signal([episode((call(0, 0, 3),))] * len(rewards), rewards, **given)


@pytest.mark.parametrize("estimator", GROUP_BASELINE)
def test_a_group_baseline_needs_two_different_graded_rewards(estimator: str) -> None:
    assert plain([1.0, 0.0, None], estimator=estimator)
    for rewards in ([1.0, None, 1.0], [None, 0.3], [None, None], []):
        assert not plain(rewards, estimator=estimator)
    assert not plain([0.1 + 0.2, 0.3], estimator=estimator), "they differ by rounding alone"


def test_a_batch_baseline_finds_signal_in_groups_of_ties() -> None:
    groups = [([forked(True)] * 2, [1.0, 1.0]), ([forked(False)] * 2, [0.0, 0.0])]
    # Batch mean 0.5, std sqrt(4 * 0.25 / 3) = 0.577.
    found = call_advantages(groups, estimator="batch_std", credit="broadcast")
    assert [group[0][0] for group in found] == pytest.approx([0.866, -0.866], abs=1e-3)
    for episodes, rewards in groups:
        assert has_signal(episodes, rewards, estimator="batch_std")
        assert not has_signal(episodes, rewards, estimator="group_std")
    assert plain([None, 0.3], estimator="batch_std")
    assert not plain([None, None], estimator="batch_std") and not plain([], estimator="batch_std")


@pytest.mark.parametrize("estimator", GROUP_BASELINE)
def test_children_that_differ_are_signal_though_the_outcomes_tie(estimator: str) -> None:
    # The outcome rests on the one that succeeded: contributions 1 and 0 in both episodes.
    group = [forked(True, False), forked(True, False)]
    assert has_signal(group, [1.0, 1.0], estimator=estimator, credit="child")
    assert not has_signal(group, [1.0, 1.0], estimator=estimator)
    # Contributions 1/2 each, and 1/2 each: nothing to choose between.
    alike = [forked(True, True), forked(True, True)]
    assert not has_signal(alike, [1.0, 1.0], estimator=estimator, credit="child")
    # Nobody succeeded: all contributions are 0.
    assert not has_signal([forked(False, False)] * 2, [0.0, 0.0], estimator=estimator, credit="child")
    assert has_signal([forked(False, False)] * 2, [0.0, 0.0], estimator="batch_std", credit="child")


def test_only_roles_that_are_trained_count() -> None:
    group = [forked(True, False), forked(True, False)]
    roles = list(dict.fromkeys(call.role for call in group[0].calls))
    assert len(roles) == 2, "the parent's and the children's"
    parent, child = roles
    given: dict[str, Any] = {"estimator": "group_std", "credit": "child"}
    assert has_signal(group, [1.0, 1.0], roles=(child,), **given)
    assert not has_signal(group, [1.0, 1.0], roles=(parent,), **given)
    assert has_signal(group, [1.0, 0.0], roles=(parent,), **given)
    assert not has_signal(group, [1.0, 0.0], roles=("judge",), **given)
    # The only episode that has the role is the one whose reward is the mean.
    judged = [episode((replace(call(0, 0, 3), role=role),)) for role in ("a", "a", "judge")]
    assert not has_signal(judged, [1.0, 0.0, 0.5], estimator="group_std", roles=("judge",))


def test_calls_without_trained_tokens_do_not_count() -> None:
    silent = [episode((replace(call(0, 0, 3), num_trained=0),))] * 2
    assert not has_signal(silent, [1.0, 0.0], estimator="group_std")
    assert not has_signal(silent, [1.0, 0.0], estimator="batch_std")


def test_with_a_critic_any_graded_episode_is_signal() -> None:
    assert plain([1.0, 1.0], estimator="group_std", critic=True)
    assert plain([None, 0.0], estimator="group_std", critic=True)
    assert not plain([None, None], estimator="group_std", critic=True)
    assert not plain([1.0], estimator="group_std", critic=True, roles=("judge",))


@pytest.mark.parametrize("estimator", list(ESTIMATORS))
@given(group=st.lists(REWARDS, max_size=5), others=st.lists(st.lists(REWARDS, max_size=4), max_size=3))
def test_what_is_filtered_out_has_no_advantage_in_any_batch(
    estimator: str, group: list[float | None], others: list[list[float | None]]
) -> None:
    estimate = ESTIMATORS[estimator]
    if not plain(group, estimator=estimator):
        assert not any(estimate([group, *others])[0])
    else:
        # And what is kept has one in some batch: beside a group with another mean.
        assert any(estimate([group, [9.0, 8.0]])[0])


@pytest.mark.parametrize("estimator", GROUP_BASELINE)
def test_steps_that_differ_are_signal_though_the_outcomes_tie(estimator: str) -> None:
    group = [episode((call(0, 0, 3),))] * 2

    def found(*values: float, **given: Any) -> bool:
        scores = [
            Score(value=1.0, steps=(StepReward(call=0, start=0, stop=2, value=value),)) for value in values
        ]
        return has_signal_of_scores(group, scores, estimator=estimator, **given)

    assert found(1.0, 0.0) and not found(0.5, 0.5)
    assert not found(1.0, 0.0, roles=("judge",))
    calls = [Score(value=1.0, calls=(CallReward(call=0, value=value),)) for value in (1.0, -1.0)]
    assert has_signal_of_scores(group, calls, estimator=estimator)
    # Steps are compared within their group: one alone differs from nothing.
    alone = [Score(value=1.0), Score(value=1.0, calls=(CallReward(call=0, value=5.0),))]
    assert not has_signal_of_scores(group, alone, estimator=estimator)
