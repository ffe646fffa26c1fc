"""Runs that were never run, with all that a reader of run directories asks for: real episodes of a solver."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ledger_lab import ticking
from recipe_lab import SMALL, write

from data.episodes.trajectory import Call, Episode, VersionSpan
from data.ledger.ledger import Ledger
from data.tasks.base import SolvedTask
from data.tasks.problem import Problem, save_problems
from data.tasks.registry import build_task
from data.whole_file import write_json
from rewards.score import Score, StepReward
from rl.config import Recipe, load_recipe
from rl.config.codec import make_codec
from rl.evaluation.document import Settings, build_summary, write_summary
from rl.evaluation.outcome_file import OutcomeFile
from rl.evaluation.outcomes import Evaluation, outcome_of
from rl.scored_group import ScoredGroup, episode_id
from rl.storage.rollout_record import RECORD, write_step
from rollout.demonstrate import demonstrate
from rollout.protocols import build_protocol

PROBLEMS = 6
SECONDS_A_TOKEN = 0.125


def sampled(call: Call) -> Call:
    """A demonstrated call as if a model had said it, every fourth token against the odds."""
    size = len(call.output)
    logprobs = tuple(-2.5 if index % 4 == 3 else -0.125 for index in range(size))
    return replace(call, logprobs=logprobs, versions=(VersionSpan(version=0, start=0, stop=size),))


def timed(episode: Episode) -> Episode:
    """The same episode with an eighth of a second for every token, and no waiting."""
    calls: list[Call] = []
    for call in episode.calls:
        began = max((calls[edge.call].finished_s for edge in call.after), default=0.0)
        calls.append(replace(call, started_s=began, finished_s=began + SECONDS_A_TOKEN * len(call.output)))
    return replace(episode, calls=tuple(calls))


def slip(episode: Episode, codec: Any) -> Episode:
    """The same episode with a slip in the first child's first step: its result is 59."""
    calls = list(episode.calls)
    (wrong,) = codec.encode("59")
    calls[1] = replace(calls[1], output=(wrong, *calls[1].output[1:]))
    return replace(episode, calls=tuple(calls))


def recorded_run(folder: Path) -> Path:
    """A run whose stage rl has recorded one step: six groups of a solver's episode and one with a slip."""
    run, _, groups = _made(folder)
    record = run / "stages" / "rl" / RECORD
    record.mkdir(parents=True)
    write_step(record, 1, groups, {})
    return run


def whole_run(folder: Path, reason: str = "answer: correct") -> Path:
    """A finished run: two steps of three groups, metrics, a ledger with a fault, and evaluations in which
    `rl` solves two problems more than `sft` and one less. `reason` is told of every right answer.
    """
    run, recipe, made = _made(folder)
    groups = [
        replace(group, scores=tuple(replace(score, reason=reason) for score in group.scores))
        for group in made
    ]
    (run / "stages" / "rl" / RECORD).mkdir(parents=True)
    with Ledger.open(run / "ledger.sqlite", clock=ticking()) as ledger:
        ledger.open_stage("rl", step=0, next_group=0)
        ledger.published("rl", 0, seconds=0.5, num_bytes=1000, pause_s=0.1)
        ledger.fault("run", "change", "resumes with rl.num_ranks = 2, before 1")
        ledger.fault("rl", "engine", "engine 0", "its process was killed")
        for step in range(2):
            _train(ledger, run, step, groups[3 * step : 3 * step + 3])
    lines = [
        {"stage": "sft", "step": step, "loss": 4.0 / (step + 1)} for step in range(3)
    ] + [
        {
            "stage": "rl", "step": step + 1, "reward/mean": 0.5, "accuracy": 0.5, "tokens/sampled": 600.0,
            "learner/entropy": 0.25, "share/activation": 1.0, "staleness/max": float(step),
            "time": {"time/rollout_wait_s": 3.0, "time/learner_s": 1.0},
        }
        for step in range(2)
    ]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("sft", "rl"):
        write_json(run / "stages" / name / "done.json", {"steps": 2})
    write_json(
        run / "accounting.json",
        {"seconds": 75.0, "peak_memory_gb": 1.5, "machine": "3 cores (a processor), 7 GiB"},
    )
    _evaluate(run, recipe, groups)
    return run


