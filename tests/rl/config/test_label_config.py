"""Stages that label steps in a recipe: what they may refer to, and who learns from them."""

import copy
from pathlib import Path
from typing import Any

import pytest
from recipe_lab import SMALL, message, write

from rl.config import load_recipe
from rl.config.stages import LabelStage, samples
from rl.preflight.check import ensure_runnable
from rl.preflight.hardware import Machine

LAPTOP = Machine(
    cores=2, memory_gb=8, free_gb=6, shared_free_gb=4, disk_free_gb=50, cpu="made up",
    cpu_flags=frozenset({"avx2"}),
)  # fmt: skip
MC = {"name": "mc", "kind": "label_steps", "source": {"stages": ["rl"]}, "by": {"kind": "monte_carlo"}}
HUMAN = {"name": "human", "kind": "label_steps", "source": {"stages": ["rl"]},
         "by": {"kind": "file", "path": "human.jsonl"}}  # fmt: skip
BOTH = {"name": "both", "kind": "label_steps", "by": {"kind": "consensus", "stages": ["mc", "human"]}}
PRM = {
    "name": "prm", "kind": "reward_model", "steps": 100, "tokens_per_step": 1024, "forest_tokens": 256,
    "learning_rate": 0.01, "labels": "both",
}  # fmt: skip


def recipe_with(tmp_path: Path, *changes: dict[str, Any]) -> Path:
    """The small recipe with three labellings and a reward model; `changes` are merged by name."""
    content, stages = copy.deepcopy(SMALL), [MC, HUMAN, BOTH, PRM]
    by_name = {change["name"]: change for change in changes}
    content["stages"][2:2] = [{**stage, **by_name.get(str(stage["name"]), {})} for stage in stages]
    return write(tmp_path, content)


def test_labels_flow_from_stage_to_stage(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_with(tmp_path))
    mc, human = recipe.stage("mc"), recipe.stage("human")
    assert isinstance(mc, LabelStage) and isinstance(human, LabelStage)
    assert mc.by.kind == "monte_carlo" and (mc.by.completions, mc.by.search, mc.by.estimate) == (
        8,
        "all",
        "soft",
    )
    assert human.by.kind == "file" and human.by.path == tmp_path / "human.jsonl", "relative to the recipe"
    assert samples(mc) and not samples(human) and not samples(recipe.stage("both"))
    found = {each.about: each.found for each in ensure_runnable(recipe, machine=LAPTOP)}
    assert found["stage mc"] == "labels stage rl"
    assert found["stage both"] == "labels stage mc, stage human"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "mc", "source": {}}, ("mc.source", "names no episodes")),
        ({"name": "mc", "source": {"stages": ["sft"]}}, ("an sft stage records no episodes",)),
        ({"name": "mc", "by": {"kind": "oracle"}}, ("mc.by.kind = 'oracle'", "monte_carlo")),
        ({"name": "mc", "by": {"kind": "monte_carlo", "completions": 0}}, ("mc.by.completions = 0",)),
        ({"name": "mc", "by": {"kind": "monte_carlo", "checkpoint": "rll"}},
         ("mc.by.checkpoint = 'rll'", "did you mean 'rl'?")),
        ({"name": "human", "by": {"kind": "file"}}, ("human.by.path",)),
        ({"name": "both", "by": {"kind": "consensus", "stages": ["mc", "humans"]}},
         ("both.by.stages = 'humans'", "did you mean 'human'?")),
        ({"name": "both", "by": {"kind": "consensus", "stages": ["mc", "mc"]}}, ("names a stage twice",)),
        ({"name": "both", "source": {"stages": ["rl"]}}, ("both.source", "has no use")),
        ({"name": "both", "step": "paragraph"}, ("both.step = 'paragraph'", "set both.step: line")),
        ({"name": "prm", "labels": "bath"}, ("prm.labels = 'bath'", "did you mean 'both'?")),
        ({"name": "prm", "target": "outcome"}, ("this stage learns outcomes", "set target: steps")),
        ({"name": "prm", "step": "call"}, ("both labels steps of the kind line", "set prm.step: line")),
        ({"name": "prm", "source": {"stages": ["rl"]}}, ("prm.source", "those that both labelled")),
        ({"name": "prm", "labels": None}, ("prm.source", "names no episodes")),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, change: dict[str, Any], words: tuple[str, ...]) -> None:
    said = message(recipe_with(tmp_path, change))
    for word in words:
        assert word in said


def test_a_task_without_lines_is_labelled_by_paragraph(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    own = {
        "task": {"name": "dataset", "params": {"train": str(tmp_path / "rows.jsonl")}, "verifier": "gsm8k"},
        "model": {"kind": "pretrained", "path": "somewhere", "max_length": 512},
        "protocol": {"name": "sequential"},
    }
    content = copy.deepcopy(SMALL) | own
    rl = next(stage for stage in content["stages"] if stage["name"] == "rl")
    content["stages"] = [rl, MC, {**PRM, "labels": "mc"}]
    assert "mc.step = 'line': task dataset does not say what a line" in message(write(tmp_path, content))
    content["stages"] = [rl, {**MC, "step": "paragraph"}, {**PRM, "labels": "mc", "step": "paragraph"}]
    assert load_recipe(write(tmp_path, content)).stage("prm").kind == "reward_model"


def test_a_judge_needs_words(tmp_path: Path) -> None:
    said = message(recipe_with(tmp_path, {"name": "mc", "by": {"kind": "judge"}}))
    assert "mc.by.kind = 'judge'" in said and "use a pretrained model" in said
