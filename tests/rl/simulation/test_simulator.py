"""Simulated time, with every moment worked out by hand. Decode steps take whole seconds, a publish two."""

import pytest

from rl.simulation.load import GroupLoad, Piece, coarse, load_of_episodes, load_of_lengths
from rl.simulation.plan import Crash, EngineDeath, Plan, Rates, Workload
from rl.simulation.report import StepRow
from rl.simulation.simulator import simulate

TEN = GroupLoad((Piece(10, 1, 10),))
"""One call of ten tokens."""
FORK = GroupLoad((Piece(5, 1, 5), Piece(3, 1, 3, (0,)), Piece(7, 1, 7, (0,)), Piece(2, 1, 2, (1, 2))))
"""A parent of five tokens, children of three and seven, and two tokens after the join."""


def plan(load: GroupLoad = TEN, *, call_s: float = 0.0, learner_s: float = 4.0, **given: object) -> Plan:
    contention = {name: given.pop(name) for name in [*given] if name.endswith("contention")}
    rates = Rates(
        step_s=1.0, call_s=call_s, learner_s=learner_s, learner_token_s=0.0, publish_s=2.0, **contention
    )
    values = {"steps": 2, "groups_per_step": 1, "staleness": 0, "workload": Workload(parts=((load,),))}
    return Plan(rates=rates, **(values | given))


def test_synchronous() -> None:
    """Rollout 0-10, learner -14, publish -16; and once more."""
    report = simulate(plan())
    assert report.seconds == 32
    assert report.steps_per_hour == 225
    assert report.tokens == 20 and report.tokens_per_s == pytest.approx(20 / 32)
    assert report.staleness == {0: 1.0}
    assert report.waits == pytest.approx(
        {"rollout": 20 / 32, "learner": 8 / 32, "publish": 4 / 32, "validation": 0, "down": 0}
    )
    # While weights are published neither works.
    assert report.engine_idle == pytest.approx(12 / 32) and report.learner_idle == pytest.approx(24 / 32)
    assert report.waits_for == "rollout"


def test_one_step_ahead() -> None:
    """Groups 0 and 1 run 0-10. Learner -14, publish -16, and group 1 is there: -20, -22.

    Group 2 runs 16-26, since version 1 is published at 16. Its engine works on while version 2 is published
    and gets it at the end, at 22: six of its tokens are one step old when step 2 trains them, four are none.
    26-30, -32. The engine has worked 0-10 and 16-26.
    """
    report = simulate(plan(steps=3, staleness=1))
    assert report.seconds == 32
    assert report.staleness == pytest.approx({0: (10 + 4) / 30, 1: (10 + 6) / 30})
    assert report.mean_staleness == pytest.approx(16 / 30)
    assert report.engine_idle == pytest.approx(12 / 32)


def test_two_groups_share_an_engine_or_have_one_each() -> None:
    """A decode step of n calls takes 1 + n seconds: two groups of ten tokens end at 30 on one engine, at 20
    on two. The learner's 4 and a publish of 2 follow.
    """
    both = {"call_s": 1.0, "steps": 1, "groups_per_step": 2}
    assert simulate(plan(**both)).seconds == 30 + 4 + 2
    assert simulate(plan(**both, engines=2)).seconds == 20 + 4 + 2


def test_forks_joins_and_a_full_engine() -> None:
    """Steps of 2 s alone, 3 s for two: 5 * 2 + 3 * 3 + 4 * 2 + 2 * 2 = 31. With one slot the children take
    turns: (5 + 3 + 7 + 2) * 2 = 34.
    """
    assert simulate(plan(FORK, call_s=1.0, steps=1)).seconds == 31 + 4 + 2
    assert simulate(plan(FORK, call_s=1.0, steps=1, max_live_calls=1)).seconds == 34 + 4 + 2


def test_first_come_first_served() -> None:
    """Two groups, two slots. At 5 both fork; group 0's children take both slots (5-8, 5-12), group 1's wait:
    3 tokens 8-11, 7 tokens 11-18. Group 0 joins behind them at 12-14, group 1 at 18-20.
    """
    rows: list[StepRow] = []
    report = simulate(plan(FORK, steps=1, groups_per_step=2, max_live_calls=2), watch=rows.append)
    assert report.seconds == 20 + 4 + 2
    assert rows == [StepRow(step=0, groups=(0, 1), sampled={0: 34.0})]


