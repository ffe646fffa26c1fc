"""New weights for the real engine: which token is of which, and what a publication that fails leaves."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_lab import TOLERANCE, House, expected_logprobs, prompt
from safetensors.torch import load_file, save_file

from data.checksum import file_checksum
from data.errors import PublishError
from rollout.engines.base import EngineResult
from rollout.engines.vllm_engine import VllmEngine

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("first_model")]


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
