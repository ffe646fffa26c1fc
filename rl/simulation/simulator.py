"""A discrete-event simulation of one reinforcement stage, around the controller's own `Admission`.

The loop is that of `rl.stages.reinforce`: admit, wait for the next B kept groups, learn, publish; and, beside
that, validate. Engines and learner are replaced by the time they take (`rl.simulation.plan.Rates`). Nothing
is random but which groups are filtered out, and that is seeded.
"""

import heapq
from collections.abc import Callable, Sequence
from enum import StrEnum
from random import Random
from typing import Any

from rl.controller.admission import Admission
from rl.simulation.engine import Job, SimulatedEngine
from rl.simulation.plan import Crash, EngineDeath, Fault, Plan
from rl.simulation.report import Report, StepRow, make_report


class Phase(StrEnum):
    """What the controller waits for."""

    ROLLOUT = "rollout"
    LEARNER = "learner"
    PUBLISH = "publish"
    VALIDATION = "validation"
    DOWN = "down"


Keep = Callable[[int], bool]
"""Whether a group that just finished has signal."""
Watch = Callable[[StepRow], None]


def simulate(
    plan: Plan,
    *,
    faults: Sequence[Fault] = (),
    keep: Keep | None = None,
    watch: Watch = lambda row: None,
    admission: type[Admission] = Admission,
) -> Report:
    """Runs the plan to its last step.

    `keep` replaces the plan's share of filtered groups; `watch` sees every consumed batch, those that a crash
    undoes too; `admission` is for tests of what a wrong one would do. Raises AssertionError when nothing can
    happen any more before the last step.
    """
    return Simulation(plan, faults=faults, keep=keep, watch=watch, admission=admission).run()


