"""Named to vLLM as `worker_extension_cls`: importing this module prepares a worker process, before it loads
the model.

Import it nowhere else: it patches vLLM and ties the life of the process to its parent's.
"""

import multiprocessing
import os
from typing import Any

from vllm.distributed.weight_transfer import WeightTransferEngineFactory
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.platforms import current_platform

from data.stacks import write_stacks_on_signal
from rollout.engines.vllm_compat import (
    BATCH_INVARIANT,
    MAX_ROWS,
    PARENT,
    answer_cache_usage,
    hold_outputs,
    use_plain_gemm,
    watch_parent,
)
from rollout.engines.vllm_transfer import BACKEND, FileWeightTransfer


def _prepare() -> None:
    # A core process's parent is the front end; a tensor-parallel worker's is the core, which watches.
    parent = int(os.environ[PARENT])
    current = multiprocessing.parent_process()
    write_stacks_on_signal()
    watch_parent(parent if current is None or current.pid == parent else current.pid or parent)
    if current_platform.is_cpu():
        use_plain_gemm(os.environ[BATCH_INVARIANT] == "1", int(os.environ[MAX_ROWS]))
    answer_cache_usage()
    hold_outputs()
    WeightTransferEngineFactory.register_engine(BACKEND, FileWeightTransfer)


_prepare()


class WorkerExtension:
    """Methods that the front end calls on every worker by name, besides vLLM's own."""

    weight_transfer_engine: Any
    start_weight_update: Any
    update_weights: Any
    get_model: Any

    def braid_limit_vocabulary(self, size: int) -> None:
        """Cut logits to the first `size` ids, before sampling and before log-probabilities: a model may have
        more rows than its tokenizer has tokens.
        """
        processors = [part for part in self.get_model().modules() if isinstance(part, LogitsProcessor)]
        assert processors, "every model that generates has one"
        for processor in processors:
            processor.org_vocab_size = size  # what vLLM itself uses to cut off its padding

    def braid_check_weights(self, update_info: dict[str, Any]) -> dict[str, Any]:
        """vLLM's `start_weight_update` and `update_weights`, and `braid_weight_report`.

        In one call, because each waits for a step of the model to end, and the engine is sampling meanwhile.
        """
        self.start_weight_update()
        self.update_weights(update_info)
        return self.braid_weight_report()

    def braid_weight_report(self) -> dict[str, Any]:
        """Report of the last update: `problem` (None when it may be applied), seconds, bytes."""
        report: dict[str, Any] = self.weight_transfer_engine.report()
        return report

    def braid_discard_weights(self) -> None:
        """Drop the checked file; `finish_weight_update` then changes nothing."""
        self.weight_transfer_engine.discard()
