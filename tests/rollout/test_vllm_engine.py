"""The real engine on CPU: what it says it sampled is what the model says, whatever happens around a call."""

import asyncio
import random
from typing import Any

import pytest
import torch
from engine_lab import TOLERANCE, VOCABULARY, House, expected_logprobs, make_model, prompt

from data.episodes.trajectory import StopReason, VersionSpan
from data.errors import EngineError
from data.forests.collate import collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from rl.learner.attention.interface import NAME
from rl.learner.logprobs import forest_logprobs, score_forests
from rollout.engines.base import EngineRequest, EngineResult
from rollout.engines.held_outputs import MOST

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("first_model")]


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_logprobs_equal_a_full_forward(house: House, temperature: float) -> None:
    requests = [house.request(prompt(i, 3 + 9 * i), temperature=temperature, seed=i) for i in range(12)]

    async def all_at_once() -> list[EngineResult]:
        return await asyncio.gather(*map(house.engine.generate, requests))

    for request, result in zip(requests, house.run(all_at_once()), strict=True):
        assert len(result.output) == len(result.logprobs) == 24
        assert result.stop == StopReason.LENGTH
        assert result.versions == (VersionSpan(version=house.engine.version, start=0, stop=24),)
        assert house.error(request, result) < TOLERANCE
        assert result.started_s < result.finished_s


def test_a_prompt_is_scored_by_the_weights_of_now(house: House) -> None:
    """Twice, since a cached prefix has no scores; and again after only the embeddings have changed, which are
    tied to the output layer.
    """
    ids = prompt(77, 60)
    scored = {"max_tokens": 1, "temperature": 0.5, "score_prompt": True}

    def worst(name: str) -> float:
        result = house.run(house.engine.generate(house.request(ids, **scored)))
        assert len(result.prompt_logprobs) == len(ids) - 1 and len(result.output) == 1
        plain = house.request(ids[:1])
        expected = expected_logprobs(house.models[name], plain, ids[1:])
        return float((torch.tensor(result.prompt_logprobs) - expected).abs().max())

    assert worst("first") < TOLERANCE and worst("first") < TOLERANCE
    house.run(house.publish("embedded"))
    assert worst("embedded") < TOLERANCE and worst("first") > 0.1


def test_ids_beyond_the_tokenizer_do_not_exist(house: House) -> None:
    """Only 40 of the 128 rows have a token: no other id is sampled, engine and learner normalise over the
    same 40, and a context cannot hold another one.
    """
    learner = make_model(0)
    learner.set_attn_implementation(NAME)
    score_forests(learner, 40)
    ids = tuple(index % 40 for index in prompt(5, 30))

    def sampled(limit: int) -> tuple[EngineRequest, EngineResult]:
        house.run(house.engine.limit_vocabulary(limit))
        request = house.request(ids, max_tokens=200, score_prompt=True)
        return request, house.run(house.engine.generate(request))

    try:
        _, result = sampled(40)
        assert max(result.output) < 40
        row = Row(ids=(*ids, *result.output), first=1, weights=(1.0,) * (len(ids) + len(result.output) - 1))
        with torch.no_grad():
            expected, _ = forest_logprobs(learner, collate(build_forest([row])))
        found = torch.tensor([*result.prompt_logprobs, *result.logprobs])
        assert (found - expected).abs().max() < TOLERANCE
        with pytest.raises(EngineError, match=r"0\.\.39"):
            house.run(house.engine.generate(house.request((3, 40))))
    finally:
        _, result = sampled(VOCABULARY)
    assert sum(index >= 40 for index in result.output) > 100, "the other rows dominate"


def test_temperature_zero_takes_the_likeliest(house: House) -> None:
    request = house.request(prompt(3, 10), temperature=0.0)
    output = house.run(house.engine.generate(request)).output
    logits = house.models["first"](torch.tensor([[*request.prompt, *output]])).logits
    assert tuple(logits[0, len(request.prompt) - 1 : -1].argmax(-1).tolist()) == output


def test_same_seed_same_bits_alone_in_a_crowd_and_from_the_cache(house: House) -> None:
    """Bitwise: batch, prefix cache and arrival leave no trace, which replay and debugging rest on."""
    probes = [(prompt(100 + i, length), i) for i, length in enumerate((1, 12, 33, 200))]
    generator = random.Random(5)

    async def probe(ids: tuple[int, ...], seed: int) -> tuple[Any, ...]:
        result = await house.engine.generate(house.request(ids, seed=seed, max_tokens=60))
        return result.output, result.logprobs

    async def noise() -> None:
        await asyncio.sleep(generator.random() / 5)
        ids = prompt(generator.randrange(10**6), generator.randrange(1, 120))
        await house.engine.generate(house.request(ids, seed=generator.randrange(2**62), max_tokens=40))

    async def crowd() -> list[Any]:
        others = [asyncio.create_task(noise()) for _ in range(50)]
        results = []
        for ids, seed in probes:
            await asyncio.sleep(generator.random() / 10)
            results.append(asyncio.create_task(probe(ids, seed)))
        await asyncio.gather(*others)
        return await asyncio.gather(*results)

    alone = [house.run(probe(ids, seed)) for ids, seed in probes]
    again = [house.run(probe(ids, seed)) for ids, seed in probes]  # long prompts now come from the cache
    assert again == alone
    assert house.run(crowd()) == alone
    assert house.run(probe(probes[1][0], 99)) != alone[1]


def test_long_seeded_prompts_beside_others_do_not_kill_the_engine(house: House) -> None:
    requests = [house.request(prompt(i, 480 if i % 4 == 0 else 20), seed=i, max_tokens=30) for i in range(40)]

    async def all_at_once() -> list[EngineResult]:
        return await asyncio.gather(*map(house.engine.generate, requests))

    results = house.run(all_at_once())
    assert all(len(result.output) == 30 for result in results)


