"""Rows measured with a real model's tokenizer: length policy, the run's own copy, what check says."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_data import gsm8k_rows, write_rows
from recipe_lab import write

from data.errors import ConfigError
from data.tasks.dataset.loading import prompt_of
from data.tasks.dataset.params import Source
from data.tasks.dataset.sources import PlacedRow, read_source
from data.tasks.problem import Problem, load_problems
from data.text.codec import Codec
from rl.config import Recipe, load_recipe
from rl.config.codec import make_codec
from rl.config.task import DatasetTask
from rl.preflight.dataset_check import check_datasets
from rl.preflight.verifier_check import check_verifiers
from rl.problems import Datasets, length_limits, load_dataset
from rl.stages.context import RunContext, prepare
from rl.storage.run_directory import RunDirectory
from rollout.protocols import build_protocol

ROOT = Path(__file__).parents[2]
Make = Callable[..., Recipe]


@pytest.fixture
def own(tmp_path: Path, smollm2: Path) -> Make:
    """A function that makes a recipe for these rows and settings of the task."""

    def make(rows: list[dict[str, Any]], **params: Any) -> Recipe:
        write_rows(tmp_path / "mine.jsonl", rows)
        content = {
            "name": "mine",
            "task": {"name": "dataset", "params": {"train": "mine.jsonl", **params}, "verifier": "exact"},
            "model": {"kind": "pretrained", "path": str(smollm2), "max_length": 1024},
            "protocol": {"name": "self_consistency"},
            "rewards": [{"name": "correct"}],
            "stages": [
                {"name": "rl", "kind": "rl", "steps": 2, "groups_per_step": 2, "samples_per_group": 2,
                 "learning_rate": 0.00001},
            ],
        }  # fmt: skip
        return load_recipe(write(tmp_path, content))

    return make


def tokens(recipe: Recipe, codec: Codec) -> Callable[[str], int]:
    """Length of a prompt as the recipe's protocol sends it."""
    assert isinstance(recipe.task, DatasetTask)
    config = recipe.task.model_copy(
        update={"params": recipe.task.params.model_copy(update={"max_prompt_tokens": 1})}
    )
    sent = length_limits([build_protocol(recipe.protocol, codec)], 1024, config)[0]
    return lambda text: sent.measure(prompt_of(_problem(text)))


def _problem(text: str) -> Any:
    return Problem("p", "dataset", {"prompt": text, "history": []})


@pytest.mark.medium
def test_prompts_of_exactly_the_limit_one_more_and_ten_times_as_many(own: Make) -> None:
    base = gsm8k_rows(3)
    codec = make_codec(own(base))
    measure = tokens(own(base), codec)
    limit = measure(base[0]["question"]) + 40
    texts = []
    for wanted in (limit, limit + 1, 10 * limit):
        text = base[0]["question"]
        while measure(text) < wanted:
            text += " and" * (wanted - measure(text))
        assert measure(text) == wanted
        texts.append(text)
    rows = [*base[1:], *({"question": text, "answer": "#### 1"} for text in texts)]

    def loaded(**params: Any) -> Any:
        recipe = own(rows, max_prompt_tokens=limit, **params)
        assert isinstance(recipe.task, DatasetTask)
        return load_dataset(recipe, recipe.task, codec)["train"]

    with pytest.raises(ConfigError) as error:
        loaded()
    said = str(error.value)
    assert (
        f"mine.jsonl, row 4: {10 * limit} tokens; " in said
        and f"mine.jsonl, row 3: {limit + 1} tokens" in said
    )
    assert f"task.params.max_prompt_tokens = {limit} allows (2 of 5 rows)" in said
    assert "fix: raise task.params.max_prompt_tokens, or use task.params.on_long: drop" in said

    with pytest.raises(ConfigError, match=r"2 of 5 prompts are longer than .* most_dropped is 0.1"):
        loaded(on_long="drop")
    dropped = loaded(on_long="drop", most_dropped=0.4)
    assert [placed.problem.id for placed in dropped.problems] == ["row-0", "row-1", "row-2"]
    assert dropped.counts()["dropped"] == {f"longer than task.params.max_prompt_tokens = {limit} allows": 2}

    cut = loaded(on_long="cut")
    kept = [placed.problem.fields["prompt"] for placed in cut.problems]
    assert cut.cut == 2 and kept[:3] == [rows[0]["question"], rows[1]["question"], texts[0]]
    assert all(
        long.startswith(short) and measure(short) == limit
        for long, short in zip(texts[1:], kept[3:], strict=True)
    )


