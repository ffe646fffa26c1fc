"""`precision: auto` becomes what the machine computes fast; formats that a recipe names stay."""

from dataclasses import replace
from pathlib import Path

import pytest

from rl.config import load_recipe
from rl.preflight.hardware import Gpu, Machine
from rl.preflight.precision import with_precision

CPU = Path(__file__).resolve().parents[3] / "recipes" / "countdown_cpu.yaml"
OLD = Machine(
    cores=2, memory_gb=8, free_gb=6, shared_free_gb=2, disk_free_gb=50, cpu="old",
    cpu_flags=frozenset({"avx2"}),
)  # fmt: skip
ABLE = replace(OLD, cpu_flags=frozenset({"avx2", "avx512f", "avx512_bf16"}))
SERVER = replace(OLD, gpus=(Gpu(name="H200", total_gb=139, free_gb=138),))


@pytest.mark.parametrize(
    ("machine", "overrides", "precision"),
    [
        (OLD, (), "float32"),
        (ABLE, (), "bfloat16"),
        (SERVER, (), "bfloat16"),
        (SERVER, ("engine.device=cpu",), "float32"),
        (OLD, ("engine.device=cuda",), "bfloat16"),
        (OLD, ("sft.precision=bfloat16",), "bfloat16"),
        (ABLE, ("sft.precision=float32",), "float32"),
    ],
)
def test_the_machine_decides_what_the_recipe_leaves_open(
    machine: Machine, overrides: tuple[str, ...], precision: str
) -> None:
    recipe = load_recipe(CPU, overrides)
    decided = with_precision(recipe, machine)
    stages = {stage.name: stage for stage in decided.policy_stages()}
    assert stages["sft"].precision == precision
    assert stages["sft"].bfloat16 is (precision == "bfloat16")
    assert stages["rl"].precision == "float32", "its default"
    assert decided.source == recipe.source
