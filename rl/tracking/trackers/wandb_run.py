"""Weights & Biases: one run for each stage, offline in RUN/trackers/wandb unless WANDB_MODE says otherwise.

`wandb sync` uploads an offline run; its id stays the same however often it is sent. Online, rows of steps
that the server has are kept as they are.
"""

import os
import shutil
import time
from collections.abc import Mapping

from rl.tracking.trackers.base import STORES, TrackedStage, need
from rl.tracking.trackers.names import VALIDATION_STEP, is_validation


class WandbRun:
    """The open run of one stage."""

    def __init__(self, stage: TrackedStage) -> None:
        wandb = need("wandb", "wandb")
        folder = stage.run_dir / STORES
        folder.mkdir(exist_ok=True)
        # One for each earlier sending.
        earlier = list((folder / "wandb").glob(f"offline-run-*-{stage.id}"))
        for old in earlier:
            shutil.rmtree(old)
        # Folders are named after the second, and wandb's service may not have closed the removed one yet:
        # the new one gets another name.
        while any(time.strftime("%Y%m%d_%H%M%S") in old.name for old in earlier):
            time.sleep(0.05)
        self._run = wandb.init(
            project=stage.project,
            id=stage.id,
            name=stage.name,
            group=stage.run_dir.name,
            job_type=stage.stage,
            config=dict(stage.recipe),
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            resume="allow",
            reinit="create_new",
            # The console, the machine and the source code are not its business.
            settings=wandb.Settings(
                console="off", quiet=True, silent=True, disable_git=True, disable_code=True,
                x_disable_stats=True, x_disable_meta=True,
            ),
        )  # fmt: skip
        self._defined: set[str] = set()
        self._run.define_metric(VALIDATION_STEP, hidden=True)
        files = self._run.settings.sync_dir
        self.place = f"wandb sync {files}" if self._run.settings._offline else str(self._run.url)

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """Add the row of a step; validation metrics get their own axis."""
        for name in filter(is_validation, values):
            if name not in self._defined and name != VALIDATION_STEP:
                self._defined.add(name)
                self._run.define_metric(name, step_metric=VALIDATION_STEP)
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Finish the run. Offline, wandb's service writes the last records of its file soon after."""
        self._run.finish()
