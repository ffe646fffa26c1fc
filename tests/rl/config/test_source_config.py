"""`source` of a supervised stage: what a recipe may say, what contradicts the rest of it, what is checked."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.episodes.trajectory import Call, Episode, StopReason, Thread, ThreadOutcome
from data.episodes.wire import write_episodes
from data.errors import ConfigError
from rl.config import Recipe, load_recipe, resolved
from rl.config.stages import RecordedSource, SftStage
from rl.preflight.check import ensure_runnable
from rl.preflight.hardware import Machine

SFT = {
    "kind": "sft", "steps": 100, "tokens_per_step": 1024, "forest_tokens": 256, "learning_rate": 0.01,
}  # fmt: skip
SMALL: dict[str, Any] = {
    "name": "small",
    "task": {"name": "parts", "train_problems": 100, "validation_problems": 10, "test_problems": 10},
    "model": {
        "kind": "scratch", "hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2,
        "head_dim": 32, "intermediate_size": 128, "max_length": 256,
    },
    "protocol": {"name": "spawn_join", "parent_tokens": 80, "child_tokens": 60},
    "rewards": [{"name": "correct"}],
    "engine": {"kv_cache_gb": 0.05},
    "stages": [
        {"name": "sft", **SFT, "demonstrations": 100},
        {"name": "sample", "kind": "eval", "checkpoints": ["sft"], "split": "train", "keep_episodes": None},
        {"name": "rl", "kind": "rl", "steps": 4, "groups_per_step": 4, "samples_per_group": 2,
         "learning_rate": 0.001, "forest_tokens": 256},
        {"name": "best", **SFT,
         "source": {"kind": "recorded", "stages": ["rl", "sample"], "best": "shortest",
                    "max_per_problem": 2}},
        {"name": "eval", "kind": "eval", "checkpoints": ["sft", "best"]},
    ],
}  # fmt: skip
LAPTOP = Machine(
    cores=2, memory_gb=8, free_gb=6, shared_free_gb=4, disk_free_gb=50, cpu="made up",
    cpu_flags=frozenset({"avx2"}),
)  # fmt: skip
EPISODE = Episode(
    id="0/0", problem_id="p", protocol="spawn_join", answer=None,
    calls=(
        Call(index=0, thread=0, role="parent", context=(), output=(1,), logprobs=(), versions=(),
             stop=StopReason.STOP, after=(), num_trained=1),
    ),
    threads=(
        Thread(index=0, parent=None, key=0, opened_by=None, depth=0, outcome=ThreadOutcome.RETURNED),
    ),
)  # fmt: skip


def write(folder: Path, content: Any, name: str = "r.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(content))
    return path


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


def source_of(recipe: Recipe, name: str = "best") -> RecordedSource:
    stage = recipe.stage(name)
    assert isinstance(stage, SftStage) and isinstance(stage.source, RecordedSource)
    return stage.source


def found(recipe: Recipe) -> dict[str, str]:
    return {finding.about: finding.found for finding in ensure_runnable(recipe, machine=LAPTOP)}


def test_a_curriculum_of_rejection_sampling_loads_and_round_trips(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL))
    source = source_of(recipe)
    assert (source.correct, source.well_formed, source.max_per_problem) == (True, True, 2)
    again = load_recipe(write(tmp_path, resolved(recipe), "again.yaml"))
    assert resolved(again) == resolved(recipe)
    stage = recipe.stage("sft")
    assert isinstance(stage, SftStage) and stage.source.kind == "solver"


@pytest.mark.parametrize(
    ("override", "first", "remedy"),
    [
        (
            "best.source.kind=magic",
            "best.source.kind = 'magic': must be one of 'solver', 'gold', 'recorded'",
            "choose",
        ),
        ("best.source={stages: [rl]}", "best.source.kind: is missing", "add 'kind'"),
        ("best.source.corect=true", "best.source.corect = True: there is no such key", "'correct'?"),
        ("best.source={kind: solver, best: any}", "best.source.best = 'any': there is no such key", "kind"),
        ("best.source.best=longest", "best.source.best = 'longest': must be 'any' or 'shortest'", "choose"),
        ("best.source.max_per_problem=0", "max_per_problem = 0: must be at least 1", "give 1 or more"),
        ("best.source={kind: recorded}", "best.source: names no episodes", "best.source.files"),
        ("best.source={kind: solver}", "best.demonstrations: is missing", "give a number"),
        ("sft.demonstrations=null", "sft.demonstrations: is missing", "give a number"),
        ("best.source.stages=[rll]", "best.source.stages = 'rll': no earlier stage", "'rl'?"),
        ("best.source.stages=[eval]", "best.source.stages = 'eval': that stage comes later", "move this"),
        ("best.source.stages=[best]", "best.source.stages = 'best': that stage comes later", "move this"),
        ("best.source.stages=[sft]", "best.source.stages = 'sft': an sft stage records no", "name an rl"),
        (
            "sample.split=validation",
            "best.source.stages = 'sample': its episodes are for validation problems, which must",
            "set sample.split: train",
        ),
        (
            "best.protocol={name: sequential, max_tokens: 100}",
            "best.source.stages = 'rl': it has protocol spawn_join, this stage has sequential",
            "give both the same protocol",
        ),
        (
            "best.task={name: countdown}",
            "best.source.stages = 'rl': it has task parts, this stage has countdown",
            "give both the same task",
        ),
        (
            "task.params.dependencies=true",
            "protocol.name = 'spawn_join': cannot demonstrate the task of stage 'sft'",
            "sequential",
        ),
        (
            "sft.match_tags=true",
            "sft.match_tags = True: stage 'sft' trains spawn_join, which forces no tag on a trace",
            "forking_tokens",
        ),
        ("eval.keep_episodes=0", "eval.keep_episodes = 0: must be at least 1", "give 1 or more"),
        ("sample.problems=0", "sample.problems = 0: must be at least 1", "give 1 or more"),
    ],
)
def test_what_a_source_cannot_be(tmp_path: Path, override: str, first: str, remedy: str) -> None:
    lines = message(write(tmp_path, SMALL), override).split("\n")
    assert first in lines[0]
    assert remedy in lines[1]


def test_tags_are_matched_where_they_are_forced(tmp_path: Path) -> None:
    content = copy.deepcopy(SMALL)
    content["stages"] = [content["stages"][0] | {"match_tags": True}]
    content["protocol"] = {"name": "forking_tokens", "chain_tokens": 100}
    load_recipe(write(tmp_path, content))
    assert "sft.match_tags = True" in message(write(tmp_path, content), "protocol.mode=sampled")


def test_only_the_solver_needs_a_protocol_that_passes_results_on(tmp_path: Path) -> None:
    content = copy.deepcopy(SMALL)
    content["stages"][0]["protocol"] = {"name": "sequential", "max_tokens": 100}
    load_recipe(write(tmp_path, content), ["task.params.dependencies=true"])


def test_files_are_relative_to_the_recipe_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    content = copy.deepcopy(SMALL)
    content["stages"][3]["source"] = {"kind": "recorded", "files": ["a/*.gz", "/abs/b.gz"]}
    base = write(tmp_path / "below", content, "base.yaml")
    assert source_of(load_recipe(base)).files == (tmp_path / "below/a/*.gz", Path("/abs/b.gz"))
    change = {"base": "below/base.yaml", "stages": {"best": {"source": {"files": ["c.gz"]}}}}
    assert source_of(load_recipe(write(tmp_path, change))).files == (tmp_path / "c.gz",)
    own = {"base": "below/base.yaml", "stages": {"best": {"task": {"files": {"train": "t.jsonl"}}}}}
    files = load_recipe(write(tmp_path, own)).task_of(load_recipe(write(tmp_path, own)).stage("best")).files
    assert files is not None and files.train == tmp_path / "t.jsonl"


def test_check_reads_the_records(tmp_path: Path) -> None:
    content = copy.deepcopy(SMALL)
    content["stages"][3]["source"]["files"] = ["records/*.gz"]
    content["stages"][3]["source"]["correct"] = False
    recipe = load_recipe(write(tmp_path, content))

    def refusal() -> str:
        with pytest.raises(ConfigError) as caught:
            found(recipe)
        return str(caught.value)

    records = tmp_path / "records"
    assert "best.source.files.0" in refusal() and "there is no such episode record" in refusal()
    records.mkdir()
    write_episodes(records / "a.gz", [EPISODE])
    write_episodes(records / "b.gz", [])
    assert found(recipe)["stage best"] == (
        f"imitates stage rl, stage sample, 2 file(s) of {records}/*.gz: "
        "well-formed, the shortest 2 of a problem"
    )
    write_episodes(records / "b.gz", [replace(EPISODE, protocol="sequential")])
    text = refusal()
    assert "b.gz: episode 0/0 was recorded under protocol 'sequential'" in text and "\n  fix: " in text
    (records / "b.gz").write_bytes(b"nothing")
    assert "b.gz: is not a whole episode record" in refusal()


def test_check_says_what_is_imitated(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL))
    lines = [f for f in ensure_runnable(recipe, machine=LAPTOP) if f.about == "stage best"]
    assert [line.found for line in lines][-1] == (
        "imitates stage rl, stage sample: correct, well-formed, the shortest 2 of a problem"
    )


def test_the_published_text_of_apr_needs_searches_that_name_their_nodes(tmp_path: Path) -> None:
    found = message(write(tmp_path, SMALL), "protocol.dialect=apr")
    assert "protocol.dialect = 'apr': task parts of stage 'sft' does not name the nodes" in found
    assert "use task countdown with params {text: apr}" in found