def test_prefix_hits_are_whole_blocks(house: House) -> None:
    ids = prompt(77, 100)
    assert house.run(house.engine.generate(house.request(ids))).cached_tokens == 0
    assert house.run(house.engine.generate(house.request(ids))).cached_tokens == 96  # 3 blocks of 32


def test_stop_tokens_end_a_call_and_belong_to_it(house: House) -> None:
    free = house.run(house.engine.generate(house.request(prompt(1, 8), max_tokens=60)))
    stop = free.output[20]
    first = free.output.index(stop)
    request = house.request(prompt(1, 8), max_tokens=60, stops=(stop, 127))
    result = house.run(house.engine.generate(request))
    assert result.stop == StopReason.STOP
    assert result.output == free.output[: first + 1]
    assert len(result.logprobs) == first + 1


def test_the_models_own_end_token_is_no_stop(house: House) -> None:
    """Only the request's stops count, not config.json's eos_token_id, which is 1."""
    requests = [house.request(prompt(i, 4), seed=i, max_tokens=400) for i in range(8)]

    async def all_at_once() -> list[EngineResult]:
        return await asyncio.gather(*map(house.engine.generate, requests))

    results = house.run(all_at_once())
    assert any(1 in result.output[:-1] for result in results)
    assert all(result.stop == StopReason.LENGTH and len(result.output) == 400 for result in results)


def test_the_models_length_ends_a_call(house: House) -> None:
    result = house.run(house.engine.generate(house.request(prompt(2, 500), max_tokens=100)))
    assert (result.stop, len(result.output)) == (StopReason.LENGTH, 12)


@pytest.mark.parametrize("ids", [(), (VOCABULARY,), (-1, 4), prompt(0, 512)])
def test_a_call_that_cannot_be_served_is_refused_and_harms_nobody(house: House, ids: tuple[int, ...]) -> None:
    with pytest.raises(EngineError, match="call-"):
        house.run(house.engine.generate(house.request(ids)))
    assert len(house.run(house.engine.generate(house.request((5,)))).output) == 24


def test_cancel_returns_what_was_sampled(house: House) -> None:
    requests = [house.request(prompt(i, 10), max_tokens=480, seed=i) for i in range(4)]

    async def scenario() -> list[EngineResult]:
        tasks = [asyncio.create_task(house.engine.generate(request)) for request in requests]
        await house.sampled(20)
        house.engine.cancel([requests[0].id, requests[1].id, "unknown"])
        return await asyncio.gather(*tasks)

    results = house.run(scenario())
    for request, result in zip(requests[:2], results[:2], strict=True):
        assert result.stop == StopReason.ABORT
        assert 0 < len(result.output) < 480
        assert house.error(request, result) < TOLERANCE
    assert [len(result.output) for result in results[2:]] == [480, 480]


def test_cancel_returns_what_the_core_has_not_said_yet(house: House) -> None:
    """A call's tokens come in portions of 32; each of the others takes two steps of its own."""
    request = house.request(prompt(5, 10), max_tokens=480)

    async def scenario() -> EngineResult:
        task = asyncio.create_task(house.engine.generate(request))
        await house.sampled(MOST)
        for number in range(5):
            await house.engine.generate(house.request(prompt(number, 5), max_tokens=2))
        house.engine.cancel([request.id])
        return await task

    result = house.run(scenario())
    assert result.stop == StopReason.ABORT
    assert MOST + 10 <= len(result.output) < 480
    assert house.error(request, result) < TOLERANCE


def test_the_front_end_hears_of_a_call_seldom(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = house.engine._llm.output_processor
    heard: list[int] = []
    process = processor.process_outputs

    def count(outputs: list[Any], *rest: Any, **more: Any) -> Any:
        heard.extend(len(output.new_token_ids) for output in outputs)
        return process(outputs, *rest, **more)

    monkeypatch.setattr(processor, "process_outputs", count)
    result = house.run(house.engine.generate(house.request(prompt(6, 10), max_tokens=3 * MOST + 4)))
    assert len(result.output) == sum(heard) == 3 * MOST + 4
    assert heard == [MOST, MOST, MOST, 4]


def test_who_streams_hears_of_every_token(house: House) -> None:
    from vllm.inputs import tokens_input
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    sampling = SamplingParams(
        max_tokens=8, ignore_eos=True, detokenize=False, output_kind=RequestOutputKind.DELTA
    )

    async def scenario() -> list[int]:
        calls = house.engine._llm.generate(tokens_input(prompt(7, 10)), sampling, "streamed")
        return [len(output.outputs[0].token_ids) async for output in calls]

    heard = house.run(scenario())
    # It may find two that came while it did something else.
    assert sum(heard) == 8
    assert len(heard) > 1


def test_cancel_right_after_generate_is_not_missed(house: House) -> None:
    request = house.request(prompt(1, 10), max_tokens=480)

    async def scenario() -> EngineResult:
        task = asyncio.create_task(house.engine.generate(request))
        await asyncio.sleep(0)
        house.engine.cancel([request.id])
        return await task

    result = house.run(scenario())
    assert result.stop == StopReason.ABORT
    assert len(result.output) == len(result.logprobs) < 480


def test_a_cancelled_coroutine_ends_its_call(house: House) -> None:
    async def scenario() -> int:
        task = asyncio.create_task(house.engine.generate(house.request(prompt(1, 10), max_tokens=480)))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return house.engine._llm.get_num_unfinished_requests()

    assert house.run(scenario()) == 0
