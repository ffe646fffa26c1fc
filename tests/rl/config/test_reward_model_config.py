"""Reward model stages in a recipe: what they may refer to, and that the policy's stages do not see them."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from recipe_lab import SMALL, message, write

from data.errors import ConfigError
from rl.config import load_recipe
from rl.preflight.check import ensure_runnable
from rl.preflight.hardware import Machine
from rl.storage.run_directory import RunDirectory, previous_model

LAPTOP = Machine(
    cores=2, memory_gb=8, free_gb=6, shared_free_gb=4, disk_free_gb=50, cpu="made up",
    cpu_flags=frozenset({"avx2"}),
)  # fmt: skip
PRM = {
    "name": "prm", "kind": "reward_model", "steps": 100, "tokens_per_step": 1024, "forest_tokens": 256,
    "learning_rate": 0.01, "source": {"stages": ["rl"]},
}  # fmt: skip


def recipe_with(tmp_path: Path, stage: dict[str, Any], **changes: Any) -> Path:
    """The small recipe with a reward model behind its rl stage."""
    content = copy.deepcopy(SMALL) | changes
    content["stages"].insert(2, stage)
    return write(tmp_path, content)


def test_it_is_trained_and_is_no_stage_of_the_policy(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_with(tmp_path, PRM))
    assert [stage.name for stage in recipe.training_stages()] == ["sft", "rl", "prm"]
    assert [stage.name for stage in recipe.policy_stages()] == ["sft", "rl"]
    stage = recipe.stage("prm")
    assert stage.kind == "reward_model" and (stage.target, stage.step, stage.label) == (
        "steps", "line", "reachable",
    )  # fmt: skip


def test_what_comes_behind_it_goes_on_from_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = copy.deepcopy(SMALL)
    content["stages"].insert(1, PRM | {"source": {"files": ["a.episodes.jsonl.gz"]}})
    recipe = load_recipe(write(tmp_path, content))
    monkeypatch.setattr(RunDirectory, "model", lambda self, name: Path(name))
    directory = RunDirectory(tmp_path / "run")
    assert previous_model(recipe, directory, recipe.stage("prm")) == Path("sft")
    assert previous_model(recipe, directory, recipe.stage("rl")) == Path("sft")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": {}}, ("prm.source", "names no episodes")),
        ({"source": {"stages": ["eval"]}}, ("prm.source.stages = 'eval'", "that stage comes later")),
        ({"source": {"stages": ["sft"]}}, ("an sft stage records no episodes", "name an rl stage")),
        ({"start": "rll"}, ("prm.start = 'rll'", "did you mean 'rl'?")),
        ({"start": "prm"}, ("prm.start = 'prm'", "no earlier sft or rl stage")),
        ({"tokens_per_step": 1000}, ("prm.tokens_per_step = 1000", "use 1024")),
        ({"warmup_steps": 100}, ("prm.warmup_steps = 100", "never reach its peak")),
        ({"held_out_percent": 0}, ("prm.held_out_percent = 0", "must be at least 1")),
        ({"lora": {"rank": 0}}, ("prm.lora.rank = 0", "must be at least 1")),
        ({"loss": {"kind": "bradley_terry"}}, ("prm.loss.kind", "compares whole answers", "target: outcome")),
        ({"target": "outcome", "loss": "bt"}, ("prm.loss", "bradley_terry")),
        ({"loss": {"kind": "binary", "margin": 1}}, ("prm.loss.margin", "there is no such key")),
        ({"preferences": ["a.jsonl"]}, ("say which whole answer is better", "prm.target: outcome")),
        (
            {"target": "outcome", "preferences": ["a.jsonl"]},
            ("prm.source", "second source of answers", "leave source out"),
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, change: dict[str, Any], words: tuple[str, ...]) -> None:
    said = message(recipe_with(tmp_path, PRM | change))
    for word in words:
        assert word in said


def test_better_and_worse_answers_of_a_file(tmp_path: Path) -> None:
    """The check counts them, and names the row that is wrong."""
    file = tmp_path / "prefs.jsonl"
    row = {"prompt": "41 10 9", "chosen": " 41", "rejected": " 9"}
    file.write_text(json.dumps(row) + "\n" + json.dumps(row | {"chosen": " 10", "margin": 0.5}) + "\n")
    stage = PRM | {
        "target": "outcome", "source": {}, "preferences": ["*.jsonl"], "loss": "bradley_terry",
        "lora": {"rank": 4},
    }  # fmt: skip
    path = recipe_with(tmp_path, stage)
    results = ensure_runnable(load_recipe(path), machine=LAPTOP)
    found = {result.about: result.found for result in results}
    assert found["stage prm"] == "compares 2 pairs (2 of text), 1 prompts, 1 margins"
    file.write_text(json.dumps({"prompt": "a", "chosen": "b"}) + "\n")
    with pytest.raises(
        ConfigError, match=r"(?s)prm\.preferences\.0 = .*prefs\.jsonl, row 0: has no rejected"
    ):
        ensure_runnable(load_recipe(path), machine=LAPTOP)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    others = [turns[0], {"role": "assistant", "content": "c"}]
    file.write_text(json.dumps({"chosen": turns, "rejected": others}) + "\n")
    with pytest.raises(ConfigError, match="a model from random weights has no chat template"):
        ensure_runnable(load_recipe(path), machine=LAPTOP)


def test_a_task_without_labels_is_for_outcomes(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    own = {
        "task": {"name": "dataset", "params": {"train": str(rows)}, "verifier": "gsm8k"},
        "model": {"kind": "pretrained", "path": "somewhere", "max_length": 512},
        "protocol": {"name": "sequential"},
        "stages": [stage for stage in copy.deepcopy(SMALL)["stages"] if stage["name"] == "rl"],
    }
    content = copy.deepcopy(SMALL) | own
    content["stages"].append(PRM)
    said = message(write(tmp_path, content))
    assert "prm.target = 'steps': task dataset does not label its steps" in said
    assert "async_plan, countdown, parts, sudoku" in said
    content["stages"][-1] = PRM | {"target": "outcome"}
    assert load_recipe(write(tmp_path, content)).stage("prm").kind == "reward_model"


def test_the_check_looks_for_its_files(tmp_path: Path) -> None:
    source = {"stages": ["rl"], "files": ["records/*.episodes.jsonl.gz"]}
    path = recipe_with(tmp_path, PRM | {"source": source})
    with pytest.raises(ConfigError, match=r"prm\.source\.files\.0 = .*there is no such episode record"):
        ensure_runnable(load_recipe(path), machine=LAPTOP)
    found = ensure_runnable(load_recipe(path, ["prm.source.files=[]"]), machine=LAPTOP)
    assert {result.about: result.found for result in found}["stage prm"] == "labels stage rl"


def test_evaluation_and_export_do_not_take_it_for_a_policy(tmp_path: Path) -> None:
    content = copy.deepcopy(SMALL)
    content["stages"].insert(2, PRM)
    content["stages"][3]["checkpoints"] = ["prm"]
    assert "no earlier sft or rl stage has this name" in message(write(tmp_path, content))


SCORED = [{"name": "correct"}, {"name": "process", "source": "scorer"}]


def with_scorer(tmp_path: Path, scorer: dict[str, Any] | None, *, before: bool = True) -> Path:
    """A reward model between two rl stages; the rewards of one of them take its opinion."""
    content = copy.deepcopy(SMALL) | ({} if scorer is None else {"scorer": scorer})
    content["stages"][2:2] = [PRM, {**content["stages"][1], "name": "guided"}]
    content["stages"][3 if before else 1]["rewards"] = SCORED
    return write(tmp_path, content)


def test_a_scorer_that_is_trained_before_it_is_asked(tmp_path: Path) -> None:
    recipe = load_recipe(with_scorer(tmp_path, {"stage": "prm"}))
    assert [stage.name for stage in recipe.stages if recipe.is_scored(stage)] == ["guided"]
    found = {result.about: result.found for result in ensure_runnable(recipe, machine=LAPTOP)}
    assert found["scorer"].startswith("about 0.7 GiB")
    plain = ensure_runnable(
        load_recipe(with_scorer(tmp_path, {"stage": "prm"}), ["guided.rewards=null"]), machine=LAPTOP
    )
    assert "scorer" not in {result.about for result in plain}


@pytest.mark.parametrize(
    ("scorer", "before", "words"),
    [
        (None, True, ("scorer", "stage 'guided' take a scorer's opinion", "scorer: {stage: prm}")),
        ({}, True, ("takes either the name of a stage, a directory, or the task's labels",)),
        ({"stage": "prm", "path": "x"}, True, ("not both",)),
        ({"stage": "prn"}, True, ("scorer.stage = 'prn'", "did you mean 'prm'?")),
        ({"stage": "rl"}, True, ("no stage of this name trains a reward model or a judge",)),
        ({"stage": "prm"}, False, ("comes behind stage 'rl'", "give rl rewards of its own")),
        ({"stage": "prm", "seconds": 0}, True, ("scorer.seconds = 0", "more than 0")),
    ],
)
def test_scorers_that_cannot_be_asked(
    tmp_path: Path, scorer: dict[str, Any] | None, before: bool, words: tuple[str, ...]
) -> None:
    said = message(with_scorer(tmp_path, scorer, before=before))
    for word in words:
        assert word in said


def test_a_scorer_of_whole_answers_gives_one_value(tmp_path: Path) -> None:
    content = copy.deepcopy(SMALL) | {"scorer": {"stage": "orm"}}
    orm = PRM | {"name": "orm", "target": "outcome"}
    content["stages"][2:2] = [orm, {**content["stages"][1], "name": "guided", "rewards": SCORED}]
    said = message(write(tmp_path, content))
    assert "guided.rewards.process.aggregate = 'difference': compares steps" in said
    assert "set aggregate: last" in said
    content["stages"][3]["rewards"] = [SCORED[0], SCORED[1] | {"aggregate": "last"}]
    recipe = load_recipe(write(tmp_path, content))
    assert [stage.name for stage in recipe.stages if recipe.is_scored(stage)] == ["guided"]


def test_a_directory_without_weights(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    recipe = load_recipe(with_scorer(tmp_path, {"path": "model"}))
    with pytest.raises(ConfigError, match=r"scorer\.path = .*holds no config\.json"):
        ensure_runnable(recipe, machine=LAPTOP)


def searching(tmp_path: Path, scorer: dict[str, Any] | None, protocol: str = "beam", **changes: Any) -> Path:
    """A recipe whose rl stage is sampled by a search."""
    content = copy.deepcopy(SMALL) | ({} if scorer is None else {"scorer": scorer}) | changes
    content["stages"][1]["protocol"] = {"name": protocol, "chain_tokens": 100}
    return write(tmp_path, content)


def test_a_search_needs_a_scorer_and_may_take_the_labels_of_the_task(tmp_path: Path) -> None:
    recipe = load_recipe(searching(tmp_path, {"labels": "both"}))
    assert [stage.name for stage in recipe.stages if recipe.is_searched(stage)] == ["rl"]
    assert not any(map(recipe.is_scored, recipe.stages))
    found = {result.about: result.found for result in ensure_runnable(recipe, machine=LAPTOP)}
    assert "scorer" in found
    missing = message(searching(tmp_path, None))
    assert "the protocol of stage 'rl', beam, asks a scorer, and there is none" in missing
    assert "scorer: {labels: both}" in missing
    assert "not both" in message(searching(tmp_path, {"labels": "both", "path": "x"}))
    behind = copy.deepcopy(SMALL) | {"scorer": {"stage": "prm"}}
    behind["stages"][1]["protocol"] = {"name": "dvts", "chain_tokens": 100}
    behind["stages"].insert(2, {**PRM, "protocol": behind["stages"][1]["protocol"]})
    found_message = message(write(tmp_path, behind))
    assert "comes behind stage 'rl', whose protocol asks it" in found_message
    assert "give rl another protocol" in found_message