class Simulation:
    """State of a simulated stage; see `simulate`."""

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
        self._engines = [SimulatedEngine(plan.rates, plan.max_live_calls) for _ in range(plan.engines)]
        self._slots = [(0, index) for index in range(plan.engines)]
        """Heap of (groups at work, engine); entries that are out of date are skipped."""
        self._busy_engines = 0
        self._waiting: list[Job] = []
        """Groups for which no engine is up."""
        self._changed: set[int] = set()
        """Engines whose next event has to be announced anew."""
        self._events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._scheduled = 0
        self._now = self._since = 0.0
        self._phase = Phase.ROLLOUT
        self._spent = dict.fromkeys(Phase, 0.0)
        self._crashes = 0
        """Counts crashes: what was announced before one is void."""
        self._finished: dict[int, Job] = {}
        self._rows: list[StepRow] = []
        self._validating = 0
        """Groups of a validation that have not ended."""
        self._work_left = self._work_since = 0.0
        """Of the learner: seconds it would take with the cores to itself, as of when."""
        self._work_slowdown = 0.0
        """0 when its end has not been announced."""
        self._work_stamp = 0
        self._saved = (0, 0)
        """Step and next group of the last checkpoint."""
        self._admission = self._restored()
        for fault in faults:
            self._schedule(fault.at_s, self._on_fault, fault)

    def run(self) -> Report:
        """See `simulate`."""
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
            engine_busy_s=sum(engine.busy_s for engine in self._engines),
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
        """All that may happen at this moment; then say when the next things will."""
        if self._phase is not Phase.DOWN:
            self._admit()
        if self._phase is Phase.ROLLOUT and self._admission.ready() is not None:
            self._consume()
        self._share_cores()
        for index in self._changed:
            engine = self._engines[index]
            engine.stamp += 1
            at = engine.next_event()
            if at is not None:
                self._schedule(at, self._on_engine, (index, engine.stamp))
        self._changed.clear()

    def _admit(self) -> None:
        plan = self._plan
        while self._admission.admissible() is not None:
            group = self._admission.start()
            step = group // plan.groups_per_step
            self._assign(Job(group, plan.workload.group(group, step, plan.steps)))

    def _assign(self, job: Job) -> None:
        """To the engine with the fewest groups."""
        while self._slots:
            busy, index = heapq.heappop(self._slots)
            engine = self._engines[index]
            if engine.up and busy == engine.num_jobs:
                self._touch(index)
                self._busy_engines += not busy
                engine.add(job)
                heapq.heappush(self._slots, (engine.num_jobs, index))
                return
        self._waiting.append(job)

    def _touch(self, index: int) -> SimulatedEngine:
        """Before an engine is changed."""
        self._engines[index].advance(self._now)
        self._changed.add(index)
        return self._engines[index]

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
        """Engines slow the learner down, and the other way round; nothing else has changed since the last
        event, so what has been so far was so all along.
        """
        rates, learning = self._plan.rates, self._phase is Phase.LEARNER
        if rates.engine_contention != 1.0:
            slowdown = rates.engine_contention if learning else 1.0
            for index, engine in enumerate(self._engines):
                if engine.slowdown != slowdown:
                    self._touch(index).slowdown = slowdown
        slowdown = rates.learner_contention if self._busy_engines else 1.0
        if learning and self._work_slowdown != slowdown:
            if self._work_slowdown:
                self._work_left -= (self._now - self._work_since) / self._work_slowdown
            self._work_since, self._work_slowdown = self._now, slowdown
            self._work_stamp += 1
            self._schedule(
                self._now + max(0.0, self._work_left) * slowdown, self._on_learned, self._work_stamp
            )

    def _on_engine(self, event: tuple[int, int]) -> None:
        index, stamp = event
        if self._engines[index].stamp != stamp:
            return
        engine = self._touch(index)
        finished = engine.pop_finished()
        if not finished:
            return
        heapq.heappush(self._slots, (engine.num_jobs, index))
        self._busy_engines -= not engine.num_jobs
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
        """Engines have the new weights; one that is down comes back with them."""
        if life != self._crashes:
            return
        for index in range(self._plan.engines):
            self._touch(index).set_version(self._admission.step)
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
        """Begin to, if these weights are to be."""
        plan = self._plan
        if plan.validate_every and (version % plan.validate_every == 0 or version == plan.steps):
            self._validating += plan.validation_groups
            for number in range(plan.validation_groups):
                load = plan.workload.group(number, max(0, version - 1), plan.steps)
                self._assign(Job(None, load))

    def _end_step(self) -> None:
        step = self._admission.step
        if step % self._plan.checkpoint_every == 0 or step == self._plan.steps:
            self._saved = (step, self._admission.first_open)
        self._enter(Phase.ROLLOUT)

    def _on_fault(self, fault: Fault) -> None:
        if isinstance(fault, Crash):
            self._crash(fault)
        elif self._engines[fault.engine].up:
            self._end_engine(fault)

    def _end_engine(self, fault: EngineDeath) -> None:
        engine = self._touch(fault.engine)
        self._busy_engines -= bool(engine.num_jobs)
        jobs = engine.die(keeps=fault.keeps)
        engine.up = False
        self._schedule(self._now + fault.down_s, self._on_engine_back, fault.engine)
        for job in jobs:
            self._assign(job)

    def _on_engine_back(self, index: int) -> None:
        self._engines[index].up = True
        heapq.heappush(self._slots, (0, index))
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            self._assign(job)

    def _crash(self, fault: Crash) -> None:
        """All that was not saved is gone; engines come back empty, with the saved weights."""
        self._enter(Phase.DOWN)
        self._crashes += 1
        self._work_stamp += 1
        self._busy_engines = self._validating = 0
        self._waiting.clear()
        self._finished.clear()
        del self._rows[self._saved[0] :]
        self._admission = self._restored()
        for index in range(self._plan.engines):
            engine = self._touch(index)
            engine.die(keeps=False)
            engine.set_version(self._admission.version)
            heapq.heappush(self._slots, (0, index))
        self._schedule(self._now + fault.down_s, self._on_resumed, self._crashes)

    def _on_resumed(self, life: int) -> None:
        if life == self._crashes:
            self._enter(Phase.ROLLOUT)


def _lags(step: int, jobs: Sequence[Job]) -> dict[int, float]:
    """Tokens by staleness."""
    lags: dict[int, float] = {}
    for job in jobs:
        for version, tokens in job.versions.items():
            lags[step - version] = lags.get(step - version, 0.0) + tokens
    return lags
