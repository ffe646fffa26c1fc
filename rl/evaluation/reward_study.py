"""Figures of the runs of `scripts/study_rewards.py`: labels and reward models, searches, and RL with them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.episodes.wire import read_episodes
from data.steps.label import label_lines
from data.steps.step import NO_ERROR, StepKind
from data.tasks.labelled import StepLabelledTask
from data.tasks.registry import build_task
from data.text.codec import load_codec
from rl.evaluation.auc import auc
from rl.evaluation.bootstrap import mean_interval
from rl.evaluation.equal_cost import Setting, against
from rl.evaluation.hacked_point import alarm_point, hacked_point, smoothed
from rl.evaluation.outcome_file import episodes_file, load_outcomes
from rl.evaluation.outcomes import Outcome
from rl.evaluation.recorded_steps import stage_problems
from rl.evaluation.step_f1 import Scored, step_f1, step_f1_intervals
from rl.scorers.worker import ScorerSettings, ScorerWorker
from rl.storage.run_directory import RunDirectory
from rl.tracking.metrics import METRICS_FILE, read_metrics

_SAMPLES, _SEED = 2_000, 0


def label_rows(run: Path) -> Iterator[dict[str, Any]]:
    """One row for each reward model of a run: its labels against the truth, and its scores of other texts."""
    directory = RunDirectory(run)
    recipe, codec = directory.recipe(), load_codec(directory.start)
    stage, task = recipe.stage("chains"), build_task(recipe.task.params)
    assert isinstance(task, StepLabelledTask)
    problems = stage_problems(recipe, directory, stage, codec)
    episodes = list(read_episodes(episodes_file(run / "stages" / "chains" / "sft.sampled.jsonl")))
    for prm in recipe.stages:
        if prm.kind != "reward_model":
            continue
        settings = ScorerSettings(
            model_dir=directory.model(prm.name), tokenizer_dir=directory.start, target="steps",
            step=StepKind.LINE, forest_tokens=4096,
        )  # fmt: skip
        worker, judged, scores, truths = ScorerWorker(settings, recipe.task.params), [], [], []
        for episode in episodes:
            problem = problems[episode.problem_id]
            (opinion,) = worker.score_group(problem, [episode])
            assert not isinstance(opinion, str), opinion
            said = {(score.call, score.stop): score.value for score in opinion}
            pairs = [
                (said[line.step.call, line.step.stop], line.label.reachable)
                for line in label_lines(task, problem, episode, codec)
                if line.label.reachable is not None
            ]
            wrong = next((place for place, (_, true) in enumerate(pairs) if not true), NO_ERROR)
            judged.append(
                Scored(problem=problem.id, label=wrong, scores=tuple(value for value, _ in pairs)).judged(0.5)
            )
            scores += [value for value, _ in pairs]
            truths += [float(true) for _, true in pairs]
        noise = directory.path / "stages" / prm.name.removeprefix("prm_") / "noise.json"
        figures = json.loads(noise.read_text())["reachable"] if noise.is_file() else None
        yield {
            "policy": run.parent.name.removeprefix("labels-").rpartition("-seed")[0],
            "labels": prm.name.removeprefix("prm_"),
            "agreement": None if figures is None else figures["agreement"],
            "f1": step_f1(judged).f1,
            "f1_interval": step_f1_intervals(judged).f1,
            "auc": auc(scores, truths),
        }


FORKING = "forking policy"


def search_rows(run: Path, fork: Path | None) -> Iterator[dict[str, Any]]:
    """One row for each search and width of a run; stages are named SEARCH_WIDTH. With `fork`, a finished run
    of labels of the forking policy, also a row of that policy by itself, on the same problems.
    """
    settings: dict[str, Setting] = {}
    for stage in RunDirectory(run).recipe().stages:
        (path,) = (run / "stages" / stage.name).glob("*.sampled.jsonl")
        settings[stage.name] = _setting(load_outcomes(path))
    if fork is not None:
        settings[f"{FORKING}_1"] = _setting(load_outcomes(fork / "stages" / "chains" / "sft.sampled.jsonl"))
    votes = [setting for name, setting in settings.items() if name.startswith("majority_")]
    for name, setting in settings.items():
        strategy, _, width = name.rpartition("_")
        beside = None if strategy == "majority" else against(setting, votes, samples=_SAMPLES, seed=_SEED)
        yield {
            "search": strategy, "width": int(width), "accuracy": float(setting.correct.mean()),
            "interval": mean_interval(setting.correct, samples=_SAMPLES, seed=_SEED),
            "cost": float(setting.cost.mean()),
            "points_over_majority": None if beside is None else beside.points,
            "points_interval": None if beside is None else beside.interval,
        }  # fmt: skip


def _setting(outcomes: Sequence[Outcome]) -> Setting:
    """Cost of an episode: what was sampled, and what the scorer read. Means over a problem's episodes."""
    problems: dict[str, list[tuple[int, bool]]] = {}
    for each in outcomes:
        spent = each.total_tokens + each.scorer_tokens
        problems.setdefault(each.problem_id, []).append((spent, bool(each.correct)))
    means = np.array([np.mean(problems[name], axis=0) for name in sorted(problems)], dtype=np.float64)
    return Setting(cost=means[:, 0], correct=means[:, 1])


