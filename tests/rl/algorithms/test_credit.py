"""Credit across parent and children, with numbers worked out by hand."""

import math

import pytest
from protocol_lab import build, drive, scripted

from data.episodes.trajectory import Episode
from rl.algorithms.advantages.credit import Credit, call_advantages, child_contributions


def episode(*found: bool, nested: bool = False) -> Episode:
    """A parent with one child each; `found`: whether it finds something. `nested`: child 0 spawns one."""
    lines = {
        ((key,), 0): "5 <found> 6 <eos>" if hit else "5 <nothing> <eos>" for key, hit in enumerate(found)
    }
    if nested:
        lines |= {((0,), 1): lines[(0,), 0], ((0,), 0): "<spawn> 9 <join>", ((0, 0), 0): "<nothing> <eos>"}
    spawn = " <and> ".join("4" for _ in found)
    lines |= {((), 0): f"<spawn> {spawn} <join>", ((), 1): "<giveup> <eos>"}
    return drive(build("spawn_join", budgets={"depth": 2}), scripted(lines))


def test_a_win_is_divided_among_the_children_that_brought_it() -> None:
    group = [episode(True, False, True), episode(False, False), episode(True)]
    # b = 0.25, the reward of the second; R - b is 0.75 over two children, and -0.75 for a wrong claim.
    assert child_contributions(group, [1.0, 0.25, -0.5]) == [
        {1: 0.375, 2: 0.0, 3: 0.375},
        {1: 0.0, 2: 0.0},
        {1: -0.75},
    ]


def test_whoever_claimed_the_answer_is_credited_or_blamed_and_nobody_else() -> None:
    lines = {
        ((), 0): "<spawn> 4 <and> 4 <and> 4 <join>",
        ((0,), 0): "<found> 6 <eos>", ((1,), 0): "<found> 7 8 <eos>", ((2,), 0): "<found> 6 <eos>",
        ((), 1): "<answer> 7 8 <eos>",
    }  # fmt: skip
    group = [drive(build("spawn_join"), scripted(lines)), episode(False)]
    assert child_contributions(group, [-0.5, 0.0]) == [{1: 0.0, 2: -0.5, 3: 0.0}, {1: 0.0}]
    assert child_contributions(group, [1.0, 0.0]) == [{1: 0.0, 2: 1.0, 3: 0.0}, {1: 0.0}]


def test_children_have_their_own_advantage_and_the_root_the_episodes() -> None:
    group = [episode(True, False), episode(False, False)], [1.0, 0.0]
    # Root: 1 - 0.5. Children: contributions 1, 0, 0, 0 with mean 0.25.
    assert call_advantages([group], estimator="group_mean", credit="child") == [
        [[0.5, 0.75, -0.25, 0.5], [-0.5, -0.25, -0.25, -0.5]]
    ]
    assert call_advantages([group], estimator="group_mean", credit="broadcast") == [[[0.5] * 4, [-0.5] * 4]]


def test_children_are_scaled_as_the_episodes_are() -> None:
    group = [episode(True, False), episode(False, False)], [1.0, 0.0]
    ((first, second),) = call_advantages([group], estimator="group_std", credit="child")
    # Root: +-0.5 over sqrt(0.5). Children: 0.75 and -0.25 over the std sqrt(0.75 / 3) = 0.5.
    root = 0.5 / math.sqrt(0.5)
    assert first == pytest.approx([root, 1.5, -0.5, root], abs=1e-5)
    assert second == pytest.approx([-root, -0.5, -0.5, -root], abs=1e-5)
    ((first, second),) = call_advantages([group], estimator="leave_one_out", credit="child")
    # Root: 1 - 0 and 0 - 1. Children: 1 - 0, and 0 - (1 + 0 + 0) / 3.
    assert first == pytest.approx([1.0, 1.0, -1 / 3, 1.0])
    assert second == pytest.approx([-1.0, -1 / 3, -1 / 3, -1.0])


def test_a_batch_has_one_scale_for_its_episodes_and_one_for_its_children() -> None:
    groups = [
        ([episode(True, False), episode(False, False)], [1.0, 0.0]),
        ([episode(True), episode(True)], [1.0, 1.0]),
    ]
    found = call_advantages(groups, estimator="group_mean_reward_std", credit="child")
    # Rewards 1, 0, 1, 1: std sqrt(0.75 / 3) = 0.5. Second group: b = 0, both children brought the 1.
    # Contributions 1, 0, 0, 0 and 1, 1: mean 0.5, std sqrt(6 * 0.25 / 5) = sqrt(0.3).
    scale = math.sqrt(0.3)
    assert found[0][0] == pytest.approx([1.0, 0.75 / scale, -0.25 / scale, 1.0], abs=1e-5)
    assert found[0][1] == pytest.approx([-1.0, -0.25 / scale, -0.25 / scale, -1.0], abs=1e-5)
    assert found[1] == [[0.0] * 3, [0.0] * 3]
    broadcast = call_advantages(groups, estimator="batch_std", credit="broadcast")
    # Mean 0.75 over the same 0.5.
    assert broadcast[0] == [pytest.approx([0.5] * 4, abs=1e-5), pytest.approx([-1.5] * 4, abs=1e-5)]
    assert broadcast[1] == [pytest.approx([0.5] * 3, abs=1e-5)] * 2


@pytest.mark.parametrize("credit", ["broadcast", "child"])
@pytest.mark.parametrize("estimator", ["group_std", "group_mean", "leave_one_out"])
def test_a_group_s_own_estimators_do_not_see_the_others(estimator: str, credit: Credit) -> None:
    groups = [
        ([episode(True, False), episode(False, False)], [1.0, 0.0]),
        ([episode(True, True, False), episode(), episode(True)], [1.0, None, -0.5]),
    ]
    together = call_advantages(groups, estimator=estimator, credit=credit)
    assert together == [call_advantages([group], estimator=estimator, credit=credit)[0] for group in groups]


def test_threads_below_a_child_share_its_advantage() -> None:
    group = [episode(True, False, nested=True), episode(False)]
    ((first, _),) = call_advantages([(group, [1.0, 0.0])], estimator="group_mean", credit="child")
    by_thread = dict(zip((call.thread for call in group[0].calls), first, strict=True))
    nested = next(thread.index for thread in group[0].threads if thread.depth == 2)
    # Contributions 1, 0 and 0: mean 1/3.
    assert by_thread[nested] == pytest.approx(2 / 3)


def test_an_ungraded_episode_gives_no_signal() -> None:
    group = [episode(True), episode(False), episode(True)]
    (found,) = call_advantages([(group, [None, 0.0, 1.0])], estimator="group_std", credit="child")
    assert found[0] == [0.0, 0.0, 0.0]
    assert found[2][1] > 0
