"""The staleness bound, the order and the end of every run, whatever happens when: random schedules with
filters, dying engines and crashes, through the simulator that drives the controller's own `Admission`.
"""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.controller.admission import Admission, GroupState
from rl.simulation.load import GroupLoad, Piece
from rl.simulation.plan import Crash, EngineDeath, Fault, Plan, Rates, Workload
from rl.simulation.report import StepRow
from rl.simulation.simulator import simulate

CASES = 10_000
"""Simulated schedules in the long version: what the project promises."""


class Books:
    """What was consumed and filtered out, as restored weights know it; checks every batch as it comes."""

    def __init__(self, plan: Plan, random: Random, signal: float) -> None:
        self._plan, self._random, self._signal = plan, random, signal
        self.trained: list[tuple[int, ...]] = []
        self.filtered: set[int] = set()
        self.undone = 0

    def keep(self, group: int) -> bool:
        """A run of the group has ended. Another run of it, after a crash, may turn out otherwise."""
        kept = self._random.random() < self._signal
        (self.filtered.discard if kept else self.filtered.add)(group)
        return kept

    def consume(self, row: StepRow) -> None:
        """At most as far behind as S, and the groups that come next."""
        oldest = max(row.sampled, default=0)
        assert oldest <= self._plan.staleness, f"a token of step {row.step} is older than S: {oldest}"
        assert min(row.sampled, default=0) >= 0, "sampled by weights of the future"
        self.undone += len(self.trained) - row.step
        del self.trained[row.step :]
        assert len(self.trained) == row.step and len(row.groups) == self._plan.groups_per_step
        self.trained.append(row.groups)

    def close(self) -> None:
        """Each step once, in the sampler's order, every group either trained once or filtered out."""
        order = [group for groups in self.trained for group in groups]
        assert len(order) == self._plan.steps * self._plan.groups_per_step
        assert order == sorted(set(order)), f"out of order, or twice: {order}"
        lost = set(range(order[-1])) - set(order) - self.filtered
        assert not lost, f"lost: {lost}"
        assert not set(order) & self.filtered


def random_load(random: Random) -> GroupLoad:
    """A few calls, each of which waits for some of those before it."""
    pieces: list[Piece] = []
    for index in range(random.choice((1, 1, 2, 5))):
        after = tuple(other for other in range(index) if random.random() < 0.5)
        tokens = random.choice((1, 2, 10, random.expovariate(0.02)))
        pieces.append(Piece(tokens + random.choice((0, 1)), 1, tokens, after))
    return GroupLoad(tuple(pieces))


def random_faults(random: Random, engines: int, number: int, until: float) -> list[Fault]:
    """Any number at any time, at the same time too."""
    faults: list[Fault] = []
    for _ in range(number):
        at, down = random.choice((0.0, random.random(), 0.5)) * until, random.choice((0.0, 1.0, 50.0))
        if random.random() < 0.3:
            faults.append(Crash(at_s=at, down_s=down))
        else:
            engine, keeps = random.randrange(engines), random.random() < 0.5
            faults.append(EngineDeath(at_s=at, engine=engine, down_s=down, keeps=keeps))
    return faults


def random_plan(random: Random) -> Plan:
    """All durations from nothing to much longer than everything else."""
    return Plan(
        rates=Rates(
            step_s=random.choice((0.1, 1.0)),
            call_s=random.choice((0.0, 0.3)),
            learner_s=random.choice((0.0, 3.0, 100.0)),
            learner_token_s=random.choice((0.0, 0.1)),
            publish_s=random.choice((0.0, 5.0, 80.0)),
            engine_contention=random.choice((1.0, 1.7)),
            learner_contention=random.choice((1.0, 1.4)),
        ),
        workload=Workload(parts=(tuple(random_load(random) for _ in range(7)),)),
        steps=random.randint(1, 7),
        groups_per_step=random.randint(1, 4),
        staleness=random.randint(0, 3),
        engines=random.randint(1, 3),
        max_live_calls=random.choice((1, 2, 64)),
        validate_every=random.choice((0, 2)),
        validation_groups=random.randint(0, 2),
        checkpoint_every=random.randint(1, 4),
    )


def check_schedule(
    seed: int, signal: float, number_of_faults: int, admission: type[Admission] = Admission
) -> Books:
    random = Random(seed)
    plan = random_plan(random)
    books = Books(plan, random, signal)
    faults = random_faults(random, plan.engines, number_of_faults, until=200.0 * plan.steps)
    simulate(plan, faults=faults, keep=books.keep, watch=books.consume, admission=admission)
    books.close()
    return books


GIVEN = given(
    seed=st.integers(0, 2**32), signal=st.sampled_from([1.0, 0.7, 0.3]), number_of_faults=st.integers(0, 6)
)


@settings(max_examples=300, deadline=None)
@GIVEN
def test_any_schedule_obeys_the_bound_keeps_the_order_and_ends(
    seed: int, signal: float, number_of_faults: int
) -> None:
    check_schedule(seed, signal, number_of_faults)


@pytest.mark.medium
@settings(max_examples=CASES, deadline=None)
@GIVEN
def test_any_schedule_again_with_many_more_cases(seed: int, signal: float, number_of_faults: int) -> None:
    check_schedule(seed, signal, number_of_faults)


def test_schedules_are_as_wild_as_they_should_be() -> None:
    """Among some hundred: crashes undo steps, groups are filtered out, tokens are as old as they may be."""
    books = [check_schedule(seed, 0.7, 4) for seed in range(200)]
    assert sum(book.undone > 0 for book in books) > 20
    assert sum(bool(book.filtered) for book in books) > 100


class OneTooMany(Admission):
    """Lets groups start one step too early."""

    def admissible(self) -> int | None:
        self._staleness += 1
        try:
            return super().admissible()
        finally:
            self._staleness -= 1


class FilteredStillCount(Admission):
    """Groups that were filtered out do not give up their positions."""

    def finish(self, group: int, *, kept: bool) -> None:
        super().finish(group, kept=kept)
        self._num_kept += not kept


class AsTheyCome(Admission):
    """Takes whatever has finished, over the heads of what still runs."""

    def ready(self) -> list[int] | None:
        finished = [group for group, state in self._groups.items() if state is GroupState.KEPT]
        return finished[: self._per_step] if len(finished) >= self._per_step else None

    def consume(self) -> list[int]:
        batch = self.ready()
        assert batch is not None
        for group in batch:
            del self._groups[group]
        self._num_kept -= len(batch)
        self.step += 1
        return batch


class SkipsOne(Admission):
    """Resumes behind the first group that it should run again."""

    def __init__(self, *, step: int, next_group: int, **settings: int) -> None:
        super().__init__(step=step, next_group=next_group + (step > 0), **settings)


class RepeatsOne(Admission):
    """Resumes at the last group that was trained."""

    def __init__(self, *, step: int, next_group: int, **settings: int) -> None:
        super().__init__(step=step, next_group=next_group - (step > 0), **settings)


@pytest.mark.parametrize(
    ("admission", "found"),
    [
        (OneTooMany, "is older than"),
        (FilteredStillCount, "deadlock"),
        (AsTheyCome, "out of order"),
        (SkipsOne, "lost"),
        (RepeatsOne, "out of order"),
    ],
)
def test_a_wrong_admission_is_caught(admission: type[Admission], found: str) -> None:
    """By the check that is meant for it, in some schedule: in another it may break something else first, as
    groups that were passed over grow too old.
    """
    for seed in range(300):
        try:
            check_schedule(seed, 0.7, 4, admission)
        except AssertionError as error:
            if found in str(error):
                return
    pytest.fail(f"never {found!r}")
