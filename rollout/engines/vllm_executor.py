"""Executor of an engine that is split over several ranks (tensor parallelism): one process a rank.

With one rank the model is in the core process, and importing `vllm_worker` there prepares both. With several
the core process has no model, and is prepared by this executor.
"""

import os

from vllm.v1.executor.multiproc_executor import MultiprocExecutor

from data.stacks import write_stacks_on_signal
from rollout.engines.vllm_compat import PARENT, answer_cache_usage, hold_outputs, watch_parent


class RankExecutor(MultiprocExecutor):
    """vLLM's own, in a core process prepared as with one rank. The death of a rank ends the core."""

    def _init_executor(self) -> None:
        write_stacks_on_signal()
        watch_parent(int(os.environ[PARENT]))
        answer_cache_usage()
        hold_outputs()
        super()._init_executor()
