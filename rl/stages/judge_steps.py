"""Labels by a judge: a language model is asked of each solution which of its steps are right.

Question and verdicts are those of task `judge` (`data.tasks.judge`), so that a model which was trained on it
is asked in the format that it knows.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from data.episodes.trajectory import Episode
from data.tasks.judge.task import JudgeParams, JudgeSteps, judged_fields, judged_problem
from data.tasks.judge.verdicts import Verdicts, read_verdicts
from data.tasks.problem import Problem
from data.text.codec import Codec
from rewards.score import Opinion
from rl.config.judges import JudgeSetting
from rl.config.labels import JudgeLabels
from rl.scorers.completion_file import Completed
from rl.scorers.label_file import LabelRow
from rl.scorers.meta_vote import kept, meta_score
from rl.scorers.monte_carlo import label_of
from rl.stages.complete_steps import Recorded, StepCompleter, counted, labelled


class MetaScorer(Protocol):
    """Scorers of judgements, such as a pool of them."""

    async def results(
        self, problem: Problem, episodes: Sequence[Episode], reference: Any, /
    ) -> list[Opinion]:
        """[G] the opinion of each episode, in order. Raises RewardError when no scorer comes up."""
        ...


class StepJudge(StepCompleter):
    """Asks the model of every solution; the verdicts on a step stand where a completer has its graded
    completions. The tokens of a judgement are counted at the solution's first step.
    """

    def __init__(
        self,
        by: JudgeLabels,
        *given: Any,
        setting: JudgeSetting,
        codec: Codec,
        meta: MetaScorer | None = None,
        **more: Any,
    ) -> None:
        """Arguments as for `StepCompleter`, but for the protocol, which is the judge's own.

        `meta`: who says how good judgements are; of each solution's the best vote.
        """
        super().__init__(by, *given, protocol=setting.protocol, **more)
        self._meta, self._keep = meta, by.keep or max(1, by.completions // 2)
        self._codec, self._format = codec, setting.format
        self._judged = JudgeSteps(JudgeParams(format=setting.format))

    async def label_row(self, recorded: Recorded, row: LabelRow) -> LabelRow:
        """The row with the share of right verdicts on each step; without labels where it has too many."""
        stops = row.stops[: len(row.steps) - row.cut_off]
        if not stops or len(stops) > self._format.most_steps:
            return labelled(row, [], [])
        known = [self._file.get(row.id, stop) for stop in stops]
        if not all(known):
            # Asked as a whole: with the same seeds the same is said.
            async with self._room:
                known = [*await self.judge(recorded, row, stops)]
            for each in known:
                assert each is not None
                self._file.append(each)
        self.count(len(stops))
        outcomes = [each.outcomes for each in known if each is not None]
        return labelled(row, [label_of(each, self._estimate) for each in outcomes], outcomes)

    async def judge(self, recorded: Recorded, row: LabelRow, stops: Sequence[int]) -> list[Completed]:
        """The verdicts on the steps that end at these output tokens."""
        problem = judged_problem(row.id, judged_fields(row.step_row, len(stops)))
        asked = self._judged.prompt(problem)
        episodes, reference = await self.sample(recorded.problem, row, stops[-1], asked)
        voting: Sequence[Episode] = episodes
        if self._meta is not None:
            opinions = await self._meta.results(problem, episodes, reference)
            voting = kept(episodes, [meta_score(each) for each in opinions], self._keep)
        said = [verdicts for each in voting if (verdicts := self.verdicts(each, len(stops))) is not None]
        judged: list[Completed] = []
        for place, stop in enumerate(stops):
            outcomes = tuple(right for each in said if (right := each[place]) is not None)
            judged.append(counted(row.id, stop, outcomes, () if place else episodes, ()))
        return judged

    def verdicts(self, episode: Episode, steps: int) -> Verdicts | None:
        """What a judgement says of each step; None when it has no answer, or one that cannot be read."""
        ids = episode.answer_ids()
        if ids is None:
            return None
        return read_verdicts("".join(self._codec.pieces(ids)), steps, self._format.until)
