"""trackio: one run for each stage in the project's SQLite file, under $TRACKIO_DIR or trackio's own folder.

Written through trackio's storage class, as its own importers do: `trackio.init` would begin a new run each
time and start a server.
"""

from collections.abc import Mapping

from rl.tracking.trackers.base import TrackedStage, need


class TrackioProject:
    """The run of one stage."""

    def __init__(self, stage: TrackedStage) -> None:
        self._storage = need("trackio.sqlite_storage", "trackio").SQLiteStorage
        self._stage = stage
        self._storage.delete_run(stage.project, stage.name, run_id=stage.id)
        self._is_new = True
        self.place = f"trackio show --project {stage.project}"

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """Add the row of a step; the first row brings the recipe along."""
        self._storage.bulk_log(
            self._stage.project,
            self._stage.name,
            [dict(values)],
            steps=[step],
            config=dict(self._stage.recipe) if self._is_new else None,
            run_id=self._stage.id,
        )
        self._is_new = False

    def close(self) -> None:
        """Nothing is left to do: every row is a transaction of its own."""
