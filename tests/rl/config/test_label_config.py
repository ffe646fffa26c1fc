"""Stages that label steps in a recipe: what they may refer to, and who learns from them."""

import copy
from pathlib import Path
from typing import Any

import pytest
from recipe_lab import SMALL, message, write

from data.tasks.judge.question import MARKER, JudgeFormat
from rl.config import load_recipe
from rl.config.judges import judge_setting
from rl.config.labels import JudgeLabels
from rl.config.stages import LabelStage, samples
from rl.config.task import JudgeTask
from rl.preflight.check import ensure_runnable
from rl.preflight.hardware import Machine
from rollout.protocols.sequential import SequentialParams

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


JUDGE_STAGES: list[dict[str, Any]] = [
    {"name": "rl", "kind": "rl", "steps": 2, "groups_per_step": 2, "samples_per_group": 2,
     "learning_rate": 1e-4},
    {"name": "mc", "kind": "label_steps", "source": {"stages": ["rl"]}, "step": "paragraph",
     "by": {"kind": "monte_carlo"}},
    {"name": "judge", "kind": "rl", "steps": 2, "groups_per_step": 2, "samples_per_group": 2,
     "learning_rate": 1e-4, "start": "start", "task": {"name": "judge", "params": {"stage": "mc"}},
     "protocol": {"name": "sequential", "max_tokens": 77, "answer": {"kind": "boxed"}}},
    {"name": "judged", "kind": "label_steps", "source": {"stages": ["rl"]}, "step": "paragraph",
     "by": {"kind": "judge", "completions": 4}},
    {"name": "more", "kind": "rl", "steps": 2, "groups_per_step": 2, "samples_per_group": 2,
     "learning_rate": 1e-4, "start": "rl"},
]  # fmt: skip


def judging(tmp_path: Path, **changes: dict[str, Any]) -> Path:
    """A chat model's recipe that trains a judge on its own labels; `changes` are merged by stage."""
    (tmp_path / "rows.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    stages = [{**stage, **changes.get(str(stage["name"]), {})} for stage in JUDGE_STAGES]
    content = copy.deepcopy(SMALL) | {
        "task": {"name": "dataset", "params": {"train": str(tmp_path / "rows.jsonl")}, "verifier": "gsm8k"},
        "model": {"kind": "pretrained", "path": "somewhere", "max_length": 2048},
        "protocol": {"name": "sequential"}, "stages": stages,
    }  # fmt: skip
    return write(tmp_path, content)


def test_a_judge_is_asked_as_it_was_trained(tmp_path: Path) -> None:
    recipe = load_recipe(judging(tmp_path))
    judged = recipe.stage("judged")
    assert isinstance(judged, LabelStage) and isinstance(judged.by, JudgeLabels)
    found = judge_setting(recipe, judged, judged.by)
    assert found.trained_by == "judge" and found.protocol == recipe.protocol_of(recipe.stage("judge"))
    own = judged.by.model_copy(update={"checkpoint": "rl", "max_tokens": 99})
    other = judge_setting(recipe, judged, own)
    assert other.trained_by is None
    assert isinstance(other.protocol, SequentialParams) and other.protocol.max_tokens == 99
    assert other.format == JudgeFormat() and other.protocol.answer.markers == (MARKER,)
    assert [recipe.begins_with(recipe.stage(name)) for name in ("rl", "judge", "judged", "more")] == [
        "start", "start", "judge", "rl",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"judge": {"task": {"name": "judge", "params": {"stage": "mcc"}}}},
         ("judge.task.params.stage = 'mcc'", "did you mean 'mc'?")),
        ({"judge": {"task": {"name": "judge", "params": {}}}}, ("judge.task.params", "stage or a file")),
        ({"judge": {"task": {"name": "judge", "params": {"stage": "mc", "marks": "half"}}}},
         ("marks = 'half'", "first_error")),
        ({"judged": {"by": {"kind": "judge", "max_tokens": 5}}},
         ("judged.by.max_tokens = 5", "stage judge has trained the judge", "leave it out")),
        ({"judged": {"by": {"kind": "judge", "checkpoint": "rl", "path": "there"}}},
         ("judged.by.path", "two places")),
        ({"more": {"start": "rll"}}, ("more.start = 'rll'", "did you mean 'rl'?")),
        ({"more": {"start": "more"}}, ("more.start = 'more'", "no earlier sft or rl stage")),
        ({"judge": {"start": "more"}}, ("judge.start = 'more'", "that stage comes later")),
    ],
)  # fmt: skip
def test_what_a_judge_is_refused(
    tmp_path: Path, changes: dict[str, dict[str, Any]], words: tuple[str, ...]
) -> None:
    said = message(judging(tmp_path, **changes))
    for word in words:
        assert word in said


def test_the_paths_of_a_judge_are_relative_to_the_recipe(tmp_path: Path) -> None:
    task = {"name": "judge", "params": {"file": "labels.jsonl"}}
    changes = {"judge": {"task": task}, "judged": {"by": {"kind": "judge", "path": "there"}}}
    recipe = load_recipe(judging(tmp_path, **changes))
    config, judged = recipe.task_of(recipe.stage("judge")), recipe.stage("judged")
    assert isinstance(config, JudgeTask) and config.params.file == tmp_path / "labels.jsonl"
    assert isinstance(judged, LabelStage) and isinstance(judged.by, JudgeLabels)
    assert judged.by.path == tmp_path / "there"
    assert judge_setting(recipe, judged, judged.by).trained_by is None
