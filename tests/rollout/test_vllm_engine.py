"""The real engine on CPU: what it says it sampled is what the model says, whatever happens around a call."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_lab import TOLERANCE, VOCABULARY, House, expected_logprobs, make_model
from safetensors.torch import load_file, save_file

from data.checksum import file_checksum
from data.errors import EngineError, PublishError
from data.trajectory import StopReason, VersionSpan
from rollout.engines.base import EngineResult
from rollout.engines.held_outputs import MOST
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings

pytestmark = pytest.mark.slow


def prompt(seed: int, length: int) -> tuple[int, ...]:
    generator = random.Random(seed)
    return tuple(generator.randrange(2, VOCABULARY) for _ in range(length))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("models")
    models = {"first": make_model(0), "second": make_model(1), "embedded": make_model(0)}
    with torch.no_grad():
        models["embedded"].model.embed_tokens.weight.copy_(models["second"].model.embed_tokens.weight)
    for name, model in models.items():
        model.save_pretrained(folder / name)
    files = {name: folder / name / "model.safetensors" for name in models}
    settings = VllmSettings(model_dir=folder / "first", max_length=512, kv_cache_gb=0.25, max_live_calls=64)
    with asyncio.Runner() as runner:
        engine = runner.run(VllmEngine.start(settings))
        yield House(
            runner=runner, engine=engine, settings=settings, models=models, files=files, serving={0: "first"}
        )
        engine.shutdown()


@pytest.fixture(autouse=True)
def first_model(house: House) -> None:
    """Every test begins with the first model being served."""
    if house.serving[house.engine.version] != "first":
        house.run(house.publish("first"))


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
        await house.engine.cancel([requests[0].id, requests[1].id, "unknown"])
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
        await house.engine.cancel([request.id])
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
        await house.engine.cancel([request.id])
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


def test_publish_in_flight_every_token_knows_its_weights(house: House) -> None:
    """Tied embeddings: an engine that kept the old output layer would miss the second model by far."""
    requests = [house.request(prompt(i, 5 + 13 * i), max_tokens=300, seed=i) for i in range(8)]

    async def scenario() -> tuple[int, list[EngineResult]]:
        tasks = [asyncio.create_task(house.engine.generate(request)) for request in requests]
        await house.sampled(20)
        version = await house.publish("second")
        late = asyncio.create_task(house.engine.generate(requests_after[0]))
        return version, await asyncio.gather(*tasks, late)

    requests_after = [house.request(prompt(50, 64), seed=3)]
    version, results = house.run(scenario())
    for request, result in zip(requests + requests_after, results, strict=True):
        assert house.error(request, result) < TOLERANCE
        assert house.error(request, result, model="first") > 0.1, "the two models can be told apart"
    for result in results[:-1]:
        assert [span.version for span in result.versions] == [version - 1, version]
        assert 0 < result.versions[0].stop == result.versions[1].start < 300
    assert [span.version for span in results[-1].versions] == [version]


def test_publish_changes_tied_embeddings_at_both_ends(house: House) -> None:
    """`embedded` differs from `first` in the embedding alone, which is also the output layer."""
    request = house.request(prompt(4, 20))
    house.run(house.publish("embedded"))
    result = house.run(house.engine.generate(request))
    assert house.error(request, result) < TOLERANCE
    assert house.error(request, result, model="first") > 0.1


def test_no_stale_prefix_after_publish(house: House) -> None:
    ids = prompt(11, 160)
    house.run(house.engine.generate(house.request(ids)))
    house.run(house.publish("second"))
    request = house.request(ids)
    result = house.run(house.engine.generate(request))
    assert result.cached_tokens == 0
    assert house.error(request, result) < TOLERANCE


def spoil_checksum(house: House, path: Path) -> str:
    save_file(load_file(house.files["second"]), path)
    return "0" * 64


def spoil_parameter(house: House, path: Path) -> str:
    tensors = load_file(house.files["second"])
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, path)
    return file_checksum(path)


def spoil_shape(house: House, path: Path) -> str:
    tensors = load_file(house.files["second"])
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:-1].clone()
    save_file(tensors, path)
    return file_checksum(path)


def spoil_end(house: House, path: Path) -> str:
    path.write_bytes(house.files["second"].read_bytes()[:-1000])
    return file_checksum(path)


@pytest.mark.parametrize("spoil", [spoil_checksum, spoil_parameter, spoil_shape, spoil_end])
def test_a_bad_file_leaves_the_old_weights_serving(house: House, tmp_path: Path, spoil: Any) -> None:
    request = house.request(prompt(8, 40), max_tokens=200)
    before = house.run(house.engine.generate(request))
    version = house.engine.version
    checksum = spoil(house, tmp_path / "bad")

    async def scenario() -> EngineResult:
        task = asyncio.create_task(house.engine.generate(replace(request, id="again")))
        await asyncio.sleep(0.05)
        with pytest.raises(PublishError, match=f"version {version + 1} not loaded"):
            await house.engine.publish(tmp_path / "bad", version + 1, checksum)
        return await task

    after = house.run(scenario())
    assert (after.output, after.logprobs, after.versions) == (before.output, before.logprobs, before.versions)
    assert house.engine.version == version
    house.run(house.publish("second"))  # and a good one is still taken
    assert house.run(house.engine.generate(house.request((4, 5)))).versions[0].version == version + 1


def test_a_caller_that_gives_up_leaves_no_half_update(house: House) -> None:
    async def scenario() -> None:
        version = house.engine.version
        for _ in range(5):
            path = house.files["second"]
            task = asyncio.create_task(house.engine.publish(path, version, file_checksum(path)))
            await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await house.publish("first")

    house.run(scenario())
    request = house.request(prompt(9, 30))
    assert house.error(request, house.run(house.engine.generate(request))) < TOLERANCE


def test_kept_keys_and_values_are_of_the_weights_that_computed_them(house: House) -> None:
    """`kv: keep`. A call in flight goes on from them: what it was given by the old weights is theirs to the
    last bit, and the rest is nobody's. What begins later is the new weights' own, cached prefixes included.
    """
    settings = replace(house.settings, kv="keep")
    requests = [house.request(prompt(i, 70), max_tokens=300, seed=i) for i in range(4)]
    fresh = [replace(request, id=f"fresh/{request.id}") for request in requests]

    async def scenario(engine: VllmEngine) -> tuple[list[EngineResult], list[EngineResult]]:
        tasks = [asyncio.create_task(engine.generate(request)) for request in requests]
        other = replace(house, engine=engine, serving={0: "first"})
        await other.sampled(20)
        publishing = asyncio.create_task(other.publish("second"))
        meanwhile = []
        while not publishing.done():  # asked for before, during and after the pause
            request = replace(requests[0], id=f"meanwhile/{len(meanwhile)}", max_tokens=2)
            meanwhile.append((request, asyncio.create_task(engine.generate(request))))
            await asyncio.sleep(0.002)
        for request, answer in meanwhile:
            result = await answer
            if len(result.versions) == 1:
                assert (
                    house.error(request, result, model=other.serving[result.versions[0].version]) < TOLERANCE
                )
        late = [asyncio.create_task(engine.generate(request)) for request in fresh]
        return await asyncio.gather(*tasks), await asyncio.gather(*late)

    engine = house.runner.run(VllmEngine.start(settings))
    try:
        flying, late = house.run(scenario(engine))
    finally:
        engine.shutdown()
    for request, result in zip(requests, flying, strict=True):
        before, after = result.versions
        old, new = (
            expected_logprobs(house.models[name], request, result.output) for name in ("first", "second")
        )
        actual = torch.tensor(result.logprobs)
        assert (actual - old)[: before.stop].abs().max() < TOLERANCE
        rest = slice(after.start, after.stop)
        assert min((actual - weights)[rest].abs().max() for weights in (old, new)) > 0.1
    for request, result in zip(fresh, late, strict=True):
        assert len(result.versions) == 1
        assert house.error(request, result, model="second") < TOLERANCE
