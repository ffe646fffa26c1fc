"""Hardware of this machine: cores, memory, shared memory, GPUs. Imports no large package."""

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from rl.learner.cores import available_cores

GIB = 1024**3


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One CUDA device, as nvidia-smi lists it."""

    name: str
    total_gb: float
    free_gb: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Resources of a machine; sizes in GiB."""

    cores: int
    """Cores that this process may use."""
    memory_gb: float
    free_gb: float
    """Memory available without swapping, container limits included."""
    shared_free_gb: float | None
    """Free space on /dev/shm, which Ray's object store and weight updates use; None where it is missing."""
    disk_free_gb: float
    """Free disk space in the working directory."""
    cpu: str
    cpu_flags: frozenset[str] = field(default=frozenset())
    gpus: tuple[Gpu, ...] = ()

    @property
    def device(self) -> str:
        """The device that `engine.device: auto` selects here."""
        return "cuda" if self.gpus else "cpu"

    def __str__(self) -> str:
        """One line: cores, processor, memory, and GPUs by name."""
        names = [gpu.name for gpu in self.gpus]
        gpus = [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)]
        return ", ".join([f"{self.cores} cores ({self.cpu})", f"{self.memory_gb:.0f} GiB", *gpus])

    @property
    def emulates_bfloat16(self) -> bool:
        """Whether the CPU has no bfloat16 of its own; products of matrices then take several times as long as
        in float32, without AVX-512 some fifty times.
        """
        return "avx512_bf16" not in self.cpu_flags


def probe() -> Machine:
    """Resources of this machine, now."""
    memory = psutil.virtual_memory()
    total, free = float(memory.total), float(memory.available)
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    if limit is not None and used is not None:
        total, free = min(total, limit), min(free, limit - used)
    shared = Path("/dev/shm")
    model, flags = _cpu()
    return Machine(
        cores=available_cores(),
        memory_gb=total / GIB,
        free_gb=max(0.0, free) / GIB,
        shared_free_gb=shutil.disk_usage(shared).free / GIB if shared.is_dir() else None,
        disk_free_gb=shutil.disk_usage(Path.cwd()).free / GIB,
        cpu=model,
        cpu_flags=flags,
        gpus=_gpus(),
    )


def _number(path: str) -> float | None:
    """A cgroup file's number; None when it is missing or says "max"."""
    try:
        return float(Path(path).read_text())
    except (OSError, ValueError):
        return None


def _cpu() -> tuple[str, frozenset[str]]:
    """(model name, feature flags); unknown away from Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown", frozenset()
    entries = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return entries.get("model name", "unknown"), frozenset(entries.get("flags", "").split())


def _gpus() -> tuple[Gpu, ...]:
    """GPUs listed by nvidia-smi (which reports MiB); none when it is missing or fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(gpu for gpu in map(_gpu, listing.splitlines()) if gpu is not None)


def _gpu(line: str) -> Gpu | None:
    """Parse one line of nvidia-smi; None for a device without a memory figure."""
    name, _, sizes = line.partition(",")
    try:
        total, free = (float(size) / 1024 for size in sizes.split(","))
    except ValueError:
        return None
    return Gpu(name=name.strip(), total_gb=total, free_gb=free)
