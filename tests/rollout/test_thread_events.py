"""Events of threads while an episode runs, and an episode that its caller gives up."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from data.episodes.topology import critical_tokens, total_tokens
from data.episodes.trajectory import Episode, StopReason, ThreadOutcome
from data.text.codec import Codec, load_codec
from data.text.prompt import Prompt
from rollout.engines.scripted import ScriptedEngine
from rollout.give_up import GiveUp
from rollout.protocols import build_protocol
from rollout.protocols.self_consistency import SelfConsistencyParams
from rollout.runner import EpisodeSpec, run_episode
from rollout.thread_events import (
    Begun,
    Closed,
    Ended,
    Joined,
    Opened,
    Restarted,
    Said,
    ThreadEvent,
    ThreadWatch,
)

PARAMS = SelfConsistencyParams(name="self_consistency", chains=3, chain_tokens=20)
SPEC = EpisodeSpec(id="0/0", prompt=Prompt("5 6"), temperature=1.0, seed="9/0/0")


@pytest.fixture(scope="module")
def codec(tiny_model_dir: Path) -> Codec:
    return load_codec(tiny_model_dir)


def digits(prompt: tuple[int, ...], seed: int) -> Sequence[int]:
    return [4 + (seed >> (4 * index)) % 8 for index in range(12)]


def run(
    codec: Codec, *, wants_tokens: bool, stop_when: Callable[[ThreadEvent], bool] = lambda _: False
) -> tuple[Episode, list[ThreadEvent]]:
    """An episode with its events; given up at the first event for which `stop_when` holds."""

    async def scenario() -> tuple[Episode, list[ThreadEvent]]:
        events: list[ThreadEvent] = []
        give_up = GiveUp()

        def emit(event: ThreadEvent) -> None:
            events.append(event)
            if stop_when(event):
                give_up.now()

        watch = ThreadWatch(emit, wants_tokens=wants_tokens)
        protocol = build_protocol(PARAMS, codec)
        episode = await run_episode(ScriptedEngine(digits), protocol, SPEC, watch=watch, give_up=give_up)
        return episode, events

    return asyncio.run(scenario())


@pytest.mark.parametrize("wants_tokens", [True, False])
def test_the_events_tell_the_whole_episode(codec: Codec, wants_tokens: bool) -> None:
    episode, events = run(codec, wants_tokens=wants_tokens)
    assert [e.path for e in events if isinstance(e, Opened)] == [(), (0,), (1,), (2,)]
    assert [(e.path, e.role) for e in events if isinstance(e, Begun)] == [((k,), "chain") for k in range(3)]
    said = {k: [i for e in events if isinstance(e, Said) and e.path == (k,) for i in e.ids] for k in range(3)}
    assert said == {k: list(call.output) for k, call in enumerate(episode.calls)}
    each = [len(e.ids) for e in events if isinstance(e, Said)]
    assert each == ([1] * 36 if wants_tokens else [12] * 3)
    assert {e.path: e.record.output for e in events if isinstance(e, Ended)} == {
        (k,): call.output for k, call in enumerate(episode.calls)
    }
    assert max(e.critical_tokens for e in events if isinstance(e, Ended)) == critical_tokens(episode) == 12
    assert [e.children for e in events if isinstance(e, Joined)] == [((0,), (1,), (2,))]
    closed = [(e.path, e.outcome) for e in events if isinstance(e, Closed)]
    assert dict(closed) == {
        (): episode.outcome, **{(k,): episode.threads[k + 1].outcome for k in range(3)}
    }  # fmt: skip
    assert len(closed) == 4 and isinstance(events[-1], Closed)


def test_an_episode_that_is_given_up_ends_with_what_was_sampled(codec: Codec) -> None:
    said = 0

    def fifth_token(event: ThreadEvent) -> bool:
        nonlocal said
        said += isinstance(event, Said)
        return said == 5

    episode, events = run(codec, wants_tokens=True, stop_when=fifth_token)
    assert {call.stop for call in episode.calls} == {StopReason.ABORT}
    assert {thread.outcome for thread in episode.threads} == {ThreadOutcome.CANCELLED}
    told = sum(len(e.ids) for e in events if isinstance(e, Said))
    assert 5 <= total_tokens(episode) == told < 36
    assert len([e for e in events if isinstance(e, Closed)]) == 4


def test_a_call_that_is_sampled_again_says_so(codec: Codec) -> None:
    events: list[ThreadEvent] = []

    class Dying(ScriptedEngine):
        """Forgets what it said once, as an engine does that was replaced."""

        async def generate(self, request, on_tokens=None):  # type: ignore[no-untyped-def]
            if on_tokens is not None and request.id == "0/0/1":
                on_tokens(0, (4, 5, 6))
            return await super().generate(request, on_tokens)

    watch = ThreadWatch(events.append, wants_tokens=True)
    asyncio.run(run_episode(Dying(digits), build_protocol(PARAMS, codec), SPEC, watch=watch))
    assert [(e.path, e.call) for e in events if isinstance(e, Restarted)] == [((1,), 1)]
