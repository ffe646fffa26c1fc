"""Adapters published into the real engine: what it then samples is what the learner's model says."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_lab import TOLERANCE, make_model
from safetensors.torch import load_file, save_file
from transformers import Qwen3ForCausalLM

from data.checksum import file_checksum
from data.errors import PublishError
from data.forests.collate import collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from rl.config.lora import Lora
from rl.learner.logprobs import forest_logprobs
from rl.learner.lora import adapter_tensors, add_adapters, load_adapters
from rl.learner.model import load_model
from rollout.engines.adapter_file import write_adapter_file
from rollout.engines.base import EngineRequest, EngineResult
from rollout.engines.tensor_spec import read_metadata
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings

pytestmark = pytest.mark.slow

LORA = Lora(rank=4, alpha=6.0)


def saved_model(seed: int, folder: Path) -> Path:
    make_model(seed, num_kv_heads=1).save_pretrained(folder)
    return folder


@dataclass(frozen=True, kw_only=True)
class Published:
    """An adapter three times: as a file, in the learner's model, and merged into a plain one."""

    file: Path
    adapted: Any
    plain: Any


@torch.no_grad()
def learn(base: Path, seed: int, file: Path) -> Published:
    """Adapters on every kind of layer, so large that no log-probability stays near that of the base."""
    adapted = load_model(base)
    add_adapters(adapted, LORA, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    tensors = adapter_tensors(adapted)
    for name in tensors:
        if name.endswith("lora_B.weight"):
            tensors[name] = 0.3 * torch.randn(tensors[name].shape, generator=generator)
    load_adapters(adapted, tensors)
    checksum = file_checksum(base / "model.safetensors")
    write_adapter_file(file, tensors, base=base, base_checksum=checksum, scaling=LORA.scaling)
    plain = Qwen3ForCausalLM.from_pretrained(base).eval()
    for name, weight in plain.named_parameters():
        layer = name.removesuffix(".weight")
        if f"{layer}.lora_A.weight" in tensors:
            weight += 1.5 * tensors[f"{layer}.lora_B.weight"] @ tensors[f"{layer}.lora_A.weight"]
    return Published(file=file, adapted=adapted, plain=plain)


@torch.no_grad()
def plain_logprobs(model: Any, request: EngineRequest, output: tuple[int, ...]) -> torch.Tensor:
    """[T] of the output ids, by one full forward pass of transformers."""
    logits = model(torch.tensor([[*request.prompt, *output]])).logits[0, len(request.prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(output)[:, None])[:, 0]


@torch.no_grad()
def learner_logprobs(model: Any, request: EngineRequest, output: tuple[int, ...]) -> torch.Tensor:
    """[T] of the output ids, as the learner scores them."""
    row = Row(ids=(*request.prompt, *output), first=len(request.prompt), weights=(1.0,) * len(output))
    return forest_logprobs(model, collate(build_forest([row])))[0]


def differ(result: EngineResult, expected: torch.Tensor, version: int) -> float:
    """Largest difference among the tokens that were sampled by this version."""
    spans = [span for span in result.versions if span.version == version]
    assert spans, f"nothing was sampled by version {version}"
    found = (torch.tensor(result.logprobs) - expected).abs()
    return max(float(found[span.start : span.stop].max()) for span in spans)


@dataclass(kw_only=True)
class House:
    """An engine started with other weights than the adapters' base, as after a supervised stage."""

    runner: asyncio.Runner
    engine: VllmEngine
    base: Path
    first: Published
    second: Published

    def run(self, call: Any) -> Any:
        async def bounded() -> Any:
            return await asyncio.wait_for(call, 120)

        return self.runner.run(bounded())

    def publish(self, path: Path) -> Any:
        return self.engine.publish(path, self.engine.version + 1, file_checksum(path))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("adapters")
    start, base = saved_model(0, folder / "start"), saved_model(1, folder / "base")
    settings = VllmSettings(model_dir=start, max_length=512, kv_cache_gb=0.25, max_live_calls=16)
    with asyncio.Runner() as runner:
        engine = runner.run(VllmEngine.start(settings))
        yield House(
            runner=runner,
            engine=engine,
            base=base,
            first=learn(base, 2, folder / "first"),
            second=learn(base, 3, folder / "second"),
        )
        engine.shutdown()


def request(name: str, length: int = 24) -> EngineRequest:
    prompt = tuple(2 + (7 * i) % 120 for i in range(40))
    return EngineRequest(id=name, prompt=prompt, stops=(), max_tokens=length, temperature=1.0, seed=7)


def test_a_published_adapter_samples_as_the_merged_model(house: House) -> None:
    report = house.run(house.publish(house.first.file))
    assert report.bytes == house.first.file.stat().st_size < (house.base / "model.safetensors").stat().st_size
    call = request("first")
    result = house.run(house.engine.generate(call))
    version = house.engine.version
    assert differ(result, plain_logprobs(house.first.plain, call, result.output), version) <= TOLERANCE
    assert differ(result, learner_logprobs(house.first.adapted, call, result.output), version) <= TOLERANCE
    base = Qwen3ForCausalLM.from_pretrained(house.base).eval()
    assert differ(result, plain_logprobs(base, call, result.output), version) > 0.1
    # A whole file still replaces everything.
    house.run(house.publish(house.base / "model.safetensors"))
    result = house.run(house.engine.generate(replace(call, id="whole")))
    expected = plain_logprobs(base, call, result.output)
    assert differ(result, expected, house.engine.version) <= TOLERANCE


def test_a_second_adapter_replaces_the_first_under_a_call(house: House) -> None:
    """It is added to the base, not to what is being served; each token is its own version's."""
    house.run(house.publish(house.first.file))
    call = request("flying", 400)
    before = house.engine.version

    async def scenario() -> EngineResult:
        task = asyncio.create_task(house.engine.generate(call))
        states = house.engine._llm.output_processor.request_states
        while not states or min(state.detokenizer.num_output_tokens() for state in states.values()) < 20:
            await asyncio.sleep(0.005)
        await house.publish(house.second.file)
        return await task

    result = house.run(scenario())
    assert [span.version for span in result.versions] == [before, before + 1]
    for version, published in ((before, house.first), (before + 1, house.second)):
        assert differ(result, plain_logprobs(published.plain, call, result.output), version) <= TOLERANCE
    assert differ(result, plain_logprobs(house.first.plain, call, result.output), before + 1) > 0.1


def spoil_pair(house: House, path: Path) -> str:
    tensors = load_file(house.second.file)
    del tensors["model.layers.1.mlp.down_proj.lora_B.weight"]
    save_file(tensors, path, metadata=read_metadata(house.second.file))
    return "lora_B.weight is missing"


def spoil_base(house: House, path: Path) -> str:
    metadata = read_metadata(house.second.file) | {"base_checksum": "0" * 64}
    save_file(load_file(house.second.file), path, metadata=metadata)
    return "the checksum of its base"


@pytest.mark.parametrize("spoil", [spoil_pair, spoil_base])
def test_a_broken_adapter_leaves_the_old_weights_serving(house: House, tmp_path: Path, spoil: Any) -> None:
    house.run(house.publish(house.first.file))
    call = request(f"before-{spoil.__name__}")
    before = house.run(house.engine.generate(call))
    version = house.engine.version
    said = spoil(house, tmp_path / "bad")
    with pytest.raises(PublishError, match=f"version {version + 1} not loaded .*{said}"):
        house.run(house.publish(tmp_path / "bad"))
    after = house.run(house.engine.generate(replace(call, id=f"after-{spoil.__name__}")))
    assert (after.output, after.logprobs, after.versions) == (before.output, before.logprobs, before.versions)
    assert house.engine.version == version
    house.run(house.publish(house.second.file))  # and a good one is still taken
    result = house.run(house.engine.generate(replace(call, id=f"good-{spoil.__name__}")))
    expected = plain_logprobs(house.second.plain, call, result.output)
    assert differ(result, expected, version + 1) <= TOLERANCE
