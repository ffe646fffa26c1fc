"""MLflow: one run for each stage in an experiment named after the project.

The store is the one that MLFLOW_TRACKING_URI names, else a SQLite file of the run: RUN/trackers/mlflow.db.
"""

import os
import re
import time
from collections.abc import Mapping

from rl.config.tree import leaves
from rl.tracking.trackers.base import STORES, TrackedStage, need

_ID_TAG = "braid.id"
_MOST_PARAMS, _LONGEST_PARAM = 100, 500
_REFUSED = re.compile(r"[^\w.\- :/]")
"""Characters that MLflow allows in no name."""


class MlflowRun:
    """The open run of one stage."""

    def __init__(self, stage: TrackedStage) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        mlflow = need("mlflow.tracking", "mlflow")
        self._entities = need("mlflow.entities", "mlflow")
        (stage.run_dir / STORES).mkdir(exist_ok=True)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{stage.run_dir / STORES / 'mlflow.db'}"
        self.place = f"mlflow ui --backend-store-uri {uri}"
        self._client = mlflow.MlflowClient(uri)
        known = self._client.get_experiment_by_name(stage.project)
        experiment = known.experiment_id if known else self._client.create_experiment(
            stage.project, artifact_location=(stage.run_dir / STORES / "mlflow").as_uri()
        )  # fmt: skip
        for old in self._client.search_runs([experiment], f"tags.`{_ID_TAG}` = '{stage.id}'"):
            self._client.delete_run(old.info.run_id)
        run = self._client.create_run(experiment, run_name=stage.name, tags={_ID_TAG: stage.id})
        self._run_id = run.info.run_id
        params = [
            self._entities.Param(mlflow_name(key), str(value)[:_LONGEST_PARAM])
            for key, value in leaves(stage.recipe)
        ]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._run_id, params=params[first : first + _MOST_PARAMS])

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """Add the row of a step."""
        now = int(time.time() * 1000)
        metrics = [
            self._entities.Metric(mlflow_name(name), value, now, step) for name, value in values.items()
        ]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run_id)


def mlflow_name(name: str) -> str:
    """A name that MLflow takes: `val-core/all/acc/mean@1` becomes `val-core/all/acc/mean_1`."""
    return _REFUSED.sub("_", name)
