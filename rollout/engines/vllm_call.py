"""One call in vLLM's types: its request, its result, and checks of requests that vLLM would not survive."""

import copy
import time
from functools import lru_cache
from typing import Any

from data.episodes.trajectory import StopReason, VersionSpan
from data.errors import EngineError
from rollout.engines.base import EngineRequest, EngineResult
from rollout.engines.vllm_settings import VllmSettings

STOP_REASONS = {"stop": StopReason.STOP, "length": StopReason.LENGTH, "abort": StopReason.ABORT}


def check_request(request: EngineRequest, settings: VllmSettings, vocabulary: int) -> None:
    """Raises EngineError for a request that is too long, has unknown ids, or stops on text although the
    setting `text_stops` is off. `vocabulary`: number of ids that exist.
    """
    room = settings.max_length - len(request.prompt)
    if room < 1 or not request.prompt or request.max_tokens < 1:
        raise EngineError(
            f"{request.id}: a context of {len(request.prompt)} ids and {request.max_tokens} more is not a "
            f"call of at most {settings.max_length} tokens"
        )
    if request.stop_texts and not settings.text_stops:
        raise EngineError(f"{request.id}: stops on text, which needs the setting text_stops")
    # Such an id would end the core process, and every call with it.
    if not 0 <= min(request.prompt) <= max(request.prompt) < vocabulary:
        raise EngineError(f"{request.id}: context ids must be in 0..{vocabulary - 1}")


def sampling_params(request: EngineRequest, *, each_step: bool = False) -> Any:
    """The request as vLLM's `SamplingParams`. `each_step`: outputs come with every step, not once."""
    # Checked once for all calls that differ in their seed alone; the checks take longer than the rest.
    made = copy.copy(
        _unseeded(
            request.temperature,
            request.max_tokens,
            tuple(request.stops),
            tuple(request.stop_texts),
            request.score_prompt,
            each_step,
        )
    )
    made.seed = request.seed
    return made


@lru_cache(maxsize=4096)
def _unseeded(
    temperature: float,
    max_tokens: int,
    stops: tuple[int, ...],
    texts: tuple[str, ...],
    score_prompt: bool,
    each_step: bool,
) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=temperature,
        seed=0,
        max_tokens=max_tokens,
        stop_token_ids=list(stops),
        ignore_eos=True,  # or the model directory's own end-of-sequence id would be one more stop
        stop=list(texts) or None,
        include_stop_str_in_output=True,
        logprobs=0,  # of the sampled token only
        prompt_logprobs=0 if score_prompt else None,
        flat_logprobs=True,
        detokenize=bool(texts),
        output_kind=RequestOutputKind.CUMULATIVE if each_step else RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def engine_result(final: Any, started: float) -> EngineResult:
    """The result from vLLM's last `RequestOutput` of a call that was submitted at `started`."""
    output = final.outputs[0]
    ids = tuple(output.token_ids)
    logprobs = tuple(output.logprobs.logprobs) if ids else ()
    assert len(logprobs) == len(ids), "logprobs=0 means one per sampled token"
    spans = output.weight_versions or ()
    return EngineResult(
        output=ids,
        logprobs=logprobs,
        versions=tuple(VersionSpan(version=int(s.version), start=s.start, stop=s.end) for s in spans),
        stop=STOP_REASONS.get(output.finish_reason, StopReason.ERROR),
        cached_tokens=final.num_cached_tokens or 0,
        started_s=started,
        finished_s=time.monotonic(),
        prompt_logprobs=tuple(final.prompt_logprobs.logprobs) if final.prompt_logprobs else (),
    )
