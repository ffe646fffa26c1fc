"""A finished run that never was: its metrics and its record say what a test wants them to."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from episodes import call, episode
from recipe_lab import SMALL, write

from data.episodes.trajectory import Call, VersionSpan
from data.whole_file import write_json
from rewards.score import Score
from rl.config import Recipe, load_recipe
from rl.scored_group import ScoredGroup
from rl.storage.rollout_record import RECORD, write_step

GROUPS, SAMPLES = 2, 2


@dataclass(frozen=True, kw_only=True)
class Made:
    """A step of two groups of two episodes, each of `calls` calls of `tokens` tokens, all at once. With
    `short`, all calls of an episode but its first have these tokens and seconds.
    """

    calls: int
    tokens: int
    rollout_s: float
    wait_s: float
    learner_s: float
    publish_s: float = 0.25
    short: tuple[int, float] | None = None

    def call(self, number: int) -> tuple[int, float]:
        """-> its tokens, and its seconds."""
        return self.short if self.short and number else (self.tokens, self.rollout_s)

    @property
    def sampled(self) -> int:
        """Sampled tokens of the whole lab."""
        return GROUPS * SAMPLES * sum(self.call(number)[0] for number in range(self.calls))


def recipe_of(folder: Path, steps: int, staleness: int) -> Recipe:
    """SMALL, with so many such steps."""
    rl = {"steps": steps, "groups_per_step": GROUPS, "samples_per_group": SAMPLES, "staleness": staleness}
    stages = [stage | rl if stage["kind"] == "rl" else stage for stage in SMALL["stages"]]
    return load_recipe(write(folder, SMALL | {"stages": stages}), ())


def write_run(folder: Path, steps: Sequence[Made], *, staleness: int = 0) -> Path:
    """-> the run directory."""
    folder.mkdir(exist_ok=True)
    recipe = recipe_of(folder, len(steps), staleness)
    run = folder / "run"
    write_json(run / "recipe.json", recipe.model_dump(mode="json"))
    write_json(run / "stages" / "rl" / "done.json", {})
    lines = []
    for step, made in enumerate(steps):
        spent = {
            "time/rollout_wait_s": 0.75 * made.wait_s,
            "time/reward_wait_s": 0.25 * made.wait_s,
            "time/learner_s": made.learner_s,
            "time/publish_s": made.publish_s,
        }
        lines.append({"stage": "rl", "step": step + 1, "tokens/sampled": float(made.sampled), "time": spent})
        groups = [_group(step * GROUPS + index, made) for index in range(GROUPS)]
        write_step(run / "stages" / "rl" / RECORD, step, groups, {})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def _group(index: int, made: Made) -> ScoredGroup:
    calls = []
    for number in range(made.calls):
        tokens, seconds = made.call(number)
        calls.append(_sampled(call(number, number, tokens, seconds=seconds)))
    episodes = tuple(replace(episode(calls), id=f"{index}/{sample}") for sample in range(SAMPLES))
    scores = (Score(value=1.0),) * SAMPLES
    return ScoredGroup(index=index, problem_id="p", episodes=episodes, scores=scores)


def _sampled(made: Call) -> Call:
    size = len(made.output)
    return replace(made, logprobs=(-1.0,) * size, versions=(VersionSpan(version=0, start=0, stop=size),))
