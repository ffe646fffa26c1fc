"""Judges in a recipe: what they learn from, how they are asked, and who may score."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from judge_lab import JUDGE_STAGES, judging
from recipe_lab import SMALL, message, write

from data.tasks.judge.question import MARKER, JudgeFormat
from rl.config import load_recipe
from rl.config.judges import judge_setting, scoring_judge
from rl.config.labels import JudgeLabels
from rl.config.stages import LabelStage
from rl.config.task import JudgeTask
from rollout.protocols.sequential import SequentialParams


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
        ({"judged": {"by": {"kind": "judge", "keep": 1}}}, ("judged.by.keep = 1", "give judged.by.meta")),
        ({"judged": {"by": {"kind": "judge", "meta": "mc", "completions": 4}}},
         ("judged.by.meta = 'mc'", "learned outcomes on task judge")),
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


SILENT = {"name": "judge", "params": {"stage": "mc", "format": {"words": "none"}}}
PROCESS = [{"name": "correct"}, {"name": "process", "source": "scorer"}]
GUIDED: dict[str, dict[str, Any]] = {
    "judge": {"task": SILENT, "rewards": [{"name": "verifier_score"}]}, "judged": {"by": {"kind": "judge"}},
    "more": {"start": "start", "rewards": PROCESS},
}  # fmt: skip


def test_a_judge_without_words_scores(tmp_path: Path) -> None:
    path = judging(tmp_path, **GUIDED)
    recipe = load_recipe(path, ["scorer={stage: judge, step: paragraph}"])
    found = scoring_judge(recipe)
    assert found is not None and found.trained_by == "judge" and found.format.words == "none"
    by_path = load_recipe(path, ["scorer={path: there, judge: {words: none}}"])
    found = scoring_judge(by_path)
    assert found is not None and found.trained_by is None and found.protocol.name == "sequential"
    assert scoring_judge(load_recipe(judging(tmp_path))) is None


@pytest.mark.parametrize(
    ("scorer", "changes", "words"),
    [
        ("{stage: judge}", {"judge": {"task": {"name": "judge", "params": {"stage": "mc"}}}},
         ("scorer.stage = 'judge'", "writes words before", "by: {kind: judge}")),
        ("{stage: jugde}", {}, ("scorer.stage = 'jugde'", "did you mean 'judge'?")),
        ("{stage: rl}", {}, ("scorer.stage = 'rl'", "trains a reward model or a judge")),
        ("{path: there, judge: {}}", {}, ("scorer.judge", "writes words before")),
        ("{stage: judge, judge: {words: none}}", {}, ("scorer", "there is none")),
        ("{stage: judge, target: outcome}", {}, ("scorer.target", "which scores steps")),
        ("{stage: judge}", {"rl": {"rewards": PROCESS}}, ("scorer.stage", "comes behind stage 'rl'")),
        ("{stage: judge}", {"more": {"protocol": {"name": "beam"}}},
         ("scorer.stage", "the protocol of stage 'more' searches")),
    ],
)  # fmt: skip
def test_which_judge_may_not_score(
    tmp_path: Path, scorer: str, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    said = message(judging(tmp_path, **{**GUIDED, **changes}), f"scorer={scorer}")
    for word in words:
        assert word in said


def test_gold_answers_to_imitate(tmp_path: Path) -> None:
    sft: dict[str, Any] = {
        "kind": "sft", "steps": 60, "tokens_per_step": 512, "forest_tokens": 512, "learning_rate": 1e-3,
        "source": {"kind": "gold"},
    }  # fmt: skip
    path = judging(tmp_path)
    stages = [*JUDGE_STAGES[:2], {"name": "sft", **sft, "task": SILENT}]
    recipe = load_recipe(path, [f"stages={json.dumps(stages)}"])
    assert recipe.stage("sft").source.kind == "gold"  # type: ignore[union-attr]
    stages[-1]["protocol"] = {"name": "best_of_n"}
    said = message(path, f"stages={json.dumps(stages)}")
    assert "sft.source.kind = 'gold'" in said and "give sft the protocol sequential" in said
    said = message(write(tmp_path, copy.deepcopy(SMALL)), 'sft.source={"kind": "gold"}')
    assert "task countdown has no gold answers" in said


def test_a_meta_judge_is_a_reward_model_of_judgements(tmp_path: Path) -> None:
    meta = {
        "name": "meta", "kind": "reward_model", "target": "outcome", "step": "call", "steps": 60,
        "tokens_per_step": 512, "forest_tokens": 512, "learning_rate": 1e-3, "source": {"stages": ["judge"]},
    }  # fmt: skip
    task, protocol = JUDGE_STAGES[2]["task"], JUDGE_STAGES[2]["protocol"]
    judged = {**JUDGE_STAGES[3], "by": {"kind": "judge", "completions": 4, "meta": "meta"}}
    stages = [*JUDGE_STAGES[:3], {**meta, "task": task, "protocol": protocol}, judged]
    path = judging(tmp_path)
    found = load_recipe(path, [f"stages={json.dumps(stages)}"]).stage("judged")
    assert isinstance(found, LabelStage) and isinstance(found.by, JudgeLabels) and found.by.keep is None
    judged["by"] = {"kind": "judge", "completions": 4, "meta": "meta", "keep": 4}
    said = message(path, f"stages={json.dumps(stages)}")
    assert "judged.by.completions = 4" in said and "leaves none of 4 judgements out" in said
