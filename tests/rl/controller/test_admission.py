"""The admission rule, against any order of events."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.controller.admission import Admission


def test_synchronous_admits_exactly_one_batch_then_waits_for_the_publish() -> None:
    admission = Admission(groups_per_step=2, staleness=0, total_steps=2)
    assert [admission.start(), admission.start()] == [0, 1]
    assert admission.admissible() is None  # group 2 belongs to step 1 and needs version 1
    admission.finish(1, kept=True)
    assert admission.ready() is None
    admission.finish(0, kept=True)
    assert admission.consume() == [0, 1]
    assert admission.admissible() is None
    admission.publish(1)
    assert admission.admissible() == 2


def test_staleness_one_runs_one_batch_ahead() -> None:
    admission = Admission(groups_per_step=2, staleness=1, total_steps=3)
    started = [admission.start() for _ in range(4)]  # positions 0..3: steps 0 and 1, allowed at version 0
    assert started == [0, 1, 2, 3]
    assert admission.admissible() is None  # position 4 is step 2: needs version 1


def test_a_filtered_group_gives_up_its_position() -> None:
    admission = Admission(groups_per_step=2, staleness=0, total_steps=1)
    admission.start(), admission.start()
    admission.finish(0, kept=False)
    assert admission.start() == 2  # the place of group 0 in step 0 is free again
    admission.finish(1, kept=True)
    admission.finish(2, kept=True)
    assert admission.consume() == [1, 2]


def test_a_resume_runs_again_what_was_filtered_since_the_last_batch() -> None:
    """Its step has not been, so neither has the line that counts it."""
    admission = Admission(groups_per_step=1, staleness=1, total_steps=4)
    admission.start(), admission.start()
    admission.finish(1, kept=False)
    admission.finish(0, kept=True)
    assert admission.consume() == [0]
    assert admission.start() == 2
    assert admission.first_open == 1


def test_nothing_starts_for_steps_beyond_the_last() -> None:
    admission = Admission(groups_per_step=1, staleness=5, total_steps=2)
    assert [admission.start(), admission.start()] == [0, 1]
    assert admission.admissible() is None


@pytest.mark.medium
@settings(max_examples=300, deadline=None)
@given(
    per_step=st.integers(1, 4),
    staleness=st.integers(0, 3),
    total_steps=st.integers(1, 5),
    data=st.data(),
)
def test_every_schedule_obeys_the_bound_keeps_the_order_and_ends(
    per_step: int, staleness: int, total_steps: int, data: st.DataObject
) -> None:
    """Events in any order: the bound holds, order is kept, nothing is lost, no deadlock."""
    admission = Admission(groups_per_step=per_step, staleness=staleness, total_steps=total_steps)
    started_at: dict[int, int] = {}
    running: list[int] = []
    kept: list[int] = []
    filtered: set[int] = set()
    consumed: list[int] = []
    unpublished: list[int] = []
    while len(consumed) < per_step * total_steps:
        moves = []
        if admission.admissible() is not None:
            moves.append("start")
        if running:
            moves.append("finish")
        if admission.ready() is not None and not unpublished:
            moves.append("consume")
        if unpublished:
            moves.append("publish")
        assert moves, "deadlock"
        move = data.draw(st.sampled_from(moves))
        if move == "start":
            group = admission.start()
            started_at[group] = admission.version
            running.append(group)
        elif move == "finish":
            group = running.pop(data.draw(st.integers(0, len(running) - 1)))
            keep = len(filtered) > 20 or data.draw(st.booleans())
            admission.finish(group, kept=keep)
            kept.append(group) if keep else filtered.add(group)
        elif move == "consume":
            step = admission.step
            for group in admission.consume():
                assert started_at[group] >= step - staleness
                consumed.append(group)
            unpublished.append(step + 1)
        else:
            admission.publish(unpublished.pop())
    assert consumed == sorted(set(consumed))
    assert not set(consumed) & filtered
    assert consumed == sorted(kept)[: len(consumed)]
    assert set(range(consumed[-1] + 1)) <= set(consumed) | filtered
