"""The real engine: one vLLM AsyncLLM, with token ids in and out.

Results are exact: ids and log-probabilities as sampled, after temperature, and the weight version of every
token, also when weights were published in the middle of a call. At temperature 0 sampling is greedy and
the log-probabilities are those of the model's own distribution (temperature 1), since the greedy one is
degenerate.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from data.episodes.trajectory import StopReason
from data.errors import EngineError, PublishError
from rollout.engines.base import EngineRequest, EngineResult, OnTokens, PublishReport
from rollout.engines.engine_log import EngineLog
from rollout.engines.vllm_call import check_request, engine_result, sampling_params
from rollout.engines.vllm_compat import ABORT, CACHE_USAGE, set_environment
from rollout.engines.vllm_settings import VllmSettings, check_settings, read_config
from rollout.engines.vllm_start import started

LIVENESS_SECONDS = 0.2
REAP_SECONDS = 5.0


class VllmEngine:
    """Implements `RestartableEngine`: `await VllmEngine.start(settings)` first, `shutdown()` at the end."""

    def __init__(self, settings: VllmSettings, llm: Any, vocabulary: int, log: EngineLog) -> None:
        """`vocabulary`: number of ids that calls may hold."""
        self._settings = settings
        self._llm = llm
        self._vocabulary = vocabulary
        self._log = log
        self._version = settings.version
        self._salt = str(settings.version)
        """Calls share cached prefixes with those of the same salt; empty while the weights change."""
        self._publishing = asyncio.Lock()
        self._aborting: set[asyncio.Future[Any]] = set()
        self._closed = False

    @classmethod
    async def start(cls, settings: VllmSettings) -> Self:
        """Load the model in a separate process (takes seconds); the event loop goes on meanwhile.

        Raises ConfigError for settings that cannot work, EngineError when vLLM fails to start.
        """
        check_settings(settings)
        set_environment(settings)
        log = EngineLog.of_run()
        try:
            with log.capture():
                llm = await started(settings)
        except (RuntimeError, ValueError, NotImplementedError, OSError) as error:
            cause = log.cause() or "; its output above has the cause"
            raise EngineError(f"vLLM did not start for {settings.model_dir}: {error}{cause}") from error
        vocabulary = settings.vocabulary or int(read_config(settings.model_dir)["vocab_size"])
        engine = cls(settings, llm, vocabulary, log)
        with contextlib.ExitStack() as undo:
            undo.callback(engine.shutdown)
            await engine._prepare()
            undo.pop_all()
        return engine

    @property
    def max_length(self) -> int:
        """Longest context + output of one call, in tokens."""
        return self._settings.max_length

    @property
    def version(self) -> int:
        """Version of the weights being served."""
        return self._version

    @property
    def dead(self) -> bool:
        """Whether it was shut down or its core process has ended."""
        return self._closed or bool(self._llm.errored)

    async def probe(self) -> None:
        """Return between two steps of the model; a hanging engine never does. Raises EngineError when it is
        dead.
        """
        await self._ask(self._llm.engine_core.call_utility_async("has_work"))

    async def cache_usage(self) -> float:
        """Share of the key-value cache that live calls hold, in [0, 1]. Raises EngineError when dead."""
        return float(await self._ask(self._llm.engine_core.call_utility_async(CACHE_USAGE)))

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Ids of the core process, and of the ranks when there are several."""
        return tuple(process.pid for process in self._processes()) + tuple(
            process.pid for process in self._ranks()
        )

    async def generate(self, request: EngineRequest, on_tokens: OnTokens | None = None) -> EngineResult:
        """Sample one call. Raises EngineError when the engine is dead, or refuses the request."""
        if self._closed:
            raise EngineError("the engine has been shut down")
        check_request(request, self._settings, self._vocabulary)
        while True:
            salt = self._salt_of(request)
            result = await self._generate(request, salt, on_tokens)
            # Submitted before a publication and started after it from a prefix of the old weights: repeat.
            stale = salt not in (None, request.id) and result.cached_tokens and result.versions
            if not stale or str(result.versions[0].version) == salt or result.stop is StopReason.ABORT:
                return result

    async def _generate(
        self, request: EngineRequest, salt: str | None, on_tokens: OnTokens | None
    ) -> EngineResult:
        from vllm.exceptions import VLLMClientError
        from vllm.inputs import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        started = time.monotonic()
        final, seen = None, 0
        try:
            async for final in self._llm.generate(
                tokens_input(list(request.prompt), cache_salt=salt),
                sampling_params(request, each_step=on_tokens is not None),
                request.id,
            ):
                if on_tokens is not None and (new := tuple(final.outputs[0].token_ids[seen:])):
                    on_tokens(seen, new)
                    seen += len(new)
        except (EngineDeadError, EngineGenerateError) as error:
            raise EngineError(f"the engine died while serving {request.id}{self._log.cause()}") from error
        except (VLLMClientError, ValueError) as error:
            raise EngineError(f"the engine refused {request.id}: {error}") from error
        if final is None:
            raise EngineError(f"the engine ended {request.id} without a result")
        return engine_result(final, started)

    async def limit_vocabulary(self, size: int) -> None:
        """Sample from, and normalise over, the first `size` ids alone; contexts hold no others."""
        await self._ask(self._llm.collective_rpc("braid_limit_vocabulary", args=(size,)))
        self._vocabulary = size

    def cancel(self, request_ids: Sequence[str]) -> None:
        """Abort calls: each returns the tokens it has, with stop ABORT. Unknown ids are ignored."""
        known = self._llm.output_processor.external_req_ids
        calls = [call for request_id in request_ids for call in known.get(request_id, ())]
        if calls and not self.dead:
            # Not by `_ask`, which would send it one turn of the event loop later.
            told = asyncio.ensure_future(self._llm.engine_core.call_utility_async(ABORT, calls))
            self._aborting.add(told)
            told.add_done_callback(self._aborted)

    def _aborted(self, told: asyncio.Future[Any]) -> None:
        self._aborting.discard(told)
        if not told.cancelled():
            told.exception()  # of a dead engine, whose calls have ended as well

    async def publish(self, path: Path, version: int, checksum: str) -> PublishReport:
        """Replace the weights by those in a safetensors file and label them `version`.

        `checksum` is `data.checksum.file_checksum(path)`; the file must not change while this runs. Calls in
        flight continue under the new weights: their contexts are recomputed (or kept, see the settings), and
        their results have the version of every token. Raises PublishError when the file is damaged or does
        not fit the model; then nothing has changed. Raises EngineError when the engine failed; then it is
        dead.
        """
        # Shielded: a caller that gives up must not leave an update half done.
        return await asyncio.shield(self._publish(path, version, checksum))

    def shutdown(self) -> None:
        """End the engine's processes at once; calls in flight fail with EngineError. May be called twice."""
        if self._closed:
            return
        self._closed = True
        for told in self._aborting:
            told.cancel()
        from vllm.v1.engine.exceptions import EngineDeadError

        # vLLM's own shutdown would leave the calls in flight waiting without end.
        self._llm.output_processor.propagate_error(EngineDeadError())
        # The core has nothing to save, and its orderly shutdown takes seconds.
        processes, ranks = self._processes(), self._ranks()
        for process in (*processes, *ranks):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in processes:
            process.join(REAP_SECONDS)
        self._llm.shutdown(timeout=0)
        # Outside a running event loop vLLM only schedules this, and ZeroMQ would then wait for the open
        # sockets without end, at the interpreter's exit or sooner.
        resources = self._llm.engine_core.resources
        for socket in (resources.input_socket, resources.output_socket):
            if not socket.closed:
                socket.close(linger=0)
        # AsyncLLM.__del__ shuts down again, and at interpreter exit prints a traceback doing so.
        self._llm.shutdown = lambda timeout=None: None

    async def _prepare(self) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        # vLLM caches the answer; with it, `generate` registers a call before it first yields to the event
        # loop, and a `cancel` right after cannot miss it.
        await self._ask(self._llm.get_supported_tasks())
        await self._ask(self._llm.init_weight_transfer_engine(WeightTransferInitRequest()))
        await self._ask(self._llm.update_weight_version(str(self._version)))
        await self.limit_vocabulary(self._vocabulary)

    async def _publish(self, path: Path, version: int, checksum: str) -> PublishReport:
        async with self._publishing:
            started = time.monotonic()
            update = {"path": str(path), "checksum": checksum}
            reports = await self._ask(self._llm.collective_rpc("braid_check_weights", args=(update,)))
            problem = next((report["problem"] for report in reports if report["problem"] is not None), None)
            if problem is not None:
                await self._ask(self._llm.collective_rpc("braid_discard_weights"))
                await self._ask(self._llm.finish_weight_update())
                raise PublishError(f"version {version} not loaded from {path}: {problem}")
            pause_s, reports = await self._swap(version)
            return PublishReport(
                version=version,
                check_s=max(report["check_s"] for report in reports),
                pause_s=pause_s,
                load_s=max(report["load_s"] for report in reports),
                total_s=time.monotonic() - started,
                bytes=reports[0]["bytes"],
            )

    async def _swap(self, version: int) -> tuple[float, list[dict[str, Any]]]:
        """Pause, load, label, resume. -> (pause in seconds, the workers' reports)."""
        core = self._llm.engine_core
        paused = time.monotonic()
        try:
            # Not AsyncLLM.pause_generation: the same call, and then a fixed sleep of 20 ms.
            self._salt = ""
            clear = self._settings.kv == "recompute"
            await self._ask(core.pause_scheduler_async(mode="keep", clear_cache=clear))
            self._salt = str(version)
            await self._ask(self._llm.finish_weight_update(weight_version=str(version)))
            # While paused: afterwards an answer waits for the first step, which recomputes all contexts.
            reports = await self._ask(self._llm.collective_rpc("braid_weight_report"))
            await self._ask(core.resume_scheduler_async())
        except EngineError:
            # The weights may be loaded in part: never sample from them.
            self.shutdown()
            raise
        self._version = version
        return time.monotonic() - paused, reports

    async def _ask(self, call: Awaitable[Any]) -> Any:
        """Await a control call; it fails when the engine dies. vLLM alone would wait without end."""
        answer = asyncio.ensure_future(call)
        try:
            while not (await asyncio.wait({answer}, timeout=LIVENESS_SECONDS))[0]:
                if self._llm.errored:
                    raise EngineError(f"the engine died during a control call{self._log.cause()}")
        finally:
            if not answer.done():
                answer.cancel()
        try:
            return answer.result()
        except Exception as error:  # vLLM reports a failed control call as a bare Exception
            raise EngineError(f"a control call failed in the engine: {error}") from error

    def _salt_of(self, request: EngineRequest) -> str | None:
        """Salt of the call's prefix cache: a call reuses no prefix of other weights, even where the cache
        outlives them. While a pause is being requested, the weights of a new call are not known yet: its
        salt is its own id, so it shares nothing.
        """
        return None if self._settings.kv == "recompute" else self._salt or request.id

    def _ranks(self) -> list[psutil.Process]:
        return [] if self._settings.tensor_parallel == 1 else _children(self._processes())

    def _processes(self) -> list[Any]:
        manager = self._llm.engine_core.resources.engine_manager
        return list(manager.processes) if manager is not None else []


def _children(processes: Sequence[Any]) -> list[psutil.Process]:
    """What the core processes have started: the ranks, when there are several."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += psutil.Process(process.pid).children(recursive=True)
    return found
