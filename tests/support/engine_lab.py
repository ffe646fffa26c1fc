"""A real engine and the models it may serve, with what they say when asked by transformers alone."""

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from data.checksum import file_checksum
from rollout.engines.base import EngineRequest, EngineResult
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings

TOLERANCE = 1e-4
VOCABULARY = 128


def make_model(seed: int, *, num_heads: int = 2, num_kv_heads: int = 2) -> Any:
    """Random, tied embeddings, sharp enough (initialised widely) that wrong weights show in every token."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads,
        head_dim=32,
        intermediate_size=128,
        tie_word_embeddings=True,
        max_position_embeddings=1024,
        initializer_range=0.15,
        eos_token_id=1,
        dtype="float32",
    )
    return Qwen3ForCausalLM(config).eval()


def prompt(seed: int, length: int) -> tuple[int, ...]:
    generator = random.Random(seed)
    return tuple(generator.randrange(2, VOCABULARY) for _ in range(length))


@dataclass
class House:
    """One engine for the module, its event loop, and the models that a test may publish."""

    runner: asyncio.Runner
    engine: VllmEngine
    settings: VllmSettings
    models: dict[str, Any]
    files: dict[str, Path]
    made: int = 0
    serving: dict[int, str] = field(default_factory=dict)

    def run(self, call: Any) -> Any:
        async def bounded() -> Any:
            return await asyncio.wait_for(call, 240)

        return self.runner.run(bounded())

    def request(self, prompt: Any, **given: Any) -> EngineRequest:
        self.made += 1
        defaults = {"id": f"call-{self.made}", "stops": (), "max_tokens": 24, "temperature": 1.0, "seed": 7}
        return EngineRequest(prompt=tuple(prompt), **{**defaults, **given})

    async def publish(self, name: str) -> int:
        """Publishes a model under the next version; returns it."""
        version = self.engine.version + 1
        report = await self.engine.publish(self.files[name], version, file_checksum(self.files[name]))
        assert (report.version, report.bytes) == (version, self.files[name].stat().st_size)
        assert 0 < report.load_s <= report.pause_s <= report.total_s
        self.serving[version] = name
        return version

    async def sampled(self, tokens: int) -> None:
        """Until each call in flight has at least so many output tokens: no guess at the machine's speed."""
        calls = self.engine._llm.output_processor.request_states
        while not calls or min(call.detokenizer.num_output_tokens() for call in calls.values()) < tokens:
            await asyncio.sleep(0.005)

    def error(self, request: EngineRequest, result: EngineResult, model: str | None = None) -> float:
        """Largest difference to a full forward by the weights each version span names (or by `model`)."""
        worst = 0.0
        for span in result.versions:
            name = model or self.serving[span.version]
            expected = expected_logprobs(self.models[name], request, result.output)
            actual = torch.tensor(result.logprobs)
            worst = max(worst, (actual - expected)[span.start : span.stop].abs().max().item())
        assert sum(span.stop - span.start for span in result.versions) == len(result.output)
        return worst


@torch.no_grad()
def expected_logprobs(model: Any, request: EngineRequest, output: tuple[int, ...]) -> torch.Tensor:
    """[T] of the output ids, by one full forward pass of transformers."""
    ids = torch.tensor([[*request.prompt, *output]])
    logits = model(ids).logits[0, len(request.prompt) - 1 : -1] / (request.temperature or 1.0)
    return logits.log_softmax(-1).gather(-1, torch.tensor(output)[:, None])[:, 0]
