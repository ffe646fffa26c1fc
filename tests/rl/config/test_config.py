"""Recipes: loading, merging, overrides, and the messages of what cannot work."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from recipe_lab import SMALL, message, write

from rl.config import Recipe, fingerprint, load_recipe, resolved
from rl.config.fingerprint import differences
from rl.config.tree import value_at

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))
CPU = next(path for path in RECIPES if path.stem == "countdown_cpu")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipe_loads_and_round_trips(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    again = load_recipe(write(tmp_path, json.dumps(resolved(recipe))))
    assert resolved(again) == resolved(recipe)
    assert fingerprint(again) == fingerprint(recipe)
    lines = path.read_text().splitlines()
    heads = [line.split(":")[0] for line in lines if re.match("# [A-Z][a-z]+:", line)]
    assert lines[0].startswith("# Question: ") and heads[:3] == ["# Question", "# Command", "# Hardware"]
    assert len(lines) <= 110


def test_the_sequential_arm_differs_in_protocol_and_rows_only() -> None:
    sequential = load_recipe(CPU.with_name("countdown_sequential_cpu.yaml"))
    found = differences(resolved(load_recipe(CPU)), sequential)
    changed = {change.key for change in found if not change.accepted}
    assert {key for key in changed if not key.startswith("protocol.")} == set()


def test_the_apr_model_has_the_papers_size() -> None:
    model = load_recipe(CPU.with_name("countdown_apr.yaml")).model
    assert model.kind == "scratch"
    # 18 layers of attention 4 x 1024 x 1024 and MLP 3 x 1024 x 2752: 227.7M; the paper says 228M.
    assert model.num_parameters(0) == 18 * (4 * 1024 * 1024 + 3 * 1024 * 2752) == 227_672_064


def keys_of(value: Any, address: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [key for name in value for key in [(*address, name), *keys_of(value[name], (*address, name))]]
    if isinstance(value, list):
        return [key for index, item in enumerate(value) for key in keys_of(item, (*address, index))]
    return []


OPEN = ("template_arguments", "instructions")
"""Mappings whose keys are the chat template's, or a protocol's roles: the schema knows none of them."""
MUTABLE = [
    (path, key)
    for path in RECIPES
    for key in keys_of(resolved(load_recipe(path)))
    # Without its name a stage's task or protocol is a change to the recipe's own.
    if not set(OPEN) & set(key[:-1])
    and (key[0] != "stages" or key[2:] not in (("task", "name"), ("protocol", "name")))
]


@pytest.mark.medium
@settings(max_examples=80, deadline=None)
@given(case=st.sampled_from(MUTABLE))
def test_one_misspelt_key_is_refused_by_name(
    case: tuple[Path, tuple[str | int, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, address = case
    name = str(address[-1])
    wrong = f"{name}x"
    raw = copy.deepcopy(resolved(load_recipe(path)))
    parent = value_at(raw, address[:-1])
    parent[wrong] = parent.pop(name)
    first, remedy = message(write(tmp_path_factory.mktemp("mutant"), json.dumps(raw))).split("\n")[:2]
    if name in ("kind", "name"):
        # What tells the members of a union apart: without it nothing is known about the other keys.
        assert name in first
        return
    assert f"{wrong} = " in first or f"{wrong}: " in first
    assert "there is no such key" in first
    assert remedy == f"  fix: did you mean {name!r}?"


@pytest.mark.parametrize(
    ("override", "key", "reason", "remedy"),
    [
        ("rl.stepz=3", "rl.stepz = 3", "there is no such key", "did you mean 'steps'?"),
        ("rll.steps=3", "rll.steps", "no such key or stage", "did you mean 'rl'?"),
        ("rl.algorithm.clip_lo=0.1", "rl.algorithm.clip_lo = 0.1", "no such key", "did you mean 'clip_low'?"),
        (
            "protocol.parent_token=9",
            "protocol.parent_token = 9",
            "no such key",
            "did you mean 'parent_tokens'?",
        ),
        ("rewards.correct.weigth=2", "rewards.correct.weigth = 2", "no such key", "did you mean 'weight'?"),
        ("rewards.spelling.weight=2", "rewards.spelling.weight", "no such key", "the list has no such item"),
        ("task.params.hihg=9", "task.params.hihg = 9", "no such key", "did you mean 'high'?"),
        (
            'protocol.framing={kind: plain, instructions: {paren: "{problem}"}}',
            "protocol.framing.instructions.paren",
            "spawn_join has no role of this name",
            "did you mean 'parent'?",
        ),
        ("rl.steps=0", "rl.steps = 0", "must be at least 1", "give 1 or more"),
        ("rl.staleness=-1", "rl.staleness = -1", "must be at least 0", "give 0 or more"),
        ("rl.samples_per_group=1", "rl.samples_per_group = 1", "must be at least 2", "give 2 or more"),
        ("rl.temperature=0", "rl.temperature = 0", "must be more than 0", "give more than 0"),
        ("sft.pivot_weight=0.5", "sft.pivot_weight = 0.5", "must be at least 1", "give 1.0 or more"),
        ("rl.steps=3.5", "rl.steps = 3.5", "must be a whole number", "write a whole number"),
        ("rl.steps=many", "rl.steps = 'many'", "must be a whole number", "write a whole number"),
        ("rl.drop_zero_variance=1", "drop_zero_variance = 1", "must be true or false", "write true or false"),
        ("rl.learning_rate=.inf", "rl.learning_rate = inf", "must be", "give"),
        ("protocol.budgets.seconds=.inf", "protocol.budgets.seconds = inf", "must be", "give"),
        ("protocol.budgets.seconds=.nan", "protocol.budgets.seconds = nan", "must be", "give"),
        ("protocol.budgets.grace_seconds=.inf", "grace_seconds = inf", "must be", "give"),
        ("engine.dtype=float16", "engine.dtype = 'float16'", "must be 'float32' or 'bfloat16'", "choose one"),
        (
            "engine.block_size=48",
            "engine.block_size = 48",
            "must be a multiple of 32",
            "give a multiple of 32",
        ),
        ("model.kind=magic", "model.kind = 'magic'", "must be one of 'scratch', 'pretrained'", "choose one"),
        (
            "rl.kind=magic",
            "rl.kind = 'magic'",
            "must be one of 'sft', 'label_steps', 'reward_model', 'rl', 'eval', 'export'",
            "choose one",
        ),
        ("protocol.name=magic", "protocol.name = 'magic'", "must be one of", "choose one"),
        ("stages=[]", "stages = []", "needs at least 1 item", "add one"),
        ("seed=-1", "seed = -1", "must be at least 0", "give 0 or more"),
        (
            "task.params.high=70",
            "task.params",
            "cap (60) must be at least high (70)",
            "change one of the values",
        ),
    ],
)
def test_bad_value_is_refused_with_file_key_reason_and_remedy(
    tmp_path: Path, override: str, key: str, reason: str, remedy: str
) -> None:
    path = write(tmp_path, SMALL)
    text = message(path, override)
    first, second = text.split("\n")[:2]
    assert first.startswith(f"{path} with --set {override}: ")
    assert key in first and reason in first
    assert second.startswith("  fix: ") and remedy in second


@pytest.mark.parametrize(
    ("override", "key", "reason"),
    [
        ("rl.name=sft", "stages.1.name = 'sft'", "an earlier stage has this name"),
        ("rl.name=engine", "stages.1.name = 'engine'", "is a top-level key"),
        ("rewards=[{name: correct}, {name: correct}]", "rewards", "'correct' is there twice"),
        ("model.num_kv_heads=3", "model.num_kv_heads = 3", "does not divide num_heads = 2"),
        ("model.numbers=59", "model.numbers = 59", "numbers up to 60"),
        ("model.max_length=64", "model.max_length = 64", "a prompt and its calls' token limits need"),
        ("sft.warmup_steps=100", "sft.warmup_steps = 100", "never reach its peak"),
        (
            "sft.tokens_per_step=1000",
            "sft.tokens_per_step = 1000",
            "not a multiple of forest_tokens * num_ranks = 256",
        ),
        ("rl.minibatches=3", "rl.minibatches = 3", "does not divide groups_per_step = 4"),
        ("rl.algorithm.roles=[kid]", "rl.algorithm.roles = 'kid'", "they are parent, child"),
        ("rl.algorithm={name: gfpo}", "rl.algorithm.name = 'gfpo'", "trains the forking tag alone"),
        (
            "rl.algorithm={corrections: [{name: truncate}]}",
            "rl.algorithm.corrections.0.name = 'truncate'",
            "which is 1 with proximal: behaviour",
        ),
        (
            "rl.algorithm={proximal: recomputed, corrections: [{name: mask, lower: 9}]}",
            "rl.algorithm.corrections.0.lower = 9",
            "is not below upper = 5.0",
        ),
        (
            "rl.algorithm={name: ppo, credit: child}",
            "rl.algorithm.credit = 'child'",
            "a critic computes none",
        ),
        (
            "rl.algorithm={name: ppo, implicit: {}}",
            "rl.algorithm.implicit",
            "a critic computes advantages of its own",
        ),
        (
            "rl.algorithm={name: grpo, implicit: {}}",
            "rl.algorithm.advantage = 'group_std'",
            "divides rewards by their standard deviation",
        ),
        (
            "rl.algorithm={name: gfpo, advantage: group_mean, implicit: {}}",
            "rl.algorithm.implicit",
            "gfpo trains the forking tag alone",
        ),
        (
            "rl.algorithm={name: prime, implicit: {beta: 0}}",
            "rl.algorithm.implicit.beta = 0",
            "must be more than 0",
        ),
        ("rl.algorithm={name: ppo}", "rl.drop_zero_variance = True", "a critic learns from those too"),
        ("eval.checkpoints=[export]", "eval.checkpoints = 'export'", "no earlier sft or rl stage"),
        ("export.checkpoint=rll", "export.checkpoint = 'rll'", "no earlier sft or rl stage"),
        ("export.directory=../up", "export.directory = '../up'", "must lie inside the run directory"),
        ("export.directory=/tmp/x", "export.directory = '/tmp/x'", "must lie inside the run directory"),
        ("task.test_problems=0", "task.test_problems = 0", "the test split is empty"),
        (
            "task={name: countdown, validation_problems: 0}",
            "task.validation_problems",
            "validation split is empty",
        ),
        (
            "rewards=[{name: correct}, {name: format, schedule: {kind: alternating, period: 9, "
            "start: 4, length: 1}}]",
            "rewards.format.schedule",
            "has 4 steps, so the term would never count",
        ),
        (
            "rewards=[{name: correct, schedule: {kind: annealed, steps: 2}}]",
            "rewards",
            "at step 2 of stage 'rl' no term counts",
        ),
        (
            "eval.rewards=[{name: correct, schedule: {kind: annealed, steps: 99}}]",
            "eval.rewards.correct.schedule.kind = 'annealed'",
            "no training steps of its own",
        ),
        ("engine.num_engines=5", "engine.num_engines = 5", "some engines would idle"),
        ("engine.max_live_calls=8", "engine.max_live_calls = 8", "opens up to 16 threads"),
        (
            "protocol.budgets={total_tokens: 10, critical_tokens: 20}",
            "protocol.budgets",
            "of which it is a part",
        ),
    ],
)
def test_parts_that_contradict_each_other_are_refused(
    tmp_path: Path, override: str, key: str, reason: str
) -> None:
    content = copy.deepcopy(SMALL)
    content["stages"][1]["validate_every"] = 2
    text = message(write(tmp_path, content), override)
    assert key in text and reason in text and "\n  fix: " in text


@pytest.mark.parametrize(
    "rewards",
    [
        "[{name: correct, schedule: {kind: annealed, steps: 2, floor: 0.1}}]",
        "[{name: correct, schedule: {kind: annealed, steps: 4}}]",  # the last step is 3
        "[{name: correct}, {name: parl, schedule: {kind: annealed, steps: 2}}]",
        "[{name: correct}, {name: outcomes, children: {width: 0.5}, root: {budget: 1}}]",
    ],
)
def test_rewards_that_make_sense(tmp_path: Path, rewards: str) -> None:
    recipe = load_recipe(write(tmp_path, SMALL), [f"rewards={rewards}"])
    again = load_recipe(write(tmp_path, json.dumps(resolved(recipe)), "again.yaml"))
    assert again.rewards == recipe.rewards


def test_a_stage_that_comes_later_cannot_be_evaluated(tmp_path: Path) -> None:
    content = copy.deepcopy(SMALL)
    content["stages"] = [content["stages"][i] for i in (0, 2, 1, 3)]
    assert "eval.checkpoints = 'rl': that stage comes later" in message(write(tmp_path, content))


@pytest.mark.parametrize(
    ("override", "reason"),
    [("rl.optimizer=muon", "Muon needs whole matrices"), ("rl.lora={rank: 4}", "does not work with lora")],
)
def test_what_cannot_be_sharded(tmp_path: Path, override: str, reason: str) -> None:
    text = message(write(tmp_path, SMALL), "rl.sharding=fsdp", override)
    assert "rl.sharding = 'fsdp'" in text and reason in text


def test_llama_heads_must_fill_the_width(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    assert load_recipe(path, ["model.architecture=llama"]).model.kind == "scratch"  # 2 x 32 = 64
    text = message(path, "model.architecture=llama", "model.num_heads=4")
    assert "model.head_dim = 32: llama needs num_heads * head_dim = hidden_size" in text


def test_all_wrong_keys_are_named_in_one_message(tmp_path: Path) -> None:
    text = message(write(tmp_path, SMALL), "rl.steps=0", "sft.steps=0")
    assert "sft.steps = 0" in text and "also wrong: rl.steps" in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: 1\na: 2\n", "line 2: the key 'a' is there twice"),
        ("a: [1\n", "fix: correct the YAML there"),
        ("- a\n", "holds list, not keys and values"),
        ("", "holds NoneType, not keys and values"),
        ("!!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    ],
)
def test_what_is_no_recipe_at_all(tmp_path: Path, content: str, expected: str) -> None:
    path = write(tmp_path, content)
    text = message(path)
    assert text.startswith(str(path)) and expected in text


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, SMALL, "right.yaml")
    assert "there is no such file" in (text := message(tmp_path / "rihgt.yaml")) and "right.yaml" in text


def test_numbers_are_written_as_people_write_them(tmp_path: Path) -> None:
    # PyYAML alone reads 3e-4 as a string.
    recipe = load_recipe(write(tmp_path, SMALL), ["rl.learning_rate=3e-4"])
    assert recipe.stage("rl").learning_rate == 0.0003  # type: ignore[union-attr]


def test_the_fingerprint_ignores_the_name_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    recipe = load_recipe(path)
    assert fingerprint(load_recipe(path, ["name=other"])) == fingerprint(recipe)
    changed = load_recipe(path, ["rl.steps=5", "rewards.correct.wrong=-1.0"])
    assert fingerprint(changed) != fingerprint(recipe)
    assert [str(change) for change in differences(resolved(recipe), changed)] == [
        "rewards.correct.wrong: -0.5 there, -1.0 here",
        "rl.steps: 4 there, 5 here",
    ]


def test_recipes_are_frozen(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL))
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3


def test_every_key_is_documented() -> None:
    bare: list[str] = []

    def visit(model: type[BaseModel]) -> None:
        from rl.config.explain import _members

        for name, field in model.model_fields.items():
            if not field.description:
                bare.append(f"{model.__name__}.{name}")
            for member in _members(field.annotation):
                for inner in getattr(member, "__args__", (member,)):
                    for kind in _members(inner):
                        if isinstance(kind, type) and issubclass(kind, BaseModel):
                            visit(kind)

    visit(Recipe)
    assert bare == []
