"""The trackers there are, by the name that a recipe and `braid track` use."""

from collections.abc import Callable, Mapping
from typing import get_args

from rl.config.tracking import TrackerName
from rl.tracking.trackers.base import TrackedStage, Tracker
from rl.tracking.trackers.mlflow_run import MlflowRun
from rl.tracking.trackers.tensorboard_files import TensorBoardFiles
from rl.tracking.trackers.trackio_project import TrackioProject
from rl.tracking.trackers.wandb_run import WandbRun

TRACKERS: Mapping[TrackerName, Callable[[TrackedStage], Tracker]] = {
    "tensorboard": TensorBoardFiles,
    "wandb": WandbRun,
    "trackio": TrackioProject,
    "mlflow": MlflowRun,
}
assert tuple(TRACKERS) == get_args(TrackerName)
