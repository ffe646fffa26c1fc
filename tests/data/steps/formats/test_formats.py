"""Published formats of labelled steps, in and out; rows that do not fit are refused by file, row and key."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data.errors import ConfigError
from data.steps.counts import count_steps, counts_table
from data.steps.formats.files import FORMATS, read_steps, write_steps
from data.steps.formats.math_shepherd import TAG
from data.steps.formats.row import StepRow

SHEPHERD = (
    f"How many? Step 1: 2 + 2 = 4 {TAG}\nStep 2: 4 + 1 = 6 {TAG}\nStep 3: The answer is: 6 {TAG}",
    "How many? Step 1: 2 + 2 = 4 +\nStep 2: 4 + 1 = 6 -\nStep 3: The answer is: 6 -",
)
PRM800K = {
    "labeler": "x",
    "is_quality_control_question": False,
    "question": {"problem": "How many?", "ground_truth_answer": "5", "pre_generated_steps": []},
    "label": {
        "total_time": 7,
        "finish_reason": "found_error",
        "steps": [
            {
                "completions": [{"text": "a", "rating": 0, "flagged": None}, {"text": "b", "rating": -1}],
                "human_completion": None,
                "chosen_completion": 0,
            },
            {
                "completions": None,
                "human_completion": {"text": "c", "rating": None},
                "chosen_completion": None,
            },
            {
                "completions": [{"text": "d", "rating": -1}, {"text": "e", "rating": None}],
                "human_completion": None,
                "chosen_completion": None,
            },
        ],
    },
}
ROWS: dict[str, tuple[dict[str, Any], list[tuple[tuple[str, ...], tuple[float | None, ...]]]]] = {
    "trl": (
        {"prompt": "How many?", "completions": ["2 + 2 = 4", "4 + 1 = 6"], "labels": [True, 0.25]},
        [(("2 + 2 = 4", "4 + 1 = 6"), (1.0, 0.25))],
    ),
    "processbench": (
        {
            "id": "gsm8k-0",
            "generator": "g",
            "problem": "How many?",
            "steps": ["a", "b", "c"],
            "final_answer_correct": False,
            "label": 1,
        },
        [(("a", "b", "c"), (1.0, 0.0, None))],
    ),
    "math_shepherd": (
        {"input": SHEPHERD[0], "label": SHEPHERD[1], "task": "GSM8K"},
        [(("2 + 2 = 4", "4 + 1 = 6", "The answer is: 6"), (1.0, 0.0, 0.0))],
    ),
    # The chosen path, the alternative to its first step, and the wrong step that ended it.
    "prm800k": (PRM800K, [(("a", "c"), (1.0, None)), (("b",), (0.0,)), (("a", "c", "d"), (1.0, None, 0.0))]),
    "qwen": (
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "How many?"},
                {"role": "assistant", "content": "a<extra_0>b<extra_0>"},
            ],
            "labels": [1, 0.5],
        },
        [(("a", "b"), (1.0, 0.5))],
    ),
}
HARD = StepRow(
    id="1",
    prompt="How many?",
    steps=("a b", "c", "d"),
    labels=(1.0, None, 0.0),
    answer_correct=False,
    source="t",
)
SOFT = StepRow(id="2", prompt="Why?", steps=("x",), labels=(0.7,))


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "steps.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_a_published_row_is_recognised_and_read(name: str, tmp_path: Path) -> None:
    row, expected = ROWS[name]
    found, rows = read_steps(write(tmp_path, row))
    assert found == name
    assert [(each.steps, each.labels) for each in rows] == expected
    assert all(each.prompt == "How many?" for each in rows)


@pytest.mark.parametrize("name", ["trl", "processbench", "math_shepherd", "qwen"])
def test_a_published_row_survives_the_way_in_and_out(name: str, tmp_path: Path) -> None:
    """Whatever it held is there again; what it did not hold may be added."""
    row = ROWS[name][0]
    out = tmp_path / "out.jsonl"
    write_steps(out, read_steps(write(tmp_path, row))[1], name)
    again = json.loads(out.read_text())
    if name == "qwen":
        again["messages"][0]["content"] = "s"  # the system message is the model's own
    assert {key: again[key] for key in row} == row


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_survives_the_way_out_and_in(name: str, tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    write_steps(path, [HARD], name)
    found, (row,) = read_steps(path)
    assert found == name
    assert (row.prompt, row.steps) == (HARD.prompt, HARD.steps)
    if name == "processbench":  # up to the first error no step is wrong
        assert row.labels == (1.0, 1.0, 0.0)
    else:
        assert row.labels == HARD.labels


@pytest.mark.parametrize("name", FORMATS)
def test_soft_labels_stay_soft_or_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    if name in ("trl", "qwen"):
        write_steps(path, [HARD, SOFT], name)
        assert read_steps(path)[1][1].labels == (0.7,)
        return
    with pytest.raises(
        ConfigError, match=r"steps.jsonl, row '2': labels: are soft, .*\n  fix: write them as trl"
    ):
        write_steps(path, [HARD, SOFT], name)
    assert not path.exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "completions": "abc", "labels": [1]}, "completions: must be a list of texts"),
        ({"prompt": "p", "completions": ["a", "b"], "labels": [1]}, "labels: must be a list of 2 labels"),
        ({"prompt": "p", "completions": ["a"], "labels": [1.5]}, "labels: holds 1.5"),
        ({"prompt": "p", "completions": ["a"], "labels": ["+"]}, "labels: holds '\\+'"),
        ({"prompt": 3, "completions": ["a"], "labels": [1]}, "prompt: must be a text, found 3"),
        ({"problem": "p", "steps": ["a"], "label": 1}, "label: must be -1 or the index of one of 1 steps"),
        ({"problem": "p", "steps": [], "label": -1}, "steps: must be a list of texts"),
        ({"input": f"p Step 1: a {TAG}", "label": "p Step 1: b +"}, "label: is not `input` with"),
        ({"input": f"p Step 1: a {TAG} b", "label": "p Step 1: a + b"}, "input: must end with"),
        ({"input": f"p a {TAG}", "label": "p a +"}, "input: has no 'Step 1:'"),
        ({"question": {"problem": "p"}, "label": {"steps": [3]}}, "label.steps.0: must be an object"),
        (
            {
                "question": {"problem": "p"},
                "label": {"steps": [{"completions": [{"text": "a", "rating": 2}]}]},
            },
            "label.steps.0.completions: has the rating 2",
        ),
        ({"messages": [{"role": "assistant", "content": "a<extra_0>"}]}, "messages: have no user"),
        ({"question": "p", "answer": "a"}, "has answer, question, which is none of the formats trl"),
    ],
)
def test_wrong_rows_are_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"steps.jsonl, row 0: {message}(.|\n)*\n  fix: "):
        read_steps(write(tmp_path, row))


def test_a_wrong_row_behind_a_good_one(tmp_path: Path) -> None:
    good = ROWS["trl"][0]
    with pytest.raises(ConfigError, match=r"row 1: labels: must be a list of 2 labels"):
        read_steps(write(tmp_path, good, good | {"labels": None}))


def test_counts() -> None:
    cut = StepRow(id="3", prompt="p", steps=("x", "y"), labels=(1.0, None), cut_off=True)
    bare = StepRow(id="4", prompt="p", steps=("x",), labels=(None,))
    late = StepRow(id="5", prompt="p", steps=("x",) * 9, labels=(*(1.0,) * 8, 0.4))
    counts = count_steps([HARD, SOFT, cut, bare, late])
    assert (counts.rows, counts.steps, counts.right, counts.wrong, counts.soft) == (5, 16, 10, 1, 2)
    assert (counts.unlabelled, counts.cut_off, counts.unlabelled_rows) == (3, 1, 1)
    assert counts.first_errors == Counter({-1: 2, 2: 1, 8: 1})
    assert counts_table(counts) == [
        "rows          5, 1 cut off in their last step",
        "steps         16: 10 right, 1 wrong, 2 soft, 3 without a label",
        "first error   none: 2, step 3: 1, later: 1, 1 without a label",
    ]
