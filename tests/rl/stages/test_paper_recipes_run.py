"""The recipes at the size of their papers, with a tiny random chat model and local rows: the stages of all of
them but the supervised ones, one after the other, in one run, so that Ray and the engine start once.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from qwen_lab import PAPERS, tiny_model, with_local_rows
from recipe_lab import write

from data.episodes.trajectory import Episode, StopReason
from data.episodes.wire import read_episodes
from data.text.codec import load_codec
from rl.config import Recipe, load_recipe
from rl.scorers.label_file import read_labels
from rl.tracking.metrics import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(900)]

LIMITS = {
    "sequential": {"max_tokens": 24},
    "parallel_paths": {"main_tokens": 24, "path_tokens": 16, "summary_tokens": 16},
    "outlined_threads": {"main_tokens": 24, "thread_tokens": 16},
    "self_consistency": {"chains": 2, "chain_tokens": 16},
    "temporal_consistency": {"chains": 2, "chain_tokens": 16, "rounds": 2, "agree": 2},
    "rounds": {"widths": [3], "draft_tokens": 16, "final_tokens": 24, "kappa": 64},
}
"""Small limits of each protocol's calls; a random model writes until it is cut off."""
SMALL: dict[str, dict[str, Any]] = {
    "rl": {"steps": 2, "groups_per_step": 2, "samples_per_group": 2, "minibatches": 1, "num_ranks": 1,
           "sharding": "none", "precision": "float32", "weights": "float32", "warmup_steps": 0,
           "forest_tokens": 4096, "learning_rate": 1e-6, "drop_zero_variance": False, "validate_every": 0},
    "eval": {"problems": 2, "samples": 2, "bootstrap_samples": 100, "critical_budgets": []},
    "sft": {"steps": 40, "tokens_per_step": 2048, "forest_tokens": 2048, "num_ranks": 1, "warmup_steps": 0,
            "precision": "float32", "weights": "float32", "learning_rate": 1e-2},
    "reward_model": {"steps": 2, "tokens_per_step": 1024, "forest_tokens": 1024, "num_ranks": 1,
                     "precision": "float32", "weights": "float32", "warmup_steps": 0,
                     "held_out_percent": 50},
}  # fmt: skip
"""What a tiny run changes. Number formats too: in float32 engine and learner agree to the last digits."""


LEFT_OUT = ("thinkprm_processbench", "thinkprm_parallel", "spark_math500", "spct_greedy", "spct_votes")
"""Evaluations and labellings of a kind that another stage has too."""
CHANGED: dict[str, dict[str, Any]] = {
    "spark_votes": {"by": {"kind": "monte_carlo", "completions": 1, "checkpoint": "start"}},
    "spark_sample": {"problems": 6, "samples": 4},
    "spct_sample": {"problems": 6, "checkpoints": ["spark_prm"]},
    "spct_chains": {"problems": 12, "samples": 1},
    "spct_meta_votes": {
        "by": {"kind": "judge", "completions": 2, "checkpoint": "spark_prm", "meta": "spct_meta"},
        "episodes": 2,
    },
}
"""What else a tiny run changes: a random model ends few of its texts and says no verdicts, but a judge that
has imitated some does.
"""
REFERENCES = ("start", "checkpoint", "checkpoints", "stage", "stages", "labels", "meta")
"""Keys that name stages."""


def small_stages(name: str, recipe: Recipe) -> list[dict[str, Any]]:
    """The stages of a recipe, each with its own task, protocol and rewards. Left out are its exports, and
    stages that imitate what was sampled, since a random model writes nothing that they could imitate.
    """
    made = []
    for stage in recipe.stages:
        imitates = stage.kind == "sft" and stage.source.kind == "recorded"
        if stage.kind == "export" or imitates or f"{name}_{stage.name}" in LEFT_OUT:
            continue
        protocol = recipe.protocol_of(stage).model_dump(mode="json")
        protocol |= LIMITS[protocol["name"]]
        content = stage.model_dump(mode="json")
        content |= {"task": recipe.task_of(stage).model_dump(mode="json"), "protocol": protocol}
        kept = {"start": "start"} | {each["own"]: each["name"] for each in made}
        content = renamed(content, kept, [other.name for other in recipe.stages])
        content |= SMALL.get(stage.kind, {}) | {
            "name": f"{name}_{stage.name}",
            "own": stage.name,
            # A random model is always wrong; no two episodes take the same time, so every group has signal.
            "rewards": [
                *(term.model_dump(mode="json") for term in recipe.rewards_of(stage)),
                {"name": "seconds", "scale": 30.0, "weight": 0.5},
            ],
        }
        if stage.kind == "rl" and stage.algorithm.critic is not None:
            content["algorithm"]["critic"]["warmup_steps"] = 0
        if stage.kind == "eval":
            content["checkpoints"] = content["checkpoints"][-1:]
        made.append(content | CHANGED.get(content["name"], {}))
    return [{key: value for key, value in each.items() if key != "own"} for each in made]


def renamed(value: Any, kept: dict[str, str], stages: list[str], key: str = "") -> Any:
    """The same with the new names of stages; `start` in place of one that is left out."""
    if isinstance(value, dict):
        return {name: renamed(held, kept, stages, name) for name, held in value.items()}
    if isinstance(value, list):
        return [renamed(held, kept, stages, key) for held in value]
    return kept.get(value, "start") if key in REFERENCES and value in ("start", *stages) else value


