"""Runs every admitted group from its prompt to a scored group, filters, and hands out batches in order.

A group is decided (kept or filtered out) once the schedule factors of its rewards are certain, that is once
all steps that may still train it (`Admission.steps_of`) have the same factors. So the order in which groups
finish decides neither which of them are trained nor with what rewards.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from data.episodes.probe_plan import ProbePlan
from data.ledger.ledger import Ledger
from data.tasks.problem import Problem
from data.tasks.sampler import ProblemSampler
from rewards.compose import RewardConfig, factors_at
from rl.config.stages import RlStage
from rl.controller.admission import Admission
from rl.controller.rollouts import PromptOf, group_specs
from rl.controller.seams import Engines, Rewards
from rl.scored_group import ScoredGroup
from rollout.protocols import AnyParams


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupSource:
    """Inputs from which a stage's groups are made."""

    params: AnyParams
    problems: Sequence[Problem]
    prompt_of: PromptOf
    terms: Sequence[RewardConfig]
    sampler: ProblemSampler
    seed: int
    """Run seed of the episodes."""
    probes: ProbePlan | None = None
    """Answers that the terms have forced out of every episode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupCounts:
    """Where the groups of the next batch are."""

    sampling: int
    scoring: int
    kept: int
    """Groups kept and not yet trained."""
    filtered: int
    """Groups filtered out since the last batch."""


class GroupRunner:
    """Tasks of all running groups, and the groups that wait for a decision or for their step."""

    def __init__(
        self,
        stage: RlStage,
        source: GroupSource,
        admission: Admission,
        engines: Engines,
        rewards: Rewards,
        ledger: Ledger,
        on_settled: Callable[[ScoredGroup, bool], None] = lambda group, signal: None,
    ) -> None:
        """`on_settled` is called with every decided group, in the order of their indices, and whether it has
        signal; an exception from it ends the stage.
        """
        self._stage, self._source, self._admission = stage, source, admission
        self._engines, self._rewards, self._ledger = engines, rewards, ledger
        self._on_settled = on_settled
        self._scored: dict[int, ScoredGroup] = {}
        """Scored and undecided; schedule factors are not applied."""
        self._kept: dict[int, ScoredGroup] = {}
        """Kept for their step; schedule factors are not applied."""
        self._unsettled: dict[int, tuple[ScoredGroup, bool]] = {}
        """Decided, and not yet reported because a group before them is undecided."""
        self._next_settled = admission.next_group
        self._tasks: set[asyncio.Task[None]] = set()
        self._scoring = 0
        """Running groups that are past sampling."""
        self._filtered = 0
        self._changed = asyncio.Event()

    @property
    def counts(self) -> GroupCounts:
        """Groups by state, for the progress line."""
        return GroupCounts(
            sampling=self._admission.num_running - self._scoring - len(self._scored),
            scoring=self._scoring,
            kept=len(self._kept),
            filtered=self._filtered,
        )

    def admit(self) -> None:
        """Start every group that may start."""
        while self._admission.admissible() is not None:
            task = asyncio.create_task(self._run(self._admission.start()))
            self._tasks.add(task)
            task.add_done_callback(lambda _: self._changed.set())

    async def wait_for_batch(self) -> float:
        """Wait until the groups of the next step are kept. -> seconds in which all running groups were being
        scored. Raises the error of a group that failed.
        """
        scoring_s = 0.0
        while self._admission.ready() is None:
            self.admit()
            self._changed.clear()
            only_scoring = 0 < self._scoring == len(self._tasks)
            began = time.monotonic()
            await self._changed.wait()
            scoring_s += time.monotonic() - began if only_scoring else 0.0
            self._raise_failures()
        return scoring_s

    def take_batch(self) -> tuple[list[ScoredGroup], int]:
        """Consume the ready batch. -> (its groups with the rewards of its step, groups filtered out since the
        last batch).
        """
        factors = factors_at(self._source.terms, self._admission.step)
        groups = [self._kept.pop(index).with_schedule(factors) for index in self._admission.consume()]
        filtered, self._filtered = self._filtered, 0
        return groups, filtered

    async def cancel(self) -> None:
        """Cancel all running groups."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, group_index: int) -> None:
        stage, source = self._stage, self._source
        problem = source.problems[source.sampler.problem_at(group_index)]
        specs = group_specs(
            problem,
            source.prompt_of(problem),
            group_index=group_index,
            samples=stage.samples_per_group,
            temperature=stage.temperature,
            seed=source.seed,
            probes=source.probes,
        )
        self._ledger.start(stage.name, group_index, problem.id, version=self._admission.version)
        began = time.monotonic()
        episodes, reference = await self._engines.run_group(
            source.params, specs, partial(self._on_move, group_index)
        )
        sampled = time.monotonic()
        self._scoring += 1
        self._changed.set()
        try:
            scores = await self._rewards.score(problem, episodes, reference)
        finally:
            self._scoring -= 1
        self._ledger.finish(
            stage.name, group_index, episodes, scores,
            engine=None, rollout_s=sampled - began, reward_s=time.monotonic() - sampled,
        )  # fmt: skip
        self._scored[group_index] = ScoredGroup(
            index=group_index, problem_id=problem.id, episodes=tuple(episodes), scores=tuple(scores)
        )
        self._decide()

    def _on_move(self, group_index: int, engine: str) -> None:
        version = self._admission.version
        self._ledger.restart(self._stage.name, group_index, version=version, engine=engine, why="actor died")

    def _decide(self) -> None:
        """Keep or filter out the scored groups whose schedule factors are certain. In order: each decision
        narrows the steps that may train the groups behind it.
        """
        for group_index in sorted(self._scored):
            factors, *others = (
                factors_at(self._source.terms, step) for step in self._admission.steps_of(group_index)
            )
            certain = all(other == factors for other in others)
            if self._stage.drop_zero_variance and not certain:
                continue
            group = self._scored.pop(group_index)
            as_trained = group.with_schedule(factors)
            signal = as_trained.has_signal(self._stage.algorithm)
            kept = signal or not self._stage.drop_zero_variance
            self._admission.finish(group_index, kept=kept)
            if kept:
                self._kept[group_index] = group
            else:
                self._filtered += 1
                self._ledger.filtered(self._stage.name, group_index)
            self._settle(as_trained, signal)
        # A filtered group gives up its position in the batch.
        self.admit()

    def _settle(self, group: ScoredGroup, signal: bool) -> None:
        """Report decided groups in the order of their indices."""
        self._unsettled[group.index] = group, signal
        while self._next_settled in self._unsettled:
            settled = self._unsettled.pop(self._next_settled)
            self._next_settled += 1
            self._on_settled(*settled)

    def _raise_failures(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()
