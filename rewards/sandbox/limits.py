"""Recipe keys of the sandbox."""

from typing import Literal

from pydantic import Field

from data.params import MAY_CHANGE, Params

Level = Literal["bubblewrap", "none"]
"""How programs are kept apart from the machine."""


class SandboxParams(Params):
    """Limits of one program, all its tests together."""

    level: Level = "bubblewrap"
    """bubblewrap: namespaces without network and files. none: limits and a temporary folder only, for
    machines where `braid doctor` says that bubblewrap cannot start; programs can then read and write what the
    user can.
    """
    seconds: int = Field(default=10, ge=1, le=3600)
    """Wall-clock limit of a program with all its tests, in seconds; also the limit of processor seconds of
    each process.
    """
    memory_mb: int = Field(default=512, ge=64, le=65536)
    """Address space of each process, in MiB."""
    processes: int = Field(default=8, ge=1, le=256)
    """Processes and threads that a program may have at once."""
    output_mb: int = Field(default=4, ge=1, le=64)
    """Largest size of standard output, of standard error and of any file that a program writes, in MiB."""
    disk_mb: int = Field(default=32, ge=1, le=4096)
    """Size of the work folder, which is in memory, in MiB."""
    start_seconds: int = Field(default=20, ge=1, le=600, json_schema_extra=MAY_CHANGE)
    """Seconds that the box itself may take to start, on a busy machine; longer is a fault of the box, not of
    the program.
    """
