"""A judge of steps: what it is asked, and how its verdicts are read."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizer_lab import codec_of

from data.episodes.trajectory import Episode
from data.steps.step import StepKind
from data.tasks.countdown import Countdown
from data.tasks.judge.question import MARKER, JudgeFormat
from data.tasks.judge.task import JudgeParams, JudgeSteps, judged_fields, judged_problem
from data.tasks.problem import Problem
from rewards.score import Opinion, StepScore
from rewards.verifiers.verdict import Judge
from rl.config.judges import JudgeSetting, judge_protocol
from rl.config.labels import JudgeLabels
from rl.imitation.progress import ActivityLines
from rl.scorers.completion_file import CompletionFile
from rl.scorers.label_file import LabelRow, unlabelled_rows
from rl.stages.complete_steps import Recorded
from rl.stages.judge_steps import MetaScorer, StepJudge
from rollout.engines.scripted import ScriptedEngine
from rollout.offline import drive
from rollout.protocols import build_protocol
from rollout.protocols.sequential import SequentialParams
from rollout.runner import EpisodeSpec, run_episode

CODEC = codec_of("gpt")
PROBLEM = Problem("p", "countdown", {"numbers": [10, 9, 4, 2], "target": 41})


def recorded(task: Countdown) -> Recorded:
    """One call of two paragraphs."""
    protocol = build_protocol(SequentialParams(name="sequential"), CODEC)
    said = CODEC.encode("9 * 4 = 35\n\n35 + 10 = 45")
    episode = drive(protocol, task.prompt(PROBLEM), lambda _: (*said, CODEC.eos), max_length=4000)
    rows = unlabelled_rows(task, PROBLEM, episode, CODEC, StepKind.PARAGRAPH)
    return Recorded(problem=PROBLEM, episode=episode, rows=rows)


class Engines:
    """A judge that calls the first step right, and the second one at odd seeds; of every fourth judgement the
    verdicts cannot be read.
    """

    def __init__(self) -> None:
        self.engine = ScriptedEngine(self._say, max_length=4000)

    def _say(self, context: tuple[int, ...], seed: int) -> Sequence[int]:
        verdicts = "hm" if not seed % 4 else f"1 right, 2 {'right' if seed % 2 else 'wrong'}"
        return (*CODEC.encode(f"Let me see.\n{MARKER} {verdicts}"), CODEC.eos)

    async def run_group(self, params: Any, specs: Sequence[EpisodeSpec]) -> tuple[list[Episode], Any]:
        protocol = build_protocol(params, CODEC)
        return [await run_episode(self.engine, protocol, each) for each in specs], "here"


def label(tmp_path: Path, engines: Engines, held: Recorded, meta: MetaScorer | None = None) -> LabelRow:
    """The row after a judge has been asked eight times."""
    task, setting = (
        Countdown(),
        JudgeSetting(protocol=judge_protocol(200), format=JudgeFormat(), trained_by=None),
    )
    with CompletionFile(tmp_path / "completions.jsonl") as file:
        judge = StepJudge(
            JudgeLabels(kind="judge", completions=8), file, setting=setting, codec=CODEC, engines=engines,
            task=task, judge=Judge(task, CODEC), kind=StepKind.PARAGRAPH, seed=1,
            activity=ActivityLines("j", "judging"), meta=meta,
        )  # fmt: skip
        (row,) = asyncio.run(judge.label([held]))
    return row


def test_a_solution_is_asked_about_as_a_whole_and_labels_are_shares_of_verdicts(tmp_path: Path) -> None:
    held, engines = recorded(Countdown()), Engines()
    row = label(tmp_path, engines, held)
    assert len(engines.engine.requests) == 8, "once for each judgement, whatever the number of steps"
    asked = CODEC.decode(engines.engine.requests[0].prompt)
    task = JudgeSteps(JudgeParams())
    as_learned = task.prompt(judged_problem("x", judged_fields(held.rows[0].step_row, 2))).text
    assert as_learned in asked, "the question is that of task judge"
    assert "Step 1: 9 * 4 = 35\nStep 2: 35 + 10 = 45" in asked and MARKER in asked
    seeds = [request.seed for request in engines.engine.requests]
    readable = [seed for seed in seeds if seed % 4]
    assert 0 < len(readable) < 8
    assert row.labels == (1.0, sum(seed % 2 for seed in readable) / len(readable))
    assert [len(each or ()) for each in row.outcomes] == [len(readable)] * 2


def test_what_was_judged_is_not_asked_again_and_what_was_torn_gives_the_same(tmp_path: Path) -> None:
    held, engines = recorded(Countdown()), Engines()
    row = label(tmp_path, engines, held)
    assert label(tmp_path, engines, held) == row and len(engines.engine.requests) == 8
    file = tmp_path / "completions.jsonl"
    file.write_text(file.read_text().splitlines()[0] + "\n")
    assert label(tmp_path, engines, held) == row and len(engines.engine.requests) == 16


def test_a_solution_without_verdicts_has_no_labels(tmp_path: Path) -> None:
    held, engines = recorded(Countdown()), Engines()
    engines.engine = ScriptedEngine(lambda context, seed: (CODEC.eos,), max_length=4000)
    assert label(tmp_path, engines, held).labels == (None, None)


class Meta:
    """Scores of judgements: how long they are, or nothing."""

    def __init__(self, *, silent: bool = False) -> None:
        self.silent = silent

    async def results(
        self, problem: Problem, episodes: Sequence[Episode], reference: object
    ) -> list[Opinion]:
        assert problem.task == "judge" and reference is not None
        return [
            "it has died"
            if self.silent
            else (StepScore(call=0, start=0, stop=1, value=len(each.calls[0].output) / 1000),)
            for each in episodes
        ]


def test_the_judgements_that_a_meta_judge_likes_best_vote(tmp_path: Path) -> None:
    held, engines = recorded(Countdown()), Engines()
    label(tmp_path, engines, held)
    seeds = [request.seed for request in engines.engine.requests]
    for silent in (False, True):
        engines = Engines()
        (tmp_path / "completions.jsonl").unlink()
        row = label(tmp_path, engines, held, meta=Meta(silent=silent))
        # "1 right, 2 right" is as long as "1 right, 2 wrong"; "hm" is shorter. Four of eight are kept.
        ranked = seeds if silent else sorted(seeds, key=lambda seed: not seed % 4)
        voting = [seed for seed in ranked[:4] if seed % 4]
        assert [len(each or ()) for each in row.outcomes] == [len(voting)] * 2
        assert row.labels[1] == sum(seed % 2 for seed in voting) / len(voting)
