"""Monte-Carlo labels: the engines complete recorded episodes behind their steps, the verifier grades.

The context of a completion is the recorded ids, so that all completions of a step, and all steps of a call,
share their prefix in the engine's cache. Seeds depend on the episode and the step alone.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from data.episodes.trajectory import Episode
from data.steps.step import StepKind
from data.tasks.base import Task
from data.tasks.problem import Problem
from data.text.prompt import Prompt
from rewards.verifiers.verdict import Judge, Verdict
from rl.config.labels import JudgeLabels, MonteCarloLabels
from rl.controller.seams import EpisodeRunner, EpisodesReference
from rl.imitation.progress import ActivityLines
from rl.scorers.completion_file import Completed, CompletionFile
from rl.scorers.label_file import LabelRow, with_labels
from rl.scorers.monte_carlo import Estimate, Outcomes, first_lost, label_of, searched_labels, value
from rollout.given_calls import GivenCall, given_calls, sampled_calls
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec

LIVE_COMPLETIONS = 1024
"""Completions that are given to the engines at once; they have their own limits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """An episode whose steps are to be labelled, with the rows of its calls."""

    problem: Problem
    episode: Episode
    rows: Sequence[LabelRow]


class StepCompleter:
    """Completes and grades; what the file holds is not done again."""

    def __init__(
        self,
        by: MonteCarloLabels | JudgeLabels,
        file: CompletionFile,
        *,
        engines: EpisodeRunner,
        protocol: AnyParams,
        task: Task,
        judge: Judge,
        kind: StepKind,
        seed: int,
        activity: ActivityLines,
    ) -> None:
        """`engines` have the weights that complete; `judge` is asked in a thread of its own, one group at a
        time.
        """
        self._by, self._file, self._engines, self._protocol = by, file, engines, protocol
        self._estimate: Estimate = by.estimate if isinstance(by, MonteCarloLabels) else "soft"
        self._searches = isinstance(by, MonteCarloLabels) and by.search == "binary"
        self._task, self._judge, self._kind, self._seed = task, judge, kind, seed
        self._activity = activity
        self._room = asyncio.Semaphore(max(1, LIVE_COMPLETIONS // by.completions))
        self._grading = ThreadPoolExecutor(1)
        self.done = 0
        """Steps that have been completed, also by an earlier start."""

    async def label(self, recorded: Sequence[Recorded]) -> list[LabelRow]:
        """All rows with their labels, in order. Raises what the engines raise, after cancelling the rest."""
        tasks = [asyncio.create_task(self.label_row(each, row)) for each in recorded for row in each.rows]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._grading.shutdown()

    async def label_row(self, recorded: Recorded, row: LabelRow) -> LabelRow:
        """The row with its labels."""
        count = len(row.steps) - row.cut_off
        if self._searches:
            return await self._searched(recorded, row, count)
        outcomes = await asyncio.gather(*(self._outcomes(recorded, row, place) for place in range(count)))
        labels = [label_of(each, self._estimate) for each in outcomes]
        return labelled(row, labels, outcomes)

    async def _searched(self, recorded: Recorded, row: LabelRow, count: int) -> LabelRow:
        """A recorded right answer completes every step of its episode: there nothing was lost."""
        probed: list[Outcomes | None] = [None] * count

        async def probe(place: int) -> float | None:
            probed[place] = found = await self._outcomes(recorded, row, place)
            return value(found)

        lost = await first_lost(0 if row.answer_correct else count, probe)
        return labelled(row, searched_labels(count, lost, probed, self._estimate), probed)

    async def _outcomes(self, recorded: Recorded, row: LabelRow, place: int) -> Outcomes:
        stop = row.stops[place]
        known = self._file.get(row.id, stop)
        if known is None:
            async with self._room:
                known = await self.complete(recorded, row, stop)
            self._file.append(known)
        self.count(1)
        return known.outcomes

    def count(self, steps: int) -> None:
        """Counts steps that are completed, and shows how many now and then."""
        self.done += steps
        self._activity.update("completing steps", self.done)
        self._activity.show_when_due()

    async def complete(self, recorded: Recorded, row: LabelRow, stop: int) -> Completed:
        """The graded completions behind the step that ends at output token `stop`."""
        whole = self._kind in (StepKind.CALL, StepKind.THREAD)
        given = given_calls(recorded.episode, row.call, None if whole else stop)
        prompt = self._task.prompt(recorded.problem)
        episodes, _ = await self.sample(recorded.problem, row, stop, prompt, given)
        verdicts = await asyncio.get_running_loop().run_in_executor(
            self._grading,
            lambda: [each.verdict for each in self._judge.judge_all(recorded.problem, episodes)],
        )
        outcomes = tuple(verdict is Verdict.CORRECT for verdict in verdicts if verdict is not None)
        return counted(row.id, stop, outcomes, episodes, given)

    async def sample(
        self, problem: Problem, row: LabelRow, stop: int, prompt: Prompt, given: tuple[GivenCall, ...] = ()
    ) -> tuple[list[Episode], EpisodesReference]:
        """The episodes about one step, with seeds of their own, and their handle."""
        specs = [
            EpisodeSpec(
                id=f"{row.id}/{stop}/{number}",
                problem_id=problem.id,
                problem=problem,
                prompt=prompt,
                temperature=self._by.temperature,
                seed=f"{self._seed}/{row.id}/{stop}/{number}",
                given=given,
            )
            for number in range(self._by.completions)
        ]
        return await self._engines.run_group(self._protocol, specs)


def counted(
    id: str, stop: int, outcomes: Outcomes, episodes: Sequence[Episode], given: Sequence[GivenCall]
) -> Completed:
    """The completions of a step with the tokens that engines read, had cached and sampled for them."""
    found = Completed(id=id, stop=stop, outcomes=outcomes, prompt=0, cached=0, sampled=0)
    for episode in episodes:
        for call, beginning in sampled_calls(episode, given):
            found = replace(
                found,
                prompt=found.prompt + len(episode.context_ids(call)) + beginning,
                cached=found.cached + call.cached_tokens,
                sampled=found.sampled + len(call.output) - beginning,
            )
    return found


def labelled(row: LabelRow, labels: Sequence[float | None], outcomes: Sequence[Outcomes | None]) -> LabelRow:
    """The row with labels of all steps but one that a limit cut off."""
    rest = [None] * (len(row.steps) - len(labels))
    return with_labels(row, [*labels, *rest], outcomes=(*outcomes, *rest))