@pytest.fixture(scope="module")
def run(braid: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the stages of all recipes."""
    folder = tmp_path_factory.mktemp("papers")
    model = tiny_model(folder)
    stages: list[dict[str, Any]] = []
    for name in PAPERS:
        content = with_local_rows(name, folder / name, model)
        content["model"] |= {"max_length": 4096}
        stages += small_stages(name, load_recipe(write(folder, content, f"{name}.yaml")))
    content = with_local_rows("threadweaver", folder, model)
    content["model"] |= {"max_length": 4096}
    content["engine"] |= {
        "num_engines": 1, "device": "cpu", "dtype": "float32", "kv_cache_gb": 0.1, "max_live_calls": 64,
    }  # fmt: skip
    content["protocol"] |= LIMITS["outlined_threads"]
    content["scorer"] = {"stage": "spark_prm", "step": "paragraph"}
    content["stages"] = [*stages, {"name": "export", "kind": "export", "checkpoint": "pacore_second"}]
    command = braid.train(write(folder, content, "all.yaml"), folder / "run", ())
    assert command.wait(800) == 0, command.output
    assert command.left_behind() == []
    return folder / "run"


def episodes(run: Path, stage: str) -> list[Episode]:
    """What a stage trained on."""
    paths = sorted((run / "stages" / stage / "record").glob("*.episodes.jsonl.gz"))
    return [episode for path in paths for episode in read_episodes(path)]


STAGES = {
    "grpo_gsm8k_rl": "sequential",
    "parallel_r1_easy": "parallel_paths",
    "parallel_r1_hard": "parallel_paths",
    "threadweaver_rl": "outlined_threads",
    "npr_zero": "outlined_threads",
    "npr_papo": "outlined_threads",
    "pacore_first": "rounds",
    "pacore_second": "rounds",
    "spark_rl": "sequential",
    "spct_rl": "sequential",
    "mrt_rl": "sequential",
}
"""Stages of reinforcement learning, and the protocol of each."""


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_on_what_it_sampled(run: Path, stage: str) -> None:
    steps = [row for row in read_metrics(run / "metrics.jsonl", stage) if row["step"] > 0]
    assert len(steps) == 2
    assert all(row["learner/trained_tokens"] > 0 and row["learner/updates"] > 0 for row in steps)
    trained = episodes(run, stage)
    assert len(trained) == 8 and {episode.protocol for episode in trained} == {STAGES[stage]}
    if STAGES[stage] == "rounds":
        # The last call alone carries loss, as published.
        for episode in trained:
            assert [call.num_trained > 0 for call in episode.calls] == [False] * 3 + [True]


def test_answers_are_forced_behind_a_chat_models_thought(run: Path) -> None:
    tokenizer = load_codec(run / "start")
    rows = [row for row in read_metrics(run / "metrics.jsonl", "mrt_rl") if row["step"] > 0]
    assert all(row["tokens/probes"] > 0 and row["probes/number"] == 8 for row in rows)
    for episode in episodes(run, "mrt_rl"):
        # A random model never closes its thought: from the question to all that it said but its end.
        said = episode.calls[0].output
        thought = len(said) - (episode.calls[0].stop is StopReason.STOP)
        assert {(probe.of, probe.stop) for probe in episode.probes} == {(0, 0), (0, thought)}
        for probe in episode.probes:
            assert tokenizer.decode(episode.resolve(probe.call.context)).endswith(
                "\n</think>\n\nFinal answer: \\boxed{"
            )
    arms = json.loads((run / "summary.json").read_text())["arms"]
    assert any(
        0 <= figures["regret"] <= 1
        for arm in arms.values()
        for figures in arm.values()
        if "regret" in figures
    )


@pytest.mark.parametrize("name", PAPERS)
def test_every_other_stage_of_a_recipe_ends_too(run: Path, name: str) -> None:
    stages = [
        stage
        for stage in json.loads((run / "recipe.json").read_text())["stages"]
        if stage["name"].startswith(name)
    ]
    assert len(stages) >= (1 if name == "thinkprm" else 2)
    for stage in stages:
        folder = run / "stages" / stage["name"]
        assert (folder / "done.json").exists()
    assert (run / "export" / "model.safetensors").exists()


def test_a_judge_learns_its_labels_and_rewards_a_policy(run: Path) -> None:
    """The labels of random solutions are all wrong, and so say the judge's verdicts after some updates."""
    found = json.loads((run / "stages" / "spark_processbench" / "done.json").read_text())["judge_f1"]
    assert found["spark_prm"]["num_wrong"] + found["spark_prm"]["num_right"] == 4
    steps = [row for row in read_metrics(run / "metrics.jsonl", "spark_rl") if row["step"] > 0]
    assert all(row["scorer/missing"] == 0 and 0 < row["scorer/mean"] < 0.5 for row in steps)


def test_the_judgements_that_a_meta_judge_keeps_vote(run: Path) -> None:
    rows = read_labels(run / "stages" / "spct_meta_votes" / "labels.jsonl")
    said = [outcomes for row in rows for outcomes in row.outcomes if outcomes]
    assert said and all(len(outcomes) == 1 for outcomes in said), "the better one of two"
