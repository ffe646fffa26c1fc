"""`braid steps`: episodes of a run become labelled rows, and files are counted."""

import json
from pathlib import Path

import pytest
from recorded_lab import PROBLEMS, recorded_run

from rl import cli


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose stage rl has one step: six groups of a solver's episode and one with a slip."""
    return recorded_run(tmp_path_factory.mktemp("steps"))


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
