"""Discrete-event simulation of one reinforcement stage, with the controller's own `Admission`.

The loop is that of `rl.stages.reinforce`: admit, wait for the next B kept groups, learn, publish, and
validate meanwhile. Engines and learner are replaced by the time they take (`rl.simulation.plan.Rates`). Only
the choice of filtered groups is random, and that is seeded.
"""

import heapq
from collections.abc import Callable, Sequence
from enum import StrEnum
from random import Random
from typing import Any

from rl.controller.admission import Admission
from rl.simulation.engine import Job
from rl.simulation.plan import Crash, Fault, Plan
from rl.simulation.pool import SimulatedPool
from rl.simulation.report import Report, StepRow, make_report


class Phase(StrEnum):
    """What the controller waits for."""

    ROLLOUT = "rollout"
    LEARNER = "learner"
    PUBLISH = "publish"
    VALIDATION = "validation"
    DOWN = "down"


Keep = Callable[[int], bool]
"""Group -> whether it has signal (a group without is filtered out)."""
Watch = Callable[[StepRow], None]


def simulate(
    plan: Plan,
    *,
    faults: Sequence[Fault] = (),
    keep: Keep | None = None,
    watch: Watch = lambda row: None,
    admission: type[Admission] = Admission,
) -> Report:
    """Simulate the plan up to its last step.

    keep: replaces the plan's share of filtered groups. watch: called with every consumed batch, including
    those that a crash undoes. admission: for tests of a wrong one. Raises AssertionError on a deadlock.
    """
    return Simulation(plan, faults=faults, keep=keep, watch=watch, admission=admission).run()


