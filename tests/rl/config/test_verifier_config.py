"""`task.verifier` in a recipe: by name, with keys, replaced over a base; wrong names are refused at load."""

from pathlib import Path

import pytest
import yaml

from data.errors import ConfigError
from rewards.verifiers.choice import ChoiceParams
from rewards.verifiers.exact import ExactParams
from rewards.verifiers.user_function import PythonParams
from rl.config import load_recipe, resolved
from rl.config.fingerprint import fingerprint, identity
from rl.config.stages import EvalStage, RlStage

ROOT = Path(__file__).parents[3]
BASE = ROOT / "recipes" / "parts_cpu.yaml"


def test_a_name_alone_is_enough(tmp_path: Path) -> None:
    recipe = load_recipe(BASE, ["task.verifier=exact"])
    assert recipe.task.verifier == ExactParams(name="exact")
    assert load_recipe(BASE).task.verifier is None
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(resolved(recipe)))
    assert load_recipe(again).task == recipe.task


def test_keys_of_a_named_verifier_can_follow() -> None:
    recipe = load_recipe(BASE, ["task.verifier=exact", "task.verifier.ignore_case=true"])
    assert recipe.task.verifier == ExactParams(name="exact", ignore_case=True)


def test_another_verifier_replaces_that_of_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        BASE.read_text().replace("task:\n", "task:\n  verifier: {name: exact, ignore_case: true}\n", 1)
    )
    own = tmp_path / "own.yaml"
    own.write_text("base: base.yaml\ntask: {verifier: {name: choice, letters: ABC}}\n")
    assert load_recipe(own).task.verifier == ChoiceParams(name="choice", letters="ABC")


def test_limits_may_change_at_resume_and_rules_may_not() -> None:
    plain = fingerprint(load_recipe(BASE, ["task.verifier=exact"]))
    assert plain == fingerprint(load_recipe(BASE, ["task.verifier={name: exact, seconds: 9.5}"]))
    assert plain != fingerprint(load_recipe(BASE, ["task.verifier={name: exact, ignore_case: true}"]))


@pytest.mark.parametrize(
    ("value", "first", "remedy"),
    [
        ("exacd", "task.verifier.name = 'exacd': must be one of ", "did you mean 'exact'?"),
        ("{name: zzz}", "task.verifier.name = 'zzz': must be one of ", "choose one of these"),
        ("{name: exact, secons: 3}", "task.verifier.secons = 3: there is no such key", "'seconds'?"),
        ("{name: exact, seconds: 0}", "task.verifier.seconds = 0: must be more than 0", "Hard limit"),
        ("{seconds: 3}", "task.verifier.name: is missing", "add 'name'"),
    ],
)
def test_wrong_verifiers_are_refused(value: str, first: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(BASE, [f"task.verifier={value}"])
    assert first in str(caught.value) and remedy in str(caught.value)


def test_a_verifier_wants_gold_answers() -> None:
    recipe = ROOT / "recipes" / "countdown_cpu.yaml"
    with pytest.raises(
        ConfigError, match=r"task.verifier.name = 'exact': task 'countdown' has no gold answers"
    ):
        load_recipe(recipe, ["task.verifier=exact"])
    assert load_recipe(recipe, ["task.verifier={python: own.py:f}"]).task.verifier is not None


def test_a_reward_takes_longer_than_its_verifier() -> None:
    too_short = ["task.verifier={name: exact, seconds: 10}", "rl.reward_seconds=10"]
    with pytest.raises(ConfigError, match=r"reward_seconds = 10.0: must be more than task.verifier.seconds"):
        load_recipe(BASE, too_short)


@pytest.mark.parametrize(
    ("verifier", "seconds"),
    [("null", 10), ("exact", 15), ("{name: exact, seconds: 0.5}", 10.5), ("code", 70)],
)
def test_the_time_of_a_reward_follows_its_verifier(verifier: str, seconds: float) -> None:
    recipe = load_recipe(BASE, [f"task.verifier={verifier}"])
    stages = [stage for stage in recipe.stages if isinstance(stage, RlStage | EvalStage)]
    assert len(stages) == 2 and {recipe.reward_seconds_of(stage) for stage in stages} == {seconds}
    assert {stage.reward_seconds for stage in stages} == {None}
    own = load_recipe(BASE, [f"task.verifier={verifier}", "rl.reward_seconds=77"])
    assert [own.reward_seconds_of(stage) for stage in own.stages if isinstance(stage, RlStage)] == [77]


def test_a_function_of_the_user_s_own_is_found_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def f(answer): return True\n")
    own = tmp_path / "own.yaml"
    (tmp_path / "base.yaml").write_text(BASE.read_text())
    for text in ("'python: own.py:f'", "{python: own.py:f}", "{name: python, file: own.py, function: f}"):
        own.write_text(f"base: base.yaml\ntask: {{verifier: {text}}}\n")
        recipe = load_recipe(own)
        assert recipe.task.verifier == PythonParams(name="python", file=tmp_path / "own.py", function="f")
    assert list(identity(recipe).files["task.verifier.file"]) == [str(tmp_path / "own.py")]
