"""Credit across parent and children, with numbers worked out by hand."""

import pytest
from protocol_lab import build, drive, scripted

from data.trajectory import Episode
from rl.advantages.credit import call_advantages, child_contributions


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
    group = [episode(True, False), episode(False, False)]
    found = call_advantages(group, [1.0, 0.0], scale="none", credit="child")
    # Root: 1 - 0.5. Children: contributions 1, 0, 0, 0 with mean 0.25.
    assert found == [[0.5, 0.75, -0.25, 0.5], [-0.5, -0.25, -0.25, -0.5]]
    assert call_advantages(group, [1.0, 0.0], scale="none", credit="broadcast") == [[0.5] * 4, [-0.5] * 4]


def test_threads_below_a_child_share_its_advantage() -> None:
    group = [episode(True, False, nested=True), episode(False)]
    (first, _) = call_advantages(group, [1.0, 0.0], scale="none", credit="child")
    by_thread = dict(zip((call.thread for call in group[0].calls), first, strict=True))
    nested = next(thread.index for thread in group[0].threads if thread.depth == 2)
    # Contributions 1, 0 and 0: mean 1/3.
    assert by_thread[nested] == pytest.approx(2 / 3)


def test_an_ungraded_episode_gives_no_signal() -> None:
    group = [episode(True), episode(False), episode(True)]
    found = call_advantages(group, [None, 0.0, 1.0], scale="std", credit="child")
    assert found[0] == [0.0, 0.0, 0.0]
    assert found[2][1] > 0
