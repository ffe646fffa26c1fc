"""TensorBoard: event files in the run directory, one folder for each stage."""

import shutil
from collections.abc import Mapping

from rl.tracking.trackers.base import TrackedStage, need

TENSORBOARD_FOLDER = "tensorboard"


class TensorBoardFiles:
    """The event file of one stage, under RUN/tensorboard/STAGE."""

    def __init__(self, stage: TrackedStage) -> None:
        # TensorBoard's own writer: PyTorch's brings PyTorch.
        summary = need("tensorboard.summary", "tensorboard")
        folder = stage.run_dir / TENSORBOARD_FOLDER / stage.stage
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = summary.Writer(str(folder))
        self.place = f"tensorboard --logdir {folder.parent}"

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """Add the row of a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
