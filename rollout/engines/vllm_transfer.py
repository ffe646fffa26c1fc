"""Weights from a safetensors file, whole or as an adapter, into a running vLLM worker: check everything, then
load in place.

A backend of vLLM's native weight-transfer API (`start`, `update`, `finish`). `update_weights` only reads and
checks, while the engine goes on sampling; `finish_weight_update` loads, while it is paused. Between the two
every worker has reported whether it can, so an update is loaded by all workers or by none.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.config.weight_transfer import WeightTransferConfig
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)

from data.checksum import ChecksumMemory
from rollout.engines.tensor_spec import SAFETENSORS_DTYPES
from rollout.engines.weight_file import find_problem, read_model_specs, read_weights

BACKEND = "braid_file"


@dataclass
class InitInfo(WeightTransferInitInfo):
    """No settings: the expected tensors are those of the model directory."""


@dataclass
class UpdateInfo(WeightTransferUpdateInfo):
    """A safetensors file and the checksum of its bytes."""

    path: str
    checksum: str


class FileWeightTransfer(WeightTransferEngine[InitInfo, UpdateInfo]):
    """Weight transfer inside the worker. A bad file is reported, not raised: raising would leave the update
    open.
    """

    init_info_cls = InitInfo
    update_info_cls = UpdateInfo

    def __init__(
        self,
        config: WeightTransferConfig,
        vllm_config: VllmConfig,
        device: torch.device,
        model: torch.nn.Module,
    ) -> None:
        super().__init__(config, vllm_config, device, model)
        self._expected = read_model_specs(Path(self.model_config.model))
        self._serving_dtype = SAFETENSORS_DTYPES[str(self.model_config.dtype).removeprefix("torch.")]
        self._base_checksum = ChecksumMemory()
        self._checked: Path | None = None
        self._report: dict[str, Any] = {}

    def init_transfer_engine(self, init_info: InitInfo) -> None:
        """No connection is needed."""

    def start_weight_update(self) -> None:
        """Forget the last update."""
        self._checked = None
        self._report = {"problem": "no file was named", "check_s": 0.0, "load_s": 0.0, "bytes": 0}

    def receive_weights(self, update_info: UpdateInfo) -> None:
        """Check the file, without changing the model."""
        started = time.monotonic()
        path = Path(update_info.path)
        problem = find_problem(
            path, update_info.checksum, self._expected, self._serving_dtype, self._base_checksum
        )
        self._report["problem"] = problem
        self._report["check_s"] = time.monotonic() - started
        if problem is None:
            self._checked = path
            self._report["bytes"] = path.stat().st_size

    def finish_weight_update(self) -> None:
        """Load the checked file in place, cast to the serving dtype; no effect without a checked file."""
        if self._checked is None:
            return
        started = time.monotonic()
        with torch.no_grad():
            self.model.load_weights(read_weights(self._checked, self._expected))
        torch.accelerator.synchronize()
        self._checked = None
        self._report["load_s"] = time.monotonic() - started

    def report(self) -> dict[str, Any]:
        """`problem` (str | None), `check_s`, `load_s` (seconds), `bytes` of the last update."""
        return dict(self._report)

    def discard(self) -> None:
        """Drop the checked file, so that the next `finish_weight_update` has no effect."""
        self._checked = None

    def shutdown(self) -> None:
        """No resource is held here."""
