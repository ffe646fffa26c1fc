"""Giving an episode up: who is told, when, and what has been sampled until then."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from babble_lab import VARIANTS, Babbler, Critic
from protocol_lab import build

from data.episodes.topology import total_tokens
from data.episodes.trajectory import Episode, StopReason, ThreadOutcome
from data.text.codec import Codec, load_codec
from data.text.prompt import Prompt
from rollout.commands import EpisodeEvent
from rollout.engines.base import EngineRequest, EngineResult, OnTokens
from rollout.engines.scripted import ScriptedEngine
from rollout.give_up import GiveUp
from rollout.protocols import build_protocol
from rollout.protocols.self_consistency import SelfConsistencyParams
from rollout.runner import EpisodeSpec, run_episode
from rollout.thread_events import Begun, ThreadEvent, ThreadWatch

PARAMS = SelfConsistencyParams(name="self_consistency", chains=3, chain_tokens=12)
SPEC = EpisodeSpec(id="0/0", prompt=Prompt("5 6"), temperature=1.0, seed="9/0/0")


@pytest.fixture(scope="module")
def codec(tiny_model_dir: Path) -> Codec:
    return load_codec(tiny_model_dir)


class Counting(ScriptedEngine):
    """Says the same digit for ever, and notes what it was asked and told."""

    def __init__(self) -> None:
        super().__init__(lambda prompt, seed: [5] * 12)
        self.told: list[str] = []

    def cancel(self, request_ids: Sequence[str]) -> None:
        self.told += request_ids
        super().cancel(request_ids)


def test_the_engine_is_told_before_the_caller_goes_on(codec: Codec) -> None:
    async def scenario() -> None:
        engine, give_up = Counting(), GiveUp()
        episode = asyncio.create_task(
            run_episode(engine, build_protocol(PARAMS, codec), SPEC, give_up=give_up)
        )
        while len(engine.requests) < 3:
            await asyncio.sleep(0)
        assert engine.told == [] and not give_up.given
        give_up.now()
        assert engine.told == ["0/0/0", "0/0/1", "0/0/2"], "no turn of the event loop lies between"
        give_up.now()
        assert len(engine.told) == 3
        ended = await episode
        assert {call.stop for call in ended.calls} == {StopReason.ABORT}
        give_up.now()

    asyncio.run(scenario())


def test_a_call_whose_task_has_not_begun_is_never_asked(codec: Codec) -> None:
    """The engine does not know these calls yet, so that telling it would not help."""

    async def scenario() -> None:
        engine, give_up = Counting(), GiveUp()
        give_up.now()
        episode = await run_episode(engine, build_protocol(PARAMS, codec), SPEC, give_up=give_up)
        assert engine.requests == []
        assert [(call.stop, call.output) for call in episode.calls] == [(StopReason.ABORT, ())] * 3
        assert {thread.outcome for thread in episode.threads} == {ThreadOutcome.CANCELLED}

    asyncio.run(scenario())


def test_an_onlooker_may_give_up_while_calls_are_being_begun(codec: Codec) -> None:
    """The calls of the same commands are begun first; then all of them are cancelled."""

    async def scenario() -> None:
        engine, give_up = Counting(), GiveUp()

        def on_event(event: ThreadEvent) -> None:
            if isinstance(event, Begun):
                give_up.now()

        watch = ThreadWatch(on_event, wants_tokens=True)
        protocol = build_protocol(PARAMS, codec)
        episode = await run_episode(engine, protocol, SPEC, watch=watch, give_up=give_up)
        assert len(episode.calls) == 3 and {call.stop for call in episode.calls} == {StopReason.ABORT}
        assert total_tokens(episode) <= 3

    asyncio.run(scenario())


class GivenUp(Babbler):
    """Gives its episode up after some turns of the event loop, in the middle of a call."""

    def __init__(self, give_up: GiveUp, turns: int) -> None:
        super().__init__()
        self._give_up, self._turns = give_up, turns

    async def generate(self, request: EngineRequest, on_tokens: OnTokens | None = None) -> EngineResult:
        self._turns -= 1
        if self._turns == 0:
            asyncio.get_running_loop().call_soon(self._give_up.now)
        return await super().generate(request, on_tokens)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values()))[:40])
@pytest.mark.parametrize("turns", [1, 2, 5, 9])
def test_every_protocol_ends_and_its_events_give_the_same_episode(
    variant: dict[str, object], turns: int
) -> None:
    async def run(events: Sequence[EpisodeEvent]) -> tuple[Episode, list[EpisodeEvent], bool]:
        give_up, recorded = GiveUp(), list(events)
        engine = GivenUp(give_up, 0 if events else turns)
        episode = await run_episode(
            engine, build(**variant), SPEC, scorer=Critic(), events=events, on_event=recorded.append,
            give_up=give_up,
        )  # fmt: skip
        return episode, recorded, give_up.given

    episode, events, given = asyncio.run(run(()))
    assert given == any(event.given_up for event in events)
    assert sum(event.given_up for event in events) <= 1
    again, more, _ = asyncio.run(run(events))
    assert again == episode and more == events
