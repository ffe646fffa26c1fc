"""An episode cut short anywhere goes on from its recorded events, to the same end."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from babble_lab import VARIANTS, Babbler, Critic, timeless
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_lab import PROMPT, build

from data.episodes.trajectory import Episode, StopReason, ThreadOutcome
from data.errors import EngineError, PublishError
from rollout.commands import EpisodeEvent
from rollout.engines.base import EngineRequest
from rollout.engines.restarting import MOST_STARTS, RestartingEngine
from rollout.runner import EpisodeSpec, run_episode


def settled(episode: Episode) -> list[object]:
    """All but what cancelled threads had said last: that dies with an engine."""
    cancelled = {thread.index for thread in episode.threads if thread.outcome is ThreadOutcome.CANCELLED}
    calls = [call for call in timeless(episode).calls if call.thread not in cancelled]
    scorings = timeless(episode).scorings
    return [episode.answer, [thread.outcome for thread in episode.threads], calls, scorings]


def spec(seed: int) -> EpisodeSpec:
    return EpisodeSpec(id="0/0", prompt=PROMPT, temperature=1.0, seed=f"{seed}/0/0")


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: " ".join(map(str, variant.values())))
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.floats(0, 1), min_size=1, max_size=2))
def test_it_goes_on_to_the_same_end(variant: dict[str, Any], seed: int, cuts: list[float]) -> None:
    protocol = build(**variant)

    async def scenario() -> None:
        recorded: list[EpisodeEvent] = []
        whole = await run_episode(Babbler(), protocol, spec(seed), scorer=Critic(), on_event=recorded.append)
        assert len(recorded) >= len(whole.calls)
        events = recorded
        for cut in sorted(cuts, reverse=True):
            events = events[: int(cut * len(events))]
            more: list[EpisodeEvent] = []
            engine, critic = Babbler(), Critic()
            again = await run_episode(
                engine, protocol, spec(seed), scorer=critic, events=events, on_event=more.append
            )
            assert settled(again) == settled(whole)
            # Nothing that had come back is asked again.
            assert len(engine.asked) <= len(whole.calls) - sum(a.call is not None for a in events)
            assert critic.asked <= len(whole.scorings) - sum(a.scoring is not None for a in events)
            events = [*events, *more]
            answered = [event.call for event in events if event.call is not None]
            assert len(answered) == len(set(answered)), "no call comes back twice"

    asyncio.run(scenario())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), lives=st.lists(st.integers(1, 9), max_size=3))
def test_an_episode_outlives_its_engines(seed: int, lives: list[int]) -> None:
    """Each engine finishes some calls and dies; the episode is that of one engine that lives."""
    protocol = build("spawn_join")

    async def scenario() -> None:
        expected = await run_episode(Babbler(version=3), protocol, spec(seed))
        started: list[Babbler] = []

        async def start() -> Babbler:
            await asyncio.sleep(0)
            started.append(Babbler(lives=lives[len(started)] if len(started) < len(lives) else 10**9))
            return started[-1]

        lasting = RestartingEngine(start)
        await lasting.start()
        await lasting.publish(Path("weights"), 3, "good")
        found = await run_episode(lasting, protocol, spec(seed))
        assert timeless(found) == timeless(expected)
        assert lasting.deaths == len(started) - 1
        assert all(engine.version == 3 for engine in started)

    asyncio.run(scenario())


def request(name: str) -> EngineRequest:
    return EngineRequest(id=name, prompt=(1,), stops=(), max_tokens=4, temperature=1.0, seed=1)


def waiting_for_another() -> tuple[RestartingEngine, Babbler, asyncio.Event]:
    """An engine that dies of its first call. -> (it, the one that follows, what lets that one begin)."""
    second, begin = Babbler(), asyncio.Event()
    engines = [Babbler(lives=0), second]

    async def start() -> Babbler:
        if len(engines) == 1:
            await begin.wait()
        return engines.pop(0)

    return RestartingEngine(start), second, begin


def test_a_call_that_was_cancelled_is_not_asked_again() -> None:
    async def scenario() -> None:
        lasting, second, begin = waiting_for_another()
        await lasting.start()
        calls = [asyncio.create_task(lasting.generate(request(name))) for name in "ab"]
        for _ in range(30):
            await asyncio.sleep(0)
        lasting.cancel(["a"])
        begin.set()
        first, other = await asyncio.gather(*calls)
        assert (first.stop, first.output) == (StopReason.ABORT, ())
        assert other.stop is StopReason.LENGTH and [asked.id for asked in second.asked] == ["b"]

    asyncio.run(scenario())


def test_an_engine_that_cannot_live_ends_the_run() -> None:
    async def scenario() -> None:
        started = 0

        async def start() -> Babbler:
            nonlocal started
            started += 1
            return Babbler(lives=0)

        lasting = RestartingEngine(start)
        await lasting.start()
        with pytest.raises(EngineError, match="one after the other"):
            await lasting.generate(request("a"))
        assert started == 1 + MOST_STARTS

    asyncio.run(scenario())


def test_an_engine_that_fails_to_take_weights_is_replaced_by_one_that_takes_them() -> None:
    async def scenario() -> None:
        started: list[Babbler] = []

        async def start() -> Babbler:
            # Another engine is another version to the fake, so that it takes what the first refuses.
            started.append(Babbler(version=len(started)))
            return started[-1]

        lasting = RestartingEngine(start)
        await lasting.start()
        report = await lasting.publish(Path("weights"), 5, "bad for the first")
        assert (report.version, [engine.dead for engine in started]) == (5, [True, False])
        result = await lasting.generate(request("a"))
        assert result.versions[0].version == 5
        with pytest.raises(PublishError, match="checksum"):
            await lasting.publish(Path("weights"), 6, "bad")
        assert all(engine.dead for engine in started), "nothing is sampled from unknown weights"

    asyncio.run(scenario())


def test_weights_published_while_another_engine_starts_are_the_ones_it_begins_with() -> None:
    async def scenario() -> None:
        lasting, _, begin = waiting_for_another()
        await lasting.start()
        await lasting.publish(Path("weights"), 1, "good")
        call = asyncio.create_task(lasting.generate(request("a")))
        for _ in range(30):
            await asyncio.sleep(0)
        publish = asyncio.create_task(lasting.publish(Path("weights"), 2, "good"))
        await asyncio.sleep(0)
        begin.set()
        assert (await publish).version == 2
        assert (await call).versions[0].version == 2

    asyncio.run(scenario())


def test_a_caller_that_gives_up_ends_no_start_that_others_wait_for() -> None:
    async def scenario() -> None:
        lasting, second, begin = waiting_for_another()
        await lasting.start()
        first, other = (asyncio.create_task(lasting.generate(request(name))) for name in "ab")
        for _ in range(30):
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        begin.set()
        assert (await other).stop is StopReason.LENGTH and [asked.id for asked in second.asked] == ["b"]
        assert lasting.deaths == 1

    asyncio.run(scenario())


def test_what_is_being_started_when_all_ends_is_ended_too() -> None:
    async def scenario() -> None:
        lasting, second, begin = waiting_for_another()
        await lasting.start()
        call = asyncio.create_task(lasting.generate(request("a")))
        for _ in range(30):
            await asyncio.sleep(0)
        lasting.shutdown()
        begin.set()
        with pytest.raises(EngineError, match="shut down while"):
            await call
        assert second.dead and lasting.dead

    asyncio.run(scenario())