def test_shared_cores() -> None:
    """S = 1, both twice as slow together. Groups 0 and 1 end at 10. Learner alone: 10-14, publish -16.

    Group 2 starts at 16 beside the learner's second step: 4 s of work take 8, to 24, in which the engine made
    4 of 10 tokens. The other 6 alone, 24-30, since a publish (24-26) slows nobody down. Learner -34, publish
    -36.
    """
    report = simulate(plan(steps=3, staleness=1, engine_contention=2.0, learner_contention=2.0))
    assert report.seconds == 36


def test_validation() -> None:
    """Two groups' worth of ten tokens beside group 0, 0-10, and beside group 1, 16-26: nobody waits for them.
    Only the last one comes alone, 32-42.
    """
    report = simulate(plan(validate_every=1, validation_groups=2))
    assert report.seconds == 42
    assert report.waits["validation"] == pytest.approx(10 / 42)
    assert report.waits["rollout"] == pytest.approx(20 / 42)


def test_weights_stay_until_they_are_validated() -> None:
    """One slot: group 0 at 0-10, the validation's two at 10-30. The learner is ready at 14 and has to wait.
    Publish -32, the last validation -52.
    """
    report = simulate(plan(steps=1, validate_every=1, validation_groups=2, max_live_calls=1))
    assert report.seconds == 52
    assert report.waits["validation"] == pytest.approx((16 + 20) / 52)


def test_filtered_groups_are_replaced_at_once() -> None:
    """Group 0 has no signal: group 1 runs 10-20 in its place, and everything is ten seconds later."""
    rows: list[StepRow] = []
    report = simulate(plan(), keep=lambda group: group > 0, watch=rows.append)
    assert report.seconds == 42
    assert [row.groups for row in rows] == [(1,), (2,)]


@pytest.mark.parametrize(("keeps", "seconds"), [(True, 14), (False, 20)])
def test_an_engine_dies(keeps: bool, seconds: int) -> None:
    """At 6, back at 10; nobody else could take the group. What it had sampled is kept or lost."""
    death = EngineDeath(at_s=6, engine=0, down_s=4, keeps=keeps)
    assert simulate(plan(steps=1), faults=[death]).seconds == seconds + 4 + 2


def test_tokens_of_a_dead_engine_keep_their_versions() -> None:
    """S = 1: group 2 starts at 16 with version 1. Its engine dies at 18 with two tokens made, and is back at
    24, when version 2 has been there for 2 s: eight tokens of it.
    """
    rows: list[StepRow] = []
    death = EngineDeath(at_s=18, engine=0, down_s=6, keeps=True)
    simulate(plan(steps=3, staleness=1), faults=[death], watch=rows.append)
    assert rows[2].sampled == pytest.approx({1: 2.0, 0: 8.0})


def test_a_crash_goes_back_to_the_checkpoint() -> None:
    """Steps of 16 s, a checkpoint each two. At 40, eight seconds into step 2, all is lost but steps 0 and 1;
    5 s later step 2 begins anew and ends at 61. At 76 again: step 3 is being published, until 77, but step 2
    was not saved: 81, 97, 113.
    """
    rows: list[StepRow] = []
    crashes = [Crash(at_s=40, down_s=5), Crash(at_s=76, down_s=5)]
    report = simulate(plan(steps=4, checkpoint_every=2), faults=crashes, watch=rows.append)
    assert report.seconds == 113
    assert report.waits["down"] == pytest.approx(10 / 113)
    assert [(row.step, row.groups) for row in rows] == [
        *((0, (0,)), (1, (1,)), (2, (2,)), (3, (3,))),
        *((2, (2,)), (3, (3,))),
    ]
    assert report.tokens == 40


def test_loads() -> None:
    """By lengths, 30 tokens with a critical path of 10 hold three slots. Coarse: FORK's clock is 14 long, two
    pieces of 7: 5 + 2 * 2 = 9 slot-steps, then 1 + 5 + 2 = 8.
    """
    assert load_of_lengths([(30, 10)]) == GroupLoad((Piece(10, 3, 30),))
    wide, narrow = (coarse(FORK, most_slots=most, pieces=2).pieces for most in (64, 1))
    assert [piece.tokens for piece in wide] == [piece.tokens for piece in narrow] == pytest.approx([9, 8])
    assert [(piece.ticks, piece.slots * 7) for piece in wide] == [
        (7, pytest.approx(9)),
        (7, pytest.approx(8)),
    ]
    assert [(piece.ticks, piece.slots) for piece in narrow] == [(pytest.approx(9), 1), (pytest.approx(8), 1)]
    assert [piece.after for piece in wide] == [(), (0,)]
    assert load_of_episodes([]) == GroupLoad((Piece(1, 1, 0),))