class Simulation:
    """State of a simulated stage. Build and run it with `simulate`."""

    def __init__(
        self,
        plan: Plan,
        *,
        faults: Sequence[Fault],
        keep: Keep | None,
        watch: Watch,
        admission: type[Admission],
    ) -> None:
        random = Random(plan.seed)
        self._plan, self._watch, self._make_admission = plan, watch, admission
        self._has_signal: Keep = keep or (lambda group: random.random() >= plan.filtered_share)
        self._pool = SimulatedPool(plan)
        self._events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._scheduled = 0
        self._now = self._since = 0.0
        self._phase = Phase.ROLLOUT
        self._spent = dict.fromkeys(Phase, 0.0)
        self._crashes = 0
        """Number of crashes so far; events scheduled before the last one are void."""
        self._finished: dict[int, Job] = {}
        self._rows: list[StepRow] = []
        self._validating = 0
        """Validation groups that have not ended."""
        self._work_left = self._work_since = 0.0
        """Seconds of work left to the learner if it ran alone, and the time of that figure."""
        self._work_slowdown = 0.0
        """The learner's slowdown; 0 when its end is not scheduled."""
        self._work_stamp = 0
        self._saved = (0, 0)
        """(step, next group) of the last checkpoint."""
        self._admission = self._restored()
        for fault in faults:
            self._schedule(fault.at_s, self._on_fault, fault)

    def run(self) -> Report:
        """Simulate up to the last step."""
        self._admit()
        self._validate(0)
        self._proceed()
        while self._admission.step < self._plan.steps or self._phase is not Phase.ROLLOUT:
            assert self._events, f"deadlock before step {self._admission.step}, waiting for {self._phase}"
            self._now, _, handle, argument = heapq.heappop(self._events)
            handle(argument)
            self._proceed()
        self._enter(Phase.ROLLOUT)
        return make_report(
            self._rows,
            seconds=self._now,
            spent={phase.value: seconds for phase, seconds in self._spent.items()},
            engine_busy_s=self._pool.busy_s,
            engines=self._plan.engines,
        )

    def _restored(self) -> Admission:
        step, next_group = self._saved
        plan = self._plan
        return self._make_admission(
            groups_per_step=plan.groups_per_step,
            staleness=plan.staleness,
            total_steps=plan.steps,
            step=step,
            next_group=next_group,
        )

    def _schedule(self, at: float, handle: Callable[[Any], None], argument: Any) -> None:
        self._scheduled += 1
        heapq.heappush(self._events, (at, self._scheduled, handle, argument))

    def _enter(self, phase: Phase) -> None:
        self._spent[self._phase] += self._now - self._since
        self._phase, self._since = phase, self._now

    def _proceed(self) -> None:
        """Do everything that may happen now, then schedule the next events."""
        if self._phase is not Phase.DOWN:
            self._admit()
        if self._phase is Phase.ROLLOUT and self._admission.ready() is not None:
            self._consume()
        self._share_cores()
        for at, index, stamp in self._pool.next_events():
            self._schedule(at, self._on_engine, (index, stamp))

    def _admit(self) -> None:
        plan = self._plan
        while self._admission.admissible() is not None:
            group = self._admission.start()
            step = group // plan.groups_per_step
            self._pool.assign(Job(group, plan.workload.group(group, step, plan.steps)), self._now)

    def _consume(self) -> None:
        step, groups = self._admission.step, self._admission.consume()
        jobs = [self._finished.pop(group) for group in groups]
        row = StepRow(step=step, groups=tuple(groups), sampled=_lags(step, jobs))
        self._rows.append(row)
        self._watch(row)
        rates = self._plan.rates
        self._work_left = rates.learner_s + rates.learner_token_s * row.tokens
        self._work_slowdown = 0.0
        self._enter(Phase.LEARNER)

    def _share_cores(self) -> None:
        """Apply contention: engines slow the learner down and the other way round. Nothing has changed since
        the last event, so the time up to now passed at the old speed.
        """
        rates, learning = self._plan.rates, self._phase is Phase.LEARNER
        if rates.engine_contention != 1.0:
            self._pool.set_slowdown(rates.engine_contention if learning else 1.0, self._now)
        slowdown = rates.learner_contention if self._pool.num_busy else 1.0
        if learning and self._work_slowdown != slowdown:
            if self._work_slowdown:
                self._work_left -= (self._now - self._work_since) / self._work_slowdown
            self._work_since, self._work_slowdown = self._now, slowdown
            self._work_stamp += 1
            self._schedule(
                self._now + max(0.0, self._work_left) * slowdown, self._on_learned, self._work_stamp
            )

    def _on_engine(self, event: tuple[int, int]) -> None:
        finished = self._pool.pop_finished(*event, self._now)
        if not finished:
            return
        for job in finished:
            if job.group is None:
                self._validating -= 1
            else:
                kept = self._has_signal(job.group)
                self._admission.finish(job.group, kept=kept)
                if kept:
                    self._finished[job.group] = job
        if not self._validating and self._phase is Phase.VALIDATION:
            if self._admission.version < self._admission.step:
                self._publish()
            else:
                self._end_step()

    def _on_learned(self, stamp: int) -> None:
        if stamp != self._work_stamp:
            return
        if self._validating:
            self._enter(Phase.VALIDATION)
        else:
            self._publish()

    def _publish(self) -> None:
        self._enter(Phase.PUBLISH)
        self._schedule(self._now + self._plan.rates.publish_s, self._on_sent, self._crashes)

    def _on_sent(self, life: int) -> None:
        """All engines have the new weights."""
        if life != self._crashes:
            return
        self._pool.set_version(self._admission.step, self._now)
        self._end_publish()

    def _end_publish(self) -> None:
        plan, version = self._plan, self._admission.step
        self._admission.publish(version)
        self._admit()
        self._validate(version)
        if version == plan.steps and self._validating:
            self._enter(Phase.VALIDATION)
        else:
            self._end_step()

    def _validate(self, version: int) -> None:
        """Start a validation when one is due for these weights."""
        plan = self._plan
        if plan.validate_every and (version % plan.validate_every == 0 or version == plan.steps):
            self._validating += plan.validation_groups
            for number in range(plan.validation_groups):
                load = plan.workload.group(number, max(0, version - 1), plan.steps)
                self._pool.assign(Job(None, load), self._now)

    def _end_step(self) -> None:
        step = self._admission.step
        if step % self._plan.checkpoint_every == 0 or step == self._plan.steps:
            self._saved = (step, self._admission.first_open)
        self._enter(Phase.ROLLOUT)

    def _on_fault(self, fault: Fault) -> None:
        if isinstance(fault, Crash):
            self._crash(fault)
        elif self._pool.is_up(fault.engine):
            self._schedule(self._now + fault.down_s, self._on_engine_back, fault.engine)
            self._pool.kill(fault.engine, self._now, keeps=fault.keeps)

    def _on_engine_back(self, index: int) -> None:
        self._pool.restart(index, self._now)

    def _crash(self, fault: Crash) -> None:
        """Return to the last checkpoint: engines are empty and have its weights."""
        self._enter(Phase.DOWN)
        self._crashes += 1
        self._work_stamp += 1
        self._validating = 0
        self._finished.clear()
        del self._rows[self._saved[0] :]
        self._admission = self._restored()
        self._pool.reset(self._admission.version, self._now)
        self._schedule(self._now + fault.down_s, self._on_resumed, self._crashes)

    def _on_resumed(self, life: int) -> None:
        if life == self._crashes:
            self._enter(Phase.ROLLOUT)


def _lags(step: int, jobs: Sequence[Job]) -> dict[int, float]:
    """Staleness -> sampled tokens."""
    lags: dict[int, float] = {}
    for job in jobs:
        for version, tokens in job.versions.items():
            lags[step - version] = lags.get(step - version, 0.0) + tokens
    return lags
