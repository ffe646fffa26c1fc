"""`braid steps`: episodes of a run become labelled rows, and files are counted."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recipe_lab import SMALL, write

from data.episodes.trajectory import Call, Episode, VersionSpan
from data.tasks.base import SolvedTask
from data.tasks.problem import Problem, save_problems
from data.tasks.registry import build_task
from data.whole_file import write_json
from rewards.score import Score
from rl import cli
from rl.config import Recipe, load_recipe
from rl.config.codec import make_codec
from rl.scored_group import ScoredGroup, episode_id
from rl.storage.rollout_record import RECORD, write_step
from rollout.demonstrate import demonstrate
from rollout.protocols import build_protocol

PROBLEMS = 6


def sampled(call: Call) -> Call:
    """A demonstrated call as if a model had said it."""
    size = len(call.output)
    return replace(call, logprobs=(-1.0,) * size, versions=(VersionSpan(version=0, start=0, stop=size),))


def slip(episode: Episode, codec: Any) -> Episode:
    """The same episode with a slip in the first child's first step: its result is 59."""
    calls = list(episode.calls)
    (wrong,) = codec.encode("59")
    calls[1] = replace(calls[1], output=(wrong, *calls[1].output[1:]))
    return replace(episode, calls=tuple(calls))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose stage rl has one step: six groups of a solver's episode and one with a slip."""
    folder = tmp_path_factory.mktemp("steps")
    recipe: Recipe = load_recipe(write(folder, SMALL | {"protocol": {"name": "spawn_join"}}), ())
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
        whole = replace(shown, calls=tuple(map(sampled, shown.calls)))
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
    record = run / "stages" / "rl" / RECORD
    record.mkdir(parents=True)
    write_step(record, 1, groups, {})
    return run


def braid(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["steps", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_lines_of_a_run(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "steps.jsonl"
    code, text, error = braid(capsys, recorded, "--stage", "rl", "--out", out)
    assert code == 0, error
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert f"episodes      {2 * PROBLEMS} of " in text and f"rows          {len(rows)}" in text
    # Whatever the solver wrote is right; the slip is the first step of its call, and wrong.
    wrong = [row for row in rows if False in row["labels"]]
    assert len(wrong) == PROBLEMS
    assert all(row["completions"][0] == "59" and row["labels"][0] is False for row in wrong)
    assert all(row["id"].split("/")[2] == "1" and row["id"].startswith("step-000001/") for row in wrong)
    assert all(row["prompt"].startswith("<child>") for row in wrong)
    assert {row["answer_correct"] for row in rows} == {True, False}
    # The same counts are printed of the file.
    code, of_file, _ = braid(capsys, out)
    assert code == 0 and of_file.splitlines()[0] == f"{out}: trl"
    assert of_file.splitlines()[1:] == text.splitlines()[2:5]


def test_reachable_goals_and_threads_for_process_bench(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "threads.jsonl"
    options = ("--cut", "thread", "--label", "reachable", "--format", "processbench", "--out", out)
    code, text, error = braid(capsys, recorded, "--stage", "rl", *options)
    assert code == 0, error
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 2 * PROBLEMS and "labels: reachable" in text
    for row in rows:
        assert -1 <= row["label"] < len(row["steps"])
        assert row["final_answer_correct"] is row["id"].endswith("/0")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["RUN"], ["is a run directory", "--stage"]),
        (["RUN", "--stage", "nope"], ["--stage nope", "has no such stage", "sft, rl, eval, export"]),
        (["RUN", "--stage", "sft"], ["holds no recorded episodes", "keep_episodes"]),
        (["RUN", "--stage", "rl", "--out", "x.csv"], ["--out x.csv", ".jsonl"]),
        (["FOLDER", "--stage", "rl"], ["is not a run directory"]),
        (["missing.jsonl"], ["missing.jsonl", "there is no such file"]),
        (["missing.jsonl", "--stage", "rl"], ["is no run directory"]),
    ],
)
def test_wrong_inputs_are_refused(
    arguments: list[str], parts: list[str], recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"RUN": recorded, "FOLDER": recorded.parent}
    code, _, error = braid(capsys, *(places.get(argument, argument) for argument in arguments))
    assert code == 2 and error.startswith("braid: ")
    for part in parts:
        assert part in error