def _made(folder: Path) -> tuple[Path, Recipe, list[ScoredGroup]]:
    """A run directory with recipe, tokenizer and problems, and the groups on its training problems."""
    folder.mkdir(exist_ok=True)
    recipe = load_recipe(write(folder, SMALL | {"protocol": {"name": "spawn_join"}}), ())
    run = folder / "run"
    write_json(run / "recipe.json", recipe.model_dump(mode="json"))
    codec = make_codec(recipe)
    codec.save(run / "start")
    task = build_task(recipe.task.params)
    assert isinstance(task, SolvedTask)
    protocol = build_protocol(recipe.protocol, codec)
    rng, groups, kept = random.Random(3), list[ScoredGroup](), list[Problem]()
    for problem in task.problems("train", 50, seed=0):
        tree = task.search(problem, rng)
        shown = demonstrate(
            protocol, task.prompt(problem), tree, id="0/0", problem_id=problem.id, max_length=512
        )
        if shown is None or tree.solution is None or len(kept) == PROBLEMS:
            continue
        index = len(kept)
        kept.append(problem)
        whole = timed(replace(shown, calls=tuple(map(sampled, shown.calls))))
        groups.append(
            ScoredGroup(
                index=index,
                problem_id=problem.id,
                episodes=(
                    replace(whole, id=episode_id(index, 0)),
                    replace(slip(whole, codec), id=episode_id(index, 1)),
                ),
                scores=(Score(value=1.0, correct=True), Score(value=0.0, correct=False)),
            )
        )
    assert len(kept) == PROBLEMS
    save_problems(run / "problems" / "train.jsonl", kept)
    save_problems(run / "problems" / "test.jsonl", kept)
    return run, recipe, groups


def _train(ledger: Ledger, run: Path, step: int, groups: Sequence[ScoredGroup]) -> None:
    step_reward = StepReward(term="process", call=0, start=0, stop=2, value=0.5)
    rewarded = [
        replace(group, scores=(replace(group.scores[0], steps=(step_reward,)), *group.scores[1:]))
        for group in groups
    ]
    name = write_step(run / "stages" / "rl" / RECORD, step, rewarded, {})
    for group in rewarded:
        ledger.start("rl", group.index, group.problem_id, version=step, engine="engine 0")
        ledger.finish(
            "rl", group.index, group.episodes, group.scores, engine="engine 0", rollout_s=2.5, reward_s=0.125
        )
    ledger.consumed("rl", step, rewarded, record=name)


def _evaluate(run: Path, recipe: Recipe, groups: Sequence[ScoredGroup]) -> None:
    """`sft` solves problems 0 and 1, `rl` solves 1, 2 and 3."""
    evaluations = {}
    for name, solved in (("sft", (0, 1)), ("rl", (1, 2, 3))):
        rows = []
        for index, group in enumerate(groups):
            right = index in solved
            episode = replace(group.episodes[0 if right else 1], id=f"{index}/0")
            score = Score(value=float(right), correct=right, reason="right" if right else "wrong")
            rows.append((outcome_of(episode, sample=0, score=score), episode))
        keys = [(outcome.problem_id, 0) for outcome, _ in rows]
        path = run / "stages" / "eval" / f"{name}.sampled.jsonl"
        with OutcomeFile(path, {"samples": 1}, keys, keep=None) as file:
            for outcome, episode in rows:
                file.append(outcome, episode)
            evaluations[name] = {0: Evaluation(sampled=tuple(file.finish()))}
    write_json(run / "stages" / "eval" / "done.json", {"checkpoints": ["sft", "rl"]})
    summary = build_summary(
        {"spawn_join": evaluations},
        subject="spawn_join",
        settings=Settings(critical_budgets=(60, 100), bootstrap_samples=100),
        seconds=75.0,
        peak_memory_gb=1.5,
    )
    write_summary(run / "summary.json", summary)
