"""A judge of steps: what it is asked, and how its verdicts are read."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizer_lab import codec_of

from data.episodes.trajectory import Episode
from data.steps.step import StepKind
from data.tasks.countdown import Countdown
from data.tasks.problem import Problem
from rewards.verifiers.verdict import Judge
from rl.config.labels import JudgeLabels
from rl.imitation.progress import ActivityLines
from rl.scorers.completion_file import CompletionFile
from rl.scorers.label_file import unlabelled_rows
from rl.stages.complete_steps import Recorded
from rl.stages.judge_steps import StepJudge, question, verdict_of
from rollout.engines.scripted import ScriptedEngine
from rollout.offline import drive
from rollout.protocols import build_protocol
from rollout.protocols.sequential import SequentialParams
from rollout.runner import EpisodeSpec, run_episode

CODEC = codec_of("gpt")
PROBLEM = Problem("p", "countdown", {"numbers": [10, 9, 4, 2], "target": 41})


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (" right.", True), ("**Correct**", True), ("yes, since 9 * 4 = 36", True),
        ("wrong", False), ("Incorrect: 9 * 4 is 36", False), ("No", False),
        ("rightly so?", None), ("I do not know", None), ("", None),
    ],
)  # fmt: skip
def test_verdicts(text: str, verdict: bool | None) -> None:
    assert verdict_of(text) is verdict


def recorded(task: Countdown) -> Recorded:
    """One call of two paragraphs."""
    protocol = build_protocol(SequentialParams(name="sequential"), CODEC)
    said = CODEC.encode("9 * 4 = 35\n\n35 + 10 = 45")
    episode = drive(protocol, task.prompt(PROBLEM), lambda _: (*said, CODEC.eos), max_length=4000)
    rows = unlabelled_rows(task, PROBLEM, episode, CODEC, StepKind.PARAGRAPH)
    return Recorded(problem=PROBLEM, episode=episode, rows=rows)


class Engines:
    """A judge that calls the second step right at odd seeds, wrong at even ones, and the first neither."""

    def __init__(self) -> None:
        self.engine = ScriptedEngine(self._say, max_length=4000)

    def _say(self, context: tuple[int, ...], seed: int) -> Sequence[int]:
        asked = CODEC.decode(context)
        verdict = "hm" if "35 + 10" not in asked else "right" if seed % 2 else "wrong"
        return (*CODEC.encode(f"Let me see.\nVerdict: {verdict}"), CODEC.eos)

    async def run_group(self, params: Any, specs: Sequence[EpisodeSpec]) -> tuple[list[Episode], Any]:
        protocol = build_protocol(params, CODEC)
        return [await run_episode(self.engine, protocol, each) for each in specs], None


def test_every_step_is_asked_about_and_the_label_is_the_share_of_verdicts(tmp_path: Path) -> None:
    task = Countdown()
    held = recorded(task)
    first, second = (question(task, held.rows[0], place, held) for place in (0, 1))
    assert "Steps that came before:" not in first and first.count("9 * 4 = 35") == 1
    assert second.index("9 * 4 = 35") < second.index("Step to judge:\n35 + 10 = 45")
    engines = Engines()
    with CompletionFile(tmp_path / "completions.jsonl") as file:
        judge = StepJudge(
            JudgeLabels(kind="judge", completions=8), file, codec=CODEC, engines=engines, task=task,
            judge=Judge(task, CODEC), kind=StepKind.PARAGRAPH, seed=1, activity=ActivityLines("j", "judging"),
        )  # fmt: skip
        (row,) = asyncio.run(judge.label([held]))
    assert len(engines.engine.requests) == 16
    seeds = [request.seed for request in engines.engine.requests if "35 + 10" in CODEC.decode(request.prompt)]
    assert row.labels == (None, sum(seed % 2 for seed in seeds) / 8)
    assert row.outcomes[0] == () and len(row.outcomes[1] or ()) == 8
