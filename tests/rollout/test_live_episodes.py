"""How many episodes are live: the rule by hand, the gate under any order of events, and a real engine."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.episodes.trajectory import Episode
from data.text.prompt import Prompt
from rollout.engines.vllm_settings import VllmSettings, episodes_that_fit
from rollout.host import EpisodeHost, HostStatus
from rollout.live_episodes import LiveEpisodes, LiveLimit
from rollout.protocols.self_consistency import SelfConsistencyParams
from rollout.runner import EpisodeSpec


def turn(limit: LiveLimit, usage: float, *, wanted: bool = True) -> None:
    """As many episodes as may be live begin, are heard of, and end; one more would have liked to."""
    for _ in range(limit.limit):
        limit.start()
    if wanted:
        limit.refuse()
    limit.update_usage(usage)
    while limit.live:
        limit.end()


def test_it_grows_while_the_cache_has_room_and_somebody_waits() -> None:
    limit = LiveLimit(start=4, most=100)
    turn(limit, 0.2)
    assert limit.limit == 8  # 0.75 / 0.2 would allow 15: at most twice as many
    turn(limit, 0.5)
    assert limit.limit == 12  # 8 x 0.75 / 0.5
    turn(limit, 0.72)
    assert limit.limit == 13  # 12 x 0.75 / 0.72 = 12.5: one more at least
    turn(limit, 0.8)
    assert limit.limit == 13  # between TARGET and HIGH nothing changes
    turn(limit, 0.1, wanted=False)
    assert limit.limit == 13  # nobody asked for more
    limit = LiveLimit(start=60, most=64)
    turn(limit, 0.1)
    assert limit.limit == 64


def test_it_shrinks_once_before_the_cache_is_full() -> None:
    limit = LiveLimit(start=20, most=100)
    for _ in range(16):
        limit.start()
    limit.update_usage(0.92)
    assert limit.limit == 13  # 16 live x 0.75 / 0.92 = 13.04
    limit.update_usage(0.99)
    assert limit.limit == 13  # those above the limit are still there
    for _ in range(3):
        limit.end()
    assert not limit.room
    limit.update_usage(0.95)
    assert limit.limit == 10  # 13 x 0.75 / 0.95 = 10.3: still too many
    alone = LiveLimit(start=1, most=100)
    alone.start()
    alone.update_usage(1.0)
    assert alone.limit == 1


@given(
    st.lists(st.tuples(st.sampled_from(["begin", "end", "cancel", "usage"]), st.floats(0, 1)), max_size=80)
)
def test_everybody_gets_in_once_in_order_and_never_more_than_the_limit_at_a_time(
    events: list[tuple[str, float]],
) -> None:
    async def scenario() -> None:
        gate = LiveEpisodes(LiveLimit(start=2, most=5))
        entered: list[int] = []
        leave: dict[int, asyncio.Event] = {}
        tasks: dict[int, asyncio.Task[None]] = {}

        async def episode(number: int) -> None:
            async with gate.admit():
                entered.append(number)
                await leave[number].wait()

        def inside() -> list[int]:
            return [number for number in entered if not tasks[number].done()]

        async def settle() -> None:
            for _ in range(4):
                await asyncio.sleep(0)

        for event, value in events:
            waiting = [number for number, task in tasks.items() if not task.done() and number not in entered]
            before = len(inside())
            if event == "begin":
                number = len(tasks)
                leave[number] = asyncio.Event()
                tasks[number] = asyncio.create_task(episode(number))
            elif event == "end" and inside():
                leave[inside()[int(value * (len(inside()) - 1))]].set()
            elif event == "cancel" and waiting:
                tasks[waiting[int(value * (len(waiting) - 1))]].cancel()
            elif event == "usage":
                gate.limit.update_usage(value)
            await settle()
            assert gate.limit.live == len(inside()) <= max(before, gate.limit.limit)
            assert 1 <= gate.limit.limit <= 5
            assert gate.num_waiting == 0 or not gate.limit.room
        while any(not task.done() for task in tasks.values()):
            assert inside(), "somebody waits although nobody is inside"
            leave[inside()[0]].set()
            await settle()
        assert entered == sorted(entered)
        assert len(entered) == len(set(entered))
        assert set(entered) == {number for number, task in tasks.items() if not task.cancelled()}

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_small_cache_is_filled_by_as_many_as_it_takes(tiny_model_dir: Path) -> None:
    """48 episodes at once, three times, on an engine that has room for four at their longest. They are
    shorter than that, so it comes to run more of them; they say the same, to the bit.
    """
    params = SelfConsistencyParams(name="self_consistency", chains=1, chain_tokens=250)
    prompt = Prompt("37 10 9 4 2")
    specs = [
        EpisodeSpec(id=f"0/{sample}", prompt=prompt, temperature=1.0, seed=f"5/0/{sample}")
        for sample in range(48)
    ]
    roomy = VllmSettings(model_dir=tiny_model_dir, max_length=1024, kv_cache_gb=0.1, max_live_calls=64)
    small = replace(roomy, kv_cache_gb=4 * 0.1 / episodes_that_fit(replace(roomy, max_live_calls=10**6)))
    assert (episodes_that_fit(roomy), episodes_that_fit(small)) == (64, 4)

    async def waves() -> list[tuple[list[Episode], HostStatus]]:
        host = EpisodeHost.with_vllm(small, tiny_model_dir)
        await host.start()
        try:
            return [
                (await asyncio.gather(*(host.run(params, spec) for spec in specs)), await host.status())
                for _ in range(3)
            ]
        finally:
            host.shutdown()

    def sampled(episodes: list[Episode]) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
        return [(call.output, call.logprobs) for episode in episodes for call in episode.calls]

    (first, _), _, (last, status) = asyncio.run(waves())
    assert sampled(last) == sampled(first)
    assert 4 < status.live_limit < 48, "more than fit at their longest, fewer than there are"
    assert status.cache_peak > 0.5