@pytest.mark.medium
def test_without_a_limit_the_models_context_is_one(own: Make) -> None:
    rows = [*gsm8k_rows(3), {"question": "and " * 2000, "answer": "#### 1"}]
    with pytest.raises(ConfigError, match=r"row 3: \d+ tokens, more than model.max_length = 1024 allows"):
        next(check_datasets(own(rows)))


def test_a_row_whose_roles_the_template_refuses_is_named(own: Make, tmp_path: Path, smollm2: Path) -> None:
    strict = tmp_path / "strict"
    strict.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (strict / name).write_bytes((smollm2 / name).read_bytes())
    (strict / "chat_template.jinja").write_text(
        "{% for m in messages %}"
        "{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    recipe = own([{"prompt": "q", "answer": "1"}, {"prompt": turns, "answer": "1"}])
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"path": strict})})
    with pytest.raises(ConfigError, match=r"mine.jsonl, row 1: .*no system"):
        next(check_datasets(recipe))


@pytest.mark.medium
def test_the_run_keeps_rows_and_counts(own: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*gsm8k_rows(60), gsm8k_rows(1)[0]]
    recipe = own(rows, validation_percent=20)
    directory = RunDirectory(tmp_path / "run")
    directory.start.mkdir(parents=True)
    (directory.start / "config.json").write_text("{}")  # the initial weights are there already
    missing: Any = None
    prepare(recipe, directory, missing)
    counts = json.loads((tmp_path / "run" / "problems" / "dataset.json").read_text())
    assert "left out: 1 duplicates" in capsys.readouterr().out
    assert counts["train"]["layout"] == "gsm8k"
    assert counts["train"]["rows"] + counts["validation"]["rows"] == 61
    assert counts["train"]["problems"] + counts["validation"]["problems"] == 60
    context = RunContext(recipe, directory, missing, missing, missing)
    (tmp_path / "mine.jsonl").unlink()  # the run has its own copy
    problems = context.problems(recipe.stages[0], "train")
    assert problems == load_problems(tmp_path / "run" / "problems" / "train.jsonl")
    assert len(problems) == counts["train"]["problems"]


@pytest.mark.medium
def test_check_says_what_becomes_of_the_rows(own: Make) -> None:
    rows = [*gsm8k_rows(60), gsm8k_rows(1)[0]]
    line = next(check_datasets(own(rows)))
    assert line.about == "train rows"
    assert "60 of 61 rows of" in line.found and "(layout gsm8k); left out: 1 duplicates" in line.found


@pytest.mark.medium
def test_the_recipe_of_the_readme(tmp_path: Path, smollm2: Path) -> None:
    section = (ROOT / "README.md").read_text().split("## Your own data")[1]
    recipe = section.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "own.yaml").write_text(recipe)
    (tmp_path / "models").symlink_to(smollm2.parent)
    write_rows(tmp_path / "own.jsonl")
    recipe = load_recipe(tmp_path / "own.yaml")
    lines = {line.about: line.found for line in check_datasets(recipe)}
    assert lines["train rows"].startswith("183 of 183 rows") and lines["test rows"].startswith(
        "17 of 17 rows"
    )
    assert [line.found for line in check_verifiers(recipe)] == [
        "train: 183 of 183 gold answers verify against themselves",
        "test: 17 of 17 gold answers verify against themselves",
    ]


@pytest.mark.medium
def test_check_reads_every_source_once(own: Make, tmp_path: Path) -> None:
    """Rows are measured, shown and verified; another stage has the same training rows and its own test."""
    write_rows(tmp_path / "test.jsonl", gsm8k_rows(5, seed=1))
    recipe = own(gsm8k_rows(20))
    assert isinstance(recipe.task, DatasetTask)
    source = Source(file=tmp_path / "test.jsonl")
    params = recipe.task.params.model_copy(update={"test": source, "overlap": "drop"})
    other = recipe.stages[0].model_copy(update={"task": recipe.task.model_copy(update={"params": params})})
    recipe = recipe.model_copy(update={"stages": (*recipe.stages, other)})
    read: Counter[str] = Counter()

    def counted(source: Source, split: str) -> list[PlacedRow]:
        read[f"{source.file and source.file.name} {split}"] += 1
        return read_source(source, split)

    datasets = Datasets(recipe, counted)
    shown = [line.about for line in check_datasets(recipe, datasets)]
    graded = [line.found for line in check_verifiers(recipe, datasets)]
    assert shown.count("train rows") == 2 and shown.count("test rows") == 1
    assert len(graded) == 3 and graded[-1] == "test: 5 of 5 gold answers verify against themselves"
    assert read == {"mine.jsonl train": 1, "test.jsonl test": 1}