def rl_rows(run: Path) -> Iterator[dict[str, Any]]:
    """The row of one arm: held-out accuracy before and after, and both curves."""
    steps = [row for row in read_metrics(run / METRICS_FILE, "rl") if "scorer/mean" in row]
    said, right = [row["scorer/mean"] for row in steps], [row["scorer/accuracy"] for row in steps]
    found: dict[str, Any] = {"arm": run.parent.name.removeprefix("rl-").rpartition("-seed")[0]}
    for checkpoint in ("start", "rl"):
        outcomes = load_outcomes(run / "stages" / "eval" / f"{checkpoint}.sampled.jsonl")
        by_problem: dict[str, list[float]] = {}
        for each in outcomes:
            by_problem.setdefault(each.problem_id, []).append(float(bool(each.correct)))
        shares = np.array([sum(values) / len(values) for values in by_problem.values()])
        found[checkpoint] = float(shares.mean())
        found[f"{checkpoint}_interval"] = mean_interval(shares, samples=_SAMPLES, seed=_SEED)
    yield {
        **found, "opinion": said, "accuracy": right,
        "hacked_at": hacked_point(said, right), "alarm_at": alarm_point(said, right),
    }  # fmt: skip


def table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The figures as Markdown."""
    lines = []
    if found["labels"]:
        lines += ["| seed | policy | labels | agreement | F1 of the reward model | AUC |"]
        lines += ["|---|---|---|---|---|---|"]
        lines += [
            f"| {row['seed']} | {row['policy']} | {row['labels']} | {_share(row['agreement'])} | "
            f"{_with(row['f1'], row['f1_interval'])} | {_with(row['auc'], None)} |"
            for row in found["labels"]
        ]
    if found["search"]:
        lines += ["", "| seed | search | width | accuracy | tokens | points over a majority at equal cost |"]
        lines += ["|---|---|---|---|---|---|"]
        for row in found["search"]:
            beside = _with(row["points_over_majority"], row["points_interval"], ".1f")
            lines.append(
                f"| {row['seed']} | {row['search']} | {row['width']} | "
                f"{_with(row['accuracy'], row['interval'])} | {row['cost']:.0f} | {beside} |"
            )
    if found["rl"]:
        lines += ["", "| seed | arm | before | after | opinion, first and last five steps | hacked | alarm |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for row in found["rl"]:
            ends = smoothed(row["opinion"], 5)[4:] or smoothed(row["opinion"], 5)
            lines.append(
                f"| {row['seed']} | {row['arm']} | {_with(row['start'], row['start_interval'])} | "
                f"{_with(row['rl'], row['rl_interval'])} | {ends[0]:.2f}, {ends[-1]:.2f} | "
                f"{_step(row['hacked_at'])} | {_step(row['alarm_at'])} |"
            )
    return "\n".join(lines) + "\n"


def _share(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None else _with(found["share"], found["interval"])


def _with(value: float | None, interval: Sequence[float] | None, form: str = ".3f") -> str:
    if value is None:
        return "-"
    return f"{value:{form}}" + ("" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]")


def _step(index: int | None) -> str:
    return "never" if index is None else f"step {index + 1}"
