"""Checks of stage names and export folders: they must not collide with other files of a run directory."""

from collections.abc import Iterator
from pathlib import Path

from rl.config.base import ConfigIssue
from rl.config.recipe import Recipe
from rl.config.stages import ExportStage

RUN_FILES = (
    "accounting.json", "activity.json", "figure.png", "figure.svg", "fingerprint.json", "ledger.sqlite",
    "lock", "logs", "metrics.jsonl", "problems", "recipe.json", "stages", "start", "summary.json",
    "tensorboard", "trackers",
)  # fmt: skip
"""Files that the run itself keeps in its directory: see rl.storage.run_directory."""
RESERVED_STAGES = ("start", "run")
"""`start` stands for the initial weights, `run` for the run as a whole in the ledger."""
_LONGEST_NAME = 200
"""Bytes of a file name, with room for the suffix of a partly written one (255 is the system's limit)."""


def name_issues(recipe: Recipe) -> Iterator[ConfigIssue]:
    """A rule of rl.config.crosscheck."""
    taken: dict[Path, str] = {}
    for index, stage in enumerate(recipe.stages):
        if stage.name in RESERVED_STAGES:
            reason = "is a name that Braid uses itself"
            yield ConfigIssue(
                key=f"stages.{index}.name", value=stage.name, reason=reason, remedy="rename the stage"
            )
        if isinstance(stage, ExportStage):
            reason, remedy = _wrong(stage.directory, taken)
            if reason:
                key = f"{stage.name}.directory"
                yield ConfigIssue(key=key, value=str(stage.directory), reason=reason, remedy=remedy)
            taken[stage.directory] = stage.name


def _wrong(directory: Path, taken: dict[Path, str]) -> tuple[str, str]:
    """(reason, remedy); empty when the export can be written there."""
    remedy = "give a plain relative path such as export; `braid export` writes elsewhere"
    if directory.is_absolute() or ".." in directory.parts or not directory.parts:
        return "must lie inside the run directory", remedy
    if not str(directory).isprintable():
        return "has characters that cannot be printed", remedy
    if any(len(part.encode()) > _LONGEST_NAME for part in directory.parts):
        return f"has a name longer than {_LONGEST_NAME} bytes", remedy
    first = directory.parts[0]
    if first in RUN_FILES or first.startswith(("ledger.sqlite", ".")):
        return f"{first} belongs to the run itself", remedy
    for other, name in taken.items():
        if directory == other or directory in other.parents or other in directory.parents:
            return f"stage {name!r} exports there already ({other})", "give each export its own folder"
    return "", ""
