"""Processor cores that this process may use."""

import os
from pathlib import Path


def available_cores() -> int:
    """Cores of the affinity mask, or fewer where a container's quota gives fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        allowed, _, period = quota.read_text().partition(" ")
        if allowed.isdigit():
            cores = min(cores, max(1, int(allowed) // int(period)))
    return cores
