"""Episodes on the real engine: cancelled siblings are gone at once and still paid for; text ends calls."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from data.episodes.topology import critical_tokens, total_tokens
from data.episodes.trajectory import Episode, StopReason, ThreadOutcome
from data.text.codec import Codec, load_codec
from data.text.prompt import Prompt
from rollout.engines.base import EngineRequest
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings
from rollout.protocols import build_protocol
from rollout.protocols.self_consistency import SelfConsistencyParams
from rollout.runner import EpisodeSpec, run_episode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class Stage:
    """One engine for all tests of this file, with its event loop."""

    def __init__(self, runner: asyncio.Runner, engine: VllmEngine, codec: Codec) -> None:
        self.runner = runner
        self.engine = engine
        self.codec = codec

    def request(self, number: int, *, max_tokens: int, **fields: object) -> EngineRequest:
        rng = random.Random(number)
        ids = tuple(rng.randrange(3, self.codec.size) for _ in range(20))
        return EngineRequest(
            **{
                "id": f"request/{number}", "prompt": ids, "stops": (self.codec.eos,),
                "max_tokens": max_tokens, "temperature": 1.0, "seed": number, **fields,
            }
        )  # fmt: skip

    async def busy(self) -> bool:
        """Whether the engine still has requests; answered between two steps, after all that came before."""
        answer = await self.engine._llm.engine_core.call_utility_async("has_work")
        assert isinstance(answer, bool)
        return answer


@pytest.fixture(scope="module")
def stage(tiny_model_dir: Path) -> Iterator[Stage]:
    settings = VllmSettings(
        model_dir=tiny_model_dir, max_length=1024, kv_cache_gb=0.1, max_live_calls=64, text_stops=True
    )
    with asyncio.Runner() as runner:
        engine = runner.run(VllmEngine.start(settings))
        yield Stage(runner, engine, load_codec(tiny_model_dir))
        engine.shutdown()


def test_the_first_finisher_frees_the_engine_within_one_step(stage: Stage) -> None:
    """Six chains that would speak 900 tokens each; as soon as one has ended, the engine has nothing to do."""
    params = SelfConsistencyParams(
        name="self_consistency", chains=6, chain_tokens=900, wait="first", wait_for=1
    )
    protocol = build_protocol(params, stage.codec)
    busy_after_cancel: list[bool] = []
    cancel = stage.engine.cancel

    looking: list[asyncio.Task[None]] = []

    async def look() -> None:
        # The aborted requests leave the scheduler with its next step, which may lie between two questions.
        for _ in range(3):
            busy_after_cancel.append(await stage.busy())

    def cancel_and_look(ids: Sequence[str]) -> None:
        cancel(ids)
        looking.append(asyncio.create_task(look()))

    async def run() -> Episode:
        spec = EpisodeSpec(
            id="0/0",
            prompt=Prompt("37 10 9 4 2"),
            temperature=1.0,
            seed="3/0/0",
        )
        stage.engine.cancel = cancel_and_look  # type: ignore[method-assign]
        try:
            episode = await run_episode(stage.engine, protocol, spec)
            await asyncio.gather(*looking)
            return episode
        finally:
            stage.engine.cancel = cancel  # type: ignore[method-assign]

    episode = stage.runner.run(run())
    assert busy_after_cancel[-1] is False, "the others would have gone on for hundreds of steps"
    cancelled = [t.index for t in episode.threads if t.outcome is ThreadOutcome.CANCELLED]
    assert cancelled, "some were still running"
    spent = {call.thread: len(call.output) for call in episode.calls}
    assert all(spent[thread] > 0 for thread in cancelled), "what they had said counts"
    assert total_tokens(episode) == sum(spent.values())
    assert critical_tokens(episode) == max(spent.values())
    assert all(call.stop is StopReason.ABORT for call in episode.calls if call.thread in cancelled)
    assert all(len(call.logprobs) == len(call.output) for call in episode.calls)


def test_a_string_over_two_tokens_ends_a_call_with_all_its_tokens(stage: Stage) -> None:
    plain = stage.request(1, max_tokens=60)
    whole = stage.runner.run(stage.engine.generate(plain))
    pieces = [piece.strip() for piece in stage.codec.pieces(whole.output)]
    # The first pair of neighbours in what it says; a string that is no token.
    at = next(i for i in range(5, 50) if pieces[i] and pieces[i + 1] and i + 1 == first(pieces, i))
    text = f"{pieces[at]} {pieces[at + 1]}"
    stopped = stage.runner.run(
        stage.engine.generate(stage.request(1, max_tokens=60, id="again", stop_texts=(text,)))
    )
    assert stopped.stop is StopReason.STOP
    assert stopped.output == whole.output[: at + 2]
    assert stopped.logprobs == whole.logprobs[: at + 2]


def first(pieces: list[str], start: int) -> int:
    """Where the second of the neighbours `start, start + 1` stands at their first appearance."""
    pair = pieces[start : start + 2]
    return next(i + 1 for i in range(len(pieces) - 1) if pieces[i : i + 2] == pair)
