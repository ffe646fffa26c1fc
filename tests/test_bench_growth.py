"""scripts/bench_growth.py: what it refuses, its arithmetic, and the controller's part for real."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bench_growth.py"


def bench(*arguments: object, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_growth", SCRIPT)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.medium
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--json", "f.json"), ("--from", "fix:")),
        (("--json", "no/f.json", "--parts", "controller"), ("no/f.json", "fix:")),
        (("--json", "f.json", "--parts", "controller", "--set", "rl.stepz=3"), ("rl.stepz",)),
        (("--json", "f.json", "--from", "nowhere"), ("nowhere",)),
    ],
)
def test_what_cannot_work_is_refused(arguments: tuple[object, ...], words: tuple[str, ...]) -> None:
    done = bench(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_costs_by_decade(module: ModuleType) -> None:
    """(Calls so far, seconds so far): 100 in 0.1 s, 900 in 0.9 s, and the 1,000 that are left in 0.5."""
    marks = [(0, 0.0), (50, 0.05), (100, 0.1), (500, 0.6), (1000, 1.0), (2000, 1.5)]
    assert module.by_decade(marks) == pytest.approx({"100": 1000.0, "1000": 1000.0, "2000": 500.0})


def test_of_linear_stops_where_the_cores_do(module: ModuleType) -> None:
    """One engine and what goes with it keep 1.25 of 2 cores busy: there is room for 1.6 times that."""
    rates, busy = {"1": 10.0, "2": 16.0, "4": 12.0}, {"1": 1.25, "2": 2.0, "4": 2.0}
    assert module.of_linear(rates, busy, 2) == pytest.approx({"1": 1.0, "2": 1.0, "4": 0.75})
    assert module.of_linear(rates, busy, 64) == pytest.approx({"1": 1.0, "2": 0.8, "4": 0.3})


@pytest.mark.slow
def test_the_controller_costs_something_for_each_call(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    sets = ("--set", "rl.samples_per_group=4")
    done = bench("--json", file, "--parts", "controller", "--calls", 1200, *sets, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text())["controller"]
    costs = found["cpu_us_per_call"]
    assert len(costs) >= 2 and min(costs.values()) > 0
    assert found["calls_per_step"] >= 2 * 4
