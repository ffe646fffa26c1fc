"""Sends a run's metrics.jsonl to a tracker, as often as wanted: it then holds what the file says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import ConfigError
from rl.config.tracking import TrackerName, Vocabulary
from rl.storage.files import read_json
from rl.storage.identity import RECIPE_FILE, read_identity
from rl.tracking.metrics import METRICS_FILE, read_metrics
from rl.tracking.run_state import is_locked
from rl.tracking.trackers.base import TrackedStage
from rl.tracking.trackers.names import named
from rl.tracking.trackers.registry import TRACKERS


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What was sent of one stage."""

    stage: str
    rows: int
    """Number of steps; each is one row."""
    place: str
    """Where the rows are, or how to look at them."""


def send_run(
    run: Path, tracker: TrackerName, *, project: str | None = None, aliases: Sequence[Vocabulary] = ()
) -> list[Sent]:
    """Send every stage of a run that has metrics; earlier sendings of it are replaced.

    `project`: name under which the tracker keeps runs together; by default that of the recipe.

    Raises:
        ConfigError: no run directory, no metrics yet, a damaged line, a tracker that is not installed, or a
            run at work that sends to the same tracker itself.
    """
    run = run.absolute()
    recipe, run_id = read_json(run / RECIPE_FILE), read_identity(run).run_id
    live = recipe.get("tracking", {}).get("trackers", ())
    if tracker in live and is_locked(run / "lock"):
        raise ConfigError(
            f"{run}: is at work, and sends its metrics to {tracker} itself\n  fix: wait until it has ended"
        )
    project = project or recipe.get("tracking", {}).get("project") or str(recipe["name"])
    stages: dict[str, list[dict[str, Any]]] = {}
    for record in read_metrics(run / METRICS_FILE):
        stages.setdefault(record["stage"], []).append(record)
    sent = []
    for name, records in stages.items():
        stage = TrackedStage(run_dir=run, run_id=run_id, stage=name, project=project, recipe=recipe)
        store = TRACKERS[tracker](stage)
        for record in records:
            store.send(record["step"], named(record, aliases))
        store.close()
        sent.append(Sent(stage=name, rows=len(records), place=store.place))
    return sent
