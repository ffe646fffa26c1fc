"""Start of a vLLM engine in a thread, which can be given up while it runs.

A start takes tens of seconds of processor time, nearly all of it in the core process. Whoever gives it up, as
Ctrl-C does in a server that starts, waits for no more than the core's death.
"""

import asyncio
import multiprocessing
import threading
import time
from typing import Any

from data.errors import ConfigError
from rollout.engines.vllm_compat import start_cores_fast, step_tokens
from rollout.engines.vllm_settings import GIB, VllmSettings, resolve_device

_CORE = "EngineCore"
"""Name of vLLM's core process."""
_LOOK_S = 0.05
"""Seconds between two looks for the core of a start that was given up."""


async def started(settings: VllmSettings) -> Any:
    """The AsyncLLM, started in a thread: a server whose engine is replaced answers other requests meanwhile.
    When the caller is cancelled, what it has started is ended at once.
    """
    start = _Start(settings)
    running = asyncio.ensure_future(asyncio.to_thread(start.run))
    running.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        start.give_up()
        raise


class _Start:
    """One start of an engine."""

    _one_at_a_time = threading.Lock()
    """Held by a start: cores that appear meanwhile are its own."""

    def __init__(self, settings: VllmSettings) -> None:
        self._settings = settings
        self._change = threading.Lock()
        self._others: set[int] | None = None
        """Ids of the cores of other engines; None before the start and after it."""
        self._given_up = threading.Event()

    def run(self) -> Any:
        """The AsyncLLM; in a thread of its own. Raises RuntimeError when it was given up meanwhile."""
        arguments = _engine_args(self._settings)
        from vllm.v1.engine.async_llm import AsyncLLM

        start_cores_fast()
        with self._one_at_a_time:
            with self._change:
                if self._given_up.is_set():
                    raise RuntimeError("the start was given up")
                self._others = {process.pid for process in _cores()}
            try:
                llm = AsyncLLM.from_engine_args(arguments)
            finally:
                with self._change:
                    self._others = None
        if self._given_up.is_set():
            llm.shutdown(timeout=0)
            llm.shutdown = lambda timeout=None: (
                None
            )  # its __del__ would do it again, at exit with a traceback
            raise RuntimeError("the start was given up")
        return llm

    def give_up(self) -> None:
        """End the core that is being started, also one that appears only now."""
        self._given_up.set()
        threading.Thread(target=self._end_cores, name="braid-end-cores", daemon=True).start()

    def _end_cores(self) -> None:
        while True:
            with self._change:
                if self._others is None:
                    return
                for process in _cores():
                    if process.pid not in self._others:
                        process.kill()
            time.sleep(_LOOK_S)


def _cores() -> list[Any]:
    return [child for child in multiprocessing.active_children() if child.name.startswith(_CORE)]


def _engine_args(settings: VllmSettings) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    device = resolve_device(settings.device)
    if current_platform.device_type != device:
        raise ConfigError(
            f"engine.device: this vLLM is built for {current_platform.device_type}, not {device}; "
            f"install requirements/{'gpu' if device == 'cuda' else 'cpu'}.txt or change the setting"
        )
    special: dict[str, Any] = {"enforce_eager": True} if device == "cpu" else {}
    if settings.tensor_parallel > 1:
        from rollout.engines.vllm_executor import RankExecutor

        special["distributed_executor_backend"] = RankExecutor
    elif device == "cpu":
        special["distributed_executor_backend"] = "uni"
    return AsyncEngineArgs(
        model=str(settings.model_dir),
        dtype=settings.dtype,
        seed=settings.seed,
        max_model_len=settings.max_length,
        max_num_seqs=settings.max_live_calls,
        max_num_batched_tokens=step_tokens(settings),
        # A seeded prompt that is split over steps kills the CPU engine ("Generator does not use offset").
        enable_chunked_prefill=False,
        enable_prefix_caching=True,
        block_size=settings.block_size if device == "cpu" else None,
        tensor_parallel_size=settings.tensor_parallel,
        kv_cache_memory_bytes=int(settings.kv_cache_gb * GIB) // settings.tensor_parallel,  # of each rank
        skip_tokenizer_init=not settings.text_stops,
        generation_config="vllm",  # or the model directory's own sampling defaults leak in
        logprobs_mode="processed_logprobs",
        max_logprobs=1,
        worker_extension_cls="rollout.engines.vllm_worker.WorkerExtension",
        weight_transfer_config={"backend": "braid_file"},
        disable_log_stats=True,
        use_tqdm_on_load=False,
        enable_log_requests=False,
        **special,
    )
