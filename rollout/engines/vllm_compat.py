"""Settings and patches that RL rollouts need of vLLM 0.32, each with its reason and when it can be removed.

The module imports vLLM only inside functions: the environment must be set first.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data.stacks import LOGS
from rollout.engines.vllm_settings import VllmSettings, resolve_device

PARENT = "BRAID_ENGINE_PARENT"
BATCH_INVARIANT = "BRAID_ENGINE_BATCH_INVARIANT"
MAX_ROWS = "BRAID_ENGINE_MAX_ROWS"
WATCH_SECONDS = 0.25
CACHE_USAGE = "braid_cache_usage"
"""Name of the core's method that `answer_cache_usage` adds."""
ABORT = "braid_abort"
"""Name of the core's method that `hold_outputs` adds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """One environment variable of an engine; `value` None removes it."""

    name: str
    value: str | None
    why: str


def is_batch_invariant(settings: VllmSettings) -> bool:
    """Whether the engine is batch invariant; the default is yes on CPU, no on CUDA."""
    if settings.batch_invariant is None:
        return resolve_device(settings.device) == "cpu"
    return settings.batch_invariant


def step_tokens(settings: VllmSettings) -> int:
    """Most tokens in one step of the model: at least one whole context, since contexts are never split."""
    return max(settings.max_length, settings.max_live_calls, 4096)


def environment(settings: VllmSettings) -> tuple[Variable, ...]:
    """The variables an engine needs, in this process and (inherited) in its core process."""

    def row(name: str, value: str | None, why: str) -> Variable:
        return Variable(name=name, value=value, why=why)

    invariant = is_batch_invariant(settings)
    level = "INFO" if LOGS in os.environ else "ERROR"
    common: tuple[Variable, ...] = (
        row("VLLM_NO_USAGE_STATS", "1", "no telemetry"),
        row("VLLM_DO_NOT_TRACK", "1", "no telemetry"),
        row("HF_HUB_OFFLINE", "1", "the model is a local directory; never ask the network for it"),
        row("HF_HUB_DISABLE_TELEMETRY", "1", "no telemetry"),
        row("VLLM_LOGGING_LEVEL", os.environ.get("VLLM_LOGGING_LEVEL", level), "INFO is a page per start"),
        row("TOKENIZERS_PARALLELISM", "false", "no tokenizer threads beside the model"),
        row(PARENT, str(os.getpid()), "the process that the core process watches (watch_parent)"),
        row(BATCH_INVARIANT, str(int(invariant)), "read by vllm_worker in the core process"),
        row(MAX_ROWS, str(step_tokens(settings)), "read by vllm_worker in the core process"),
    )
    if settings.tensor_parallel > 1:
        common += (
            row("VLLM_HOST_IP", "127.0.0.1", "all ranks of an engine are on its machine"),
            row("GLOO_SOCKET_IFNAME", "lo", "the ranks talk over the loopback interface alone"),
            row("VLLM_CPU_OMP_THREADS_BIND", "nobind", "bound ranks of two engines would share cores"),
        )
    if resolve_device(settings.device) == "cuda":
        return (*common, row("VLLM_BATCH_INVARIANT", str(int(invariant)), "vLLM's own invariant kernels"))
    return (
        *common,
        row("VLLM_ENABLE_V1_MULTIPROCESSING", "0", "or `uni` becomes `mp`: one process more"),
        row("OMP_NUM_THREADS", str(settings.threads), "unset, it takes all cores and crawls"),
        row("TORCHDYNAMO_DISABLE", "1", "or the first call compiles C++ for seconds, for no gain"),
        row("VLLM_CPU_KVCACHE_SPACE", None, "would override kv_cache_memory_bytes, in whole GiB"),
        row("VLLM_CPU_ATTN_SPLIT_KV", str(int(not invariant)), "it would split by batch"),
    )


def set_environment(settings: VllmSettings) -> None:
    """Set the variables of `environment`. This must run before the first import of vLLM in the process."""
    for variable in environment(settings):
        if variable.value is None:
            os.environ.pop(variable.name, None)
        else:
            os.environ[variable.name] = variable.value


def use_plain_gemm(batch_invariant: bool, max_rows: int) -> None:
    """Let CPU linear layers keep `.weight` and multiply by it. Call this in the worker before the model is
    loaded.

    Why: vLLM packs the weights of CPU linear layers for oneDNN and replaces `.weight` by an empty tensor, so
    `load_weights` cannot update them in place; with tied embeddings the packed copy of the output layer would
    silently keep the old weights through an update. It costs nothing on small layers, and batch invariance
    comes from here. Remove when vLLM can reload CPU weights in place, tied ones included, and has
    batch-invariant CPU products.
    """
    from vllm.model_executor.layers import utils

    from rollout.engines.batch_invariant import choose_linear

    chosen: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def dispatch(layer: Any, remove_weight: bool) -> None:
        import torch

        weight = layer.weight
        if not batch_invariant or weight.is_meta or weight.ndim != 2:
            layer.cpu_linear = torch.nn.functional.linear
            return
        key = (tuple(weight.shape), weight.dtype)
        if key not in chosen:
            chosen[key] = choose_linear(weight.detach(), max_rows)
        layer.cpu_linear = chosen[key]

    utils.dispatch_cpu_unquantized_gemm = dispatch


def start_cores_fast() -> None:
    """Makes core processes begin in `vllm_core_start`, which imports vLLM without the garbage collector.

    Why: that saves a quarter of a core's processor time until it is ready, with the five collections of
    loading a model. A core unpickles its target before the arguments, so `vllm_core_start` comes before vLLM.
    Remove when vLLM imports less, or freezes what it has imported.
    """
    from vllm.v1.engine.core import EngineCoreProc

    from rollout.engines.vllm_core_start import run_core

    EngineCoreProc.run_engine_core = staticmethod(run_core)


def answer_cache_usage() -> None:
    """Adds a method to the core that returns the share of the key-value cache that live calls hold.

    Why: vLLM reports it only in its statistics, which it would collect for every token of every call. Remove
    when the core has such a method.
    """
    from vllm.v1.engine.core import EngineCore

    def usage(core: Any) -> float:
        return float(core.scheduler.kv_cache_manager.usage)

    setattr(EngineCore, CACHE_USAGE, usage)


def hold_outputs() -> None:
    """Makes the core send a call's tokens in portions (`HeldOutputs`), and adds a method that ends calls by
    id and sends what they have.

    Why: one message per step, with three arrays per token, costs the front end more than all else. Held
    tokens are sent before the weights change, so that every portion is of one version; a call that vLLM's
    front end aborts itself would lose them. Remove when vLLM's core sends a call's
    log-probabilities at its end when `FINAL_ONLY` is set.
    """
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
    from vllm.v1.engine.core import EngineCore

    from rollout.engines.held_outputs import HeldOutputs

    label, set_version = EngineCore._attach_weight_version, EngineCore.set_weight_version
    abort, held = EngineCore.abort_requests, HeldOutputs()

    def send(core: Any, outputs: list[Any]) -> None:
        if outputs:
            message = EngineCoreOutputs(outputs=outputs, weight_version=core._weight_version)
            core.output_queue.put_nowait((0, message))

    def is_read(core: Any, call: str) -> bool:
        # Tokens are needed at once for streaming, or by the front end when strings can end the call.
        request = core.scheduler.requests.get(call)
        if request is None:
            return False
        sampling = request.sampling_params
        return bool(sampling.stop) or sampling.output_kind != RequestOutputKind.FINAL_ONLY

    def portions(core: Any, messages: dict[int, Any]) -> None:
        for client, message in list(messages.items()):
            ready = [held.add(output, at_once=is_read(core, output.request_id)) for output in message.outputs]
            message.outputs = [output for output in ready if output is not None]
            if not (message.outputs or message.scheduler_stats or message.finished_requests):
                del messages[client]
        label(core, messages)

    def relabel(core: Any, version: str) -> None:
        send(core, held.take_all())
        set_version(core, version)

    def forget(core: Any, calls: list[str]) -> None:
        abort(core, calls)
        for call in calls:
            held.take(call)

    def end(core: Any, calls: list[str]) -> None:
        live = [call for call in calls if call in core.scheduler.requests]
        abort(core, live)
        ended = {"new_token_ids": [], "finish_reason": FinishReason.ABORT}
        send(core, [held.add(EngineCoreOutput(request_id=call, **ended)) for call in live])

    EngineCore._attach_weight_version = portions
    EngineCore.set_weight_version = relabel
    EngineCore.abort_requests = forget
    setattr(EngineCore, ABORT, end)


def watch_parent(parent: int) -> None:
    """Starts a thread that ends this process within `WATCH_SECONDS` of its parent's end.

    Why: outside Ray, a core process outlives a front end that was killed with SIGKILL, and keeps its memory.
    Remove when vLLM's core ties its life to its parent's.
    """

    def watch() -> None:
        never = threading.Event()
        while os.getppid() == parent:
            never.wait(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="braid-parent-watch", daemon=True).start()
