"""The study of process rewards: what it plans, how it reports, and (soak) all of it at tiny size."""

import importlib.util
import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from rl.config import load_recipe
from rl.evaluation.reward_study import table
from tests.support.recipe_lab import TINY

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts/study_rewards.py"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("study_rewards", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["study_rewards"] = module
    spec.loader.exec_module(module)
    return module


def arguments(study: ModuleType, out: Path, **changes: Any) -> Namespace:
    given = {"out": out, "parts": study.PARTS, "seeds": (0,), "arms": tuple(study.ARMS), "steps": 3}
    return Namespace(**given | changes)


def test_every_recipe_of_the_study_is_right(study: ModuleType, tmp_path: Path) -> None:
    planned = study.plan(arguments(study, tmp_path))
    assert len({each.name for each in planned}) == len(planned) == 2 + 1 + len(study.ARMS)
    for each in planned:
        path = tmp_path / f"{each.name}.yaml"
        path.write_text(yaml.safe_dump(each.recipe, sort_keys=False))
        recipe = load_recipe(path)
        assert recipe.seed == 0 and recipe.name == each.name


def test_runs_come_before_those_that_rest_on_them(study: ModuleType, tmp_path: Path) -> None:
    names = [each.name for each in study.plan(arguments(study, tmp_path, seeds=(0, 1), arms=("fork_join",)))]
    assert names == [
        "labels-line-seed0", "labels-fork-seed0", "search-seed0", "rl-fork_join-seed0",
        "labels-line-seed1", "labels-fork-seed1", "search-seed1", "rl-fork_join-seed1",
    ]  # fmt: skip
    only = study.plan(arguments(study, tmp_path, parts=("search",)))
    assert [each.name for each in only] == ["labels-line-seed0", "search-seed0"]
    stages = [stage["name"] for stage in only[0].recipe["stages"]]
    assert stages == ["sft", "sample", "mc_8", "prm_mc_8", "chains"], "one labelling is enough"


def test_a_change_goes_to_the_recipes_that_have_it(study: ModuleType, tmp_path: Path) -> None:
    def changed(change: str) -> list[str]:
        return [each.part for each in planned if study._applies(each.recipe, change)]

    planned = study.plan(arguments(study, tmp_path, arms=("outcome",)))
    assert [each.part for each in planned] == ["labels", "search", "rl"]
    assert changed("model.max_length=512") == ["labels", "search", "rl"]
    assert changed("model.hidden_size=64") == ["labels"], "the others begin with a trained model"
    assert changed("chains.problems=4") == ["labels"] and changed("rl.steps=4") == ["rl"]
    assert changed("engine.kv_cache_gb=0.05") == ["labels", "search", "rl"]


def test_arms_differ_in_their_rewards_alone(study: ModuleType, tmp_path: Path) -> None:
    line = [name for name, (family, _) in study.ARMS.items() if family == "line"]
    recipes = [each.recipe for each in study.plan(arguments(study, tmp_path, parts=("rl",), arms=line))[1:]]
    rewards = [recipe["stages"][0].pop("rewards") for recipe in recipes]
    assert len({json.dumps(each) for each in rewards}) == len(line)
    assert len({json.dumps(recipe | {"name": ""}) for recipe in recipes}) == 1


def test_the_table_says_what_was_measured() -> None:
    rl = {
        "seed": 0, "arm": "only_mean", "start": 0.2, "start_interval": (0.15, 0.25), "rl": 0.1,
        "rl_interval": (0.05, 0.15), "opinion": [0.5] * 5 + [0.9] * 5, "accuracy": [0.2] * 10,
        "hacked_at": 7, "alarm_at": None,
    }  # fmt: skip
    search = {
        "seed": 0, "search": "beam", "width": 8, "accuracy": 0.5, "interval": (0.4, 0.6), "cost": 912.4,
        "points_over_majority": -3.25, "points_interval": (-5.0, -1.5),
    }  # fmt: skip
    labels = {
        "seed": 0, "policy": "line", "labels": "mc_8", "f1": None, "f1_interval": None, "auc": 0.75,
        "agreement": {"share": 0.8, "interval": (0.7, 0.9)},
    }  # fmt: skip
    text = table({"labels": [labels], "search": [search], "rl": [rl]})
    assert "| 0 | line | mc_8 | 0.800 [0.700, 0.900] | - | 0.750 |" in text
    assert "| 0 | beam | 8 | 0.500 [0.400, 0.600] | 912 | -3.2 [-5.0, -1.5] |" in text
    assert (
        "| 0 | only_mean | 0.200 [0.150, 0.250] | 0.100 [0.050, 0.150] | 0.50, 0.90 | step 8 | never |"
        in text
    )


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_study_at_tiny_size(study: ModuleType, tmp_path: Path, no_leftovers: None) -> None:
    searches = [
        "majority_1",
        "majority_2",
        *(f"{name}_{width}" for width in study.WIDTHS for name in study.SEARCHES),
    ]
    small = (
        *(change for change in TINY if not change.startswith(("rewards=", "rl.steps="))), "rl.staleness=0",
        "model.max_length=512", "sample.problems=12", "sample.samples=2", "chains.problems=4",
        *(f"{name}.problems=2" for name in (*searches, "eval")),
        *(f"prm_{name}.{key}" for name in (*(f"mc_{k}" for k in study.COMPLETIONS), "agreed", "exact")
          for key in ("steps=2", "warmup_steps=0", "tokens_per_step=512", "forest_tokens=512")),
    )  # fmt: skip
    command = [sys.executable, SCRIPT, "--out", tmp_path / "study", "--seeds", "0", "--steps", "2"]
    command += ["--arms", "outcome", "fork_join", "--json", tmp_path / "found.json"]
    command += [f"--set={change}" for change in small]
    subprocess.run(list(map(str, command)), check=True, cwd=tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    labels = [f"{row['policy']} {row['labels']}" for row in found["labels"]]
    line = ["line mc_1", "line mc_2", "line mc_4", "line mc_8", "line agreed", "line exact"]
    assert labels == [*line, "fork mc_8"]
    assert [f"{row['search']}_{row['width']}" for row in found["search"]] == [*searches, "forking policy_1"]
    assert [row["arm"] for row in found["rl"]] == ["outcome", "fork_join"]
    assert all(len(row["opinion"]) == 2 for row in found["rl"])
    before = (tmp_path / "study/rl-outcome-seed0/run/metrics.jsonl").stat().st_mtime_ns
    subprocess.run(list(map(str, command)), check=True, cwd=tmp_path)
    assert (tmp_path / "study/rl-outcome-seed0/run/metrics.jsonl").stat().st_mtime_ns == before, (
        "nothing again"
    )
