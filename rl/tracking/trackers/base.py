"""What a tracker is: a store that keeps one run for each stage.

Opening a tracker forgets what it has of the stage, so sending a stage again, or going on after a resume that
took steps back, leaves one row for each step. A row is sent once all of its step is known.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from data.errors import ConfigError

STORES = "trackers"
"""Folder of the run directory for stores of trackers that keep theirs in files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedStage:
    """Which stage of which run the metrics are of."""

    run_dir: Path
    """The run directory, absolute."""
    run_id: str
    """Random digits of the run."""
    stage: str
    project: str
    """Name under which a tracker keeps several runs together."""
    recipe: Mapping[str, Any]
    """The run's recipe, as JSON values."""

    @property
    def name(self) -> str:
        """Name of the stage among the runs of the project, such as `demo/rl`."""
        return f"{self.run_dir.name}/{self.stage}"

    @property
    def id(self) -> str:
        """Identity of the stage in a tracker: the same for every sending, another for every run."""
        return f"{self.run_id[:16]}-{self.stage}"


class Tracker(Protocol):
    """The open store of one stage."""

    @property
    def place(self) -> str:
        """Where the rows are, or how to look at them."""

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """Add the row of a step; steps increase."""

    def close(self) -> None:
        """End the sending; all rows are stored afterwards."""


def need(package: str, tracker: str) -> ModuleType:
    """A tracker's package. Raises ConfigError when it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"tracker {tracker}: cannot be imported ({error})\n"
            "  fix: .venv/bin/pip install --no-deps -r requirements/trackers.txt"
        ) from error
