"""`braid check` tries the verifier on the recipe's own rows, in real processes."""

import json
import re
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from data.errors import ConfigError
from rl.config import load_recipe
from rl.config.model import PretrainedModel
from rl.config.recipe import Recipe
from rl.config.task import TaskConfig
from rl.preflight.verifier_check import check_verifiers

PARTS = Path(__file__).parents[3] / "recipes" / "parts_cpu.yaml"
TASK: TypeAdapter[TaskConfig] = TypeAdapter(TaskConfig)
SMALL = ["task.train_problems=30", "task.validation_problems=5", "task.test_problems=5"]


def rows(path: Path, golds: list[str]) -> Path:
    lines = [json.dumps({"prompt": f"What is question {n}?", "answer": gold}) for n, gold in enumerate(golds)]
    path.write_text("\n".join(lines) + "\n")
    return path


def with_rows(path: Path, verifier: str, model: Path) -> Recipe:
    task = {"name": "dataset", "verifier": {"name": verifier}, "params": {
        "train": {"file": str(path)}, "columns": {"prompt": "prompt", "answer": "answer"},
        "validation_percent": 0, "test_percent": 0,
    }}  # fmt: skip
    # The check of a verifier needs no stage; this recipe never runs.
    pretrained = PretrainedModel(kind="pretrained", path=model)
    changed = {"task": TASK.validate_json(json.dumps(task)), "stages": (), "model": pretrained}
    return load_recipe(PARTS, SMALL).model_copy(update=changed)


def found(recipe: Recipe) -> list[str]:
    return [result.found for result in check_verifiers(recipe)]


@pytest.mark.medium
def test_golds_of_a_generated_task_verify_against_themselves() -> None:
    recipe = load_recipe(PARTS, [*SMALL, "task.verifier=math"])
    assert found(recipe) == [
        f"{split}: {count} of {count} gold answers verify against themselves"
        for split, count in (("train", 30), ("validation", 5), ("test", 5))
    ]


def test_no_verifier_is_nothing_to_check() -> None:
    assert found(load_recipe(PARTS, SMALL)) == []


@pytest.mark.medium
def test_rows_whose_gold_does_not_verify_are_listed(tmp_path: Path, smollm2: Path) -> None:
    path = rows(tmp_path / "train.jsonl", [str(n) for n in range(18)] + ["{", "about five"])
    with pytest.raises(ConfigError) as caught:
        found(with_rows(path, "numeric", smollm2))
    text = str(caught.value)
    assert (
        "task.verifier = 'numeric': 18 of 20 gold answers verify against themselves (train), fewer than 95%"
        in text
    )
    assert "row 18 ('{': the gold answer '{' is no number)" in text and "row 19" in text
    assert "\n  fix: take the verifier that fits" in text


@pytest.mark.medium
def test_a_few_bad_rows_are_shown_and_accepted(tmp_path: Path, smollm2: Path) -> None:
    path = rows(tmp_path / "train.jsonl", [str(n) for n in range(39)] + ["{"])
    (line,) = found(with_rows(path, "numeric", smollm2))
    assert line.startswith("train: 39 of 40 gold answers verify against themselves; not ")
    assert "row 39" in line


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def f(answer): return float('nan')", "ResultError: it returned float nan"),
        ("def f(answers): return 1.0", "f returned float 1.0 for 2 answers, not a list"),
        ("def f(answer): return None", "it cannot grade this problem"),
        ("def f(answer) return True", "SyntaxError"),
    ],
)
def test_a_function_that_grades_nothing_is_refused(tmp_path: Path, code: str, reason: str) -> None:
    (tmp_path / "own.py").write_text(code + "\n")
    recipe = load_recipe(PARTS, [*SMALL, f"task.verifier={{python: {tmp_path / 'own.py'}:f}}"])
    with pytest.raises(ConfigError, match=re.escape(reason)):
        found(recipe)


def test_a_function_that_grades_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("async def f(answer, gold): return answer == gold\n")
    recipe = load_recipe(PARTS, [*SMALL, f"task.verifier={{python: {tmp_path / 'own.py'}:f}}"])
    assert found(recipe)[0] == "train: 20 of 20 rows can be graded"
