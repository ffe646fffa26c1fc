"""Every import contract of pyproject.toml is broken on purpose, by a module that is added to a copy."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("data", "rewards", "rl", "rollout")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
BREAKS = {
    "rl composes rollout and rewards, which never meet; data is the leaf": ("rewards", "rollout"),
    "nothing imports scripts or tests": ("rl/storage", "scripts"),
    "vllm only in the engine adapter": ("rollout/protocols", "vllm"),
    "ray only in the actors, rl.runtime and rl.stages": ("rl/controller", "ray"),
    "only the command line and scripts import rl.simulation": ("rl/stages", "rl.simulation"),
    "templates only where a report is rendered and chats are laid out": ("rl/reporting", "jinja2"),
    "a web framework only in the server": ("rl/storage", "starlette"),
    "the server runs without ray and torch, but for the engine's own": ("rl/serving", "torch"),
    "trl only in the trainer of supervised stages": ("rl/learner", "trl"),
    "peft only where adapters are": ("rl/export", "peft"),
    "torch only in the learner, the algorithms, the trainers, the engines and the collator": (
        "rl/evaluation",
        "torch",
    ),
    "protocols and rewards are pure: no torch": ("rewards", "torch"),
    "parsers of model text only in verifiers, which run in child processes": ("rewards/terms", "sympy"),
    "matplotlib only where figures are drawn": ("rl/drawing", "matplotlib"),
}
"""Contract -> (folder of the module that breaks it, what the module imports)."""


def lint(folder: Path) -> dict[str, bool]:
    """Contract -> whether it is kept."""
    code = "from importlinter.cli import lint_imports_command as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-logo", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    kept = dict(re.findall(r"^(.+?) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE))
    assert kept, done.stdout + done.stderr
    return {name: state == "KEPT" for name, state in kept.items()}


@pytest.mark.medium
@pytest.mark.timeout(100)
def test_every_contract_notices_a_module_that_breaks_it(tmp_path: Path) -> None:
    assert set(BREAKS) == {contract["name"] for contract in CONTRACTS}, "give every contract a break"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").touch()
    for number, (folder, imported) in enumerate(BREAKS.values()):
        (tmp_path / folder / f"broken_{number}.py").write_text(f"import {imported}\n")
    assert lint(tmp_path) == dict.fromkeys(BREAKS, False)


def test_every_room_of_rl_is_kept_from_the_simulation() -> None:
    (contract,) = (one for one in CONTRACTS if one.get("forbidden_modules") == ["rl.simulation"])
    rooms = {
        f"rl.{path.stem}"
        for path in (ROOT / "rl").iterdir()
        if (path / "__init__.py").exists() or (path.suffix == ".py" and path.name != "__init__.py")
    }
    allowed = {"rl.cli", "rl.commands", "rl.simulation"}
    assert set(contract["source_modules"]) == rooms - allowed | {"rollout", "rewards", "data"}
