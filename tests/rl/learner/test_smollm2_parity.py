"""A real chat model: what the engine recorded is what the learner and transformers compute in float32.

Before an update, after a published one, and with adapters beside trained rows of added tags. Episodes go
through the chat template, with tags as tokens and as text.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_lab import House
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from data.checksum import file_checksum
from data.episodes.trajectory import Call, Episode, StopReason
from data.forests.collate import collate
from data.forests.forest import build_forest
from data.forests.rows import call_row
from data.text.codec import Codec, load_codec
from data.text.prompt import Prompt
from data.text.structure import add_structural_tokens
from rl.config.lora import Lora
from rl.learner.added_tags import read_tag_ids
from rl.learner.logprobs import forest_logprobs
from rl.learner.lora import adapter_tensors, add_adapters, merged_weights
from rl.learner.model import load_model, publishable_weights
from rl.learner.optimizer import OPTIMIZERS
from rl.learner.pretrained_start import write_pretrained_start
from rollout.engines.adapter_file import write_adapter_file
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import Dtype, VllmSettings
from rollout.protocols import build_protocol, vocabulary
from rollout.protocols.forking_tokens import ForkingTokensParams
from rollout.protocols.shared.base import ThinkingProtocol
from rollout.runner import EpisodeSpec, run_episode

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

TOLERANCE = 1e-4
LORA = Lora(rank=4, alpha=8.0)
PROBLEMS = ("What is 2 + 3? Answer with the number only.", "Name three colours, with commas.")
PARAMS = ForkingTokensParams.model_validate(
    {
        "name": "forking_tokens", "tags": ("<fork1>", "<fork2>"), "chain_tokens": 16,
        "framing": {"kind": "chat"},
    }
)  # fmt: skip


@dataclass
class Site:
    """One engine, and the protocol with tags as tokens and as text."""

    house: House
    start: Path
    codec: Codec
    protocols: tuple[ThinkingProtocol, ...]
    sampled: int = 0

    def sample(self) -> list[tuple[Episode, Call]]:
        """Every call of an episode per problem and protocol, all sampled at once."""

        async def every() -> list[Episode]:
            runs = []
            for protocol in self.protocols:
                for problem in PROBLEMS:
                    self.sampled += 1
                    spec = EpisodeSpec(
                        id=f"{self.sampled}", prompt=Prompt(problem), temperature=1.0, seed=f"{self.sampled}"
                    )
                    runs.append(run_episode(self.house.engine, protocol, spec))
            return list(await asyncio.gather(*runs))

        return [(episode, call) for episode in self.house.run(every()) for call in episode.calls]

    def publish(self, path: Path) -> None:
        """Publish a file of weights or adapters as the next version."""
        self.house.run(self.house.engine.publish(path, self.house.engine.version + 1, file_checksum(path)))


def started_site(smollm2: Path, folder: Path, runner: asyncio.Runner, dtype: Dtype) -> Site:
    """SmolLM2 with rows for the tags, in an engine of this number format."""
    text, codec = load_codec(smollm2), load_codec(smollm2)
    add_structural_tokens(codec.tokenizer, vocabulary(PARAMS)[0])
    codec = Codec(codec.tokenizer, codec.ends)
    codec.save(folder)
    write_pretrained_start(smollm2, codec, folder)
    settings = VllmSettings(
        model_dir=folder, max_length=256, kv_cache_gb=0.2, max_live_calls=16, dtype=dtype, text_stops=True,
        vocabulary=codec.size,
    )  # fmt: skip
    engine = runner.run(VllmEngine.start(settings))
    house = House(runner=runner, engine=engine, settings=settings, models={}, files={})
    protocols = (build_protocol(PARAMS, codec), build_protocol(PARAMS, text))
    return Site(house=house, start=folder, codec=codec, protocols=protocols)


@pytest.fixture(scope="module")
def site(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with asyncio.Runner() as runner:
        site = started_site(smollm2, tmp_path_factory.mktemp("start"), runner, "float32")
        yield site
        site.house.engine.shutdown()


@torch.no_grad()
def by_transformers(model: Any, calls: Sequence[tuple[Episode, Call]], size: int) -> torch.Tensor:
    """[T] of all calls' outputs, each by one forward pass of what the engine was given and sampled."""
    found = []
    for episode, call in calls:
        context, output = episode.context_ids(call), torch.tensor(call.output)
        logits = model(torch.tensor([[*context, *call.output]])).logits[0, len(context) - 1 : -1, :size]
        found.append(logits.log_softmax(-1).gather(-1, output[:, None])[:, 0])
    return torch.cat(found)


def by_learner(model: Any, calls: Sequence[tuple[Episode, Call]]) -> torch.Tensor:
    """[T] of all calls' outputs, as one forest with shared prefixes; with gradients where these are on."""
    forest = build_forest([call_row(episode, call) for episode, call in calls])
    values, _ = forest_logprobs(model, collate(forest))
    starts = torch.tensor([0, *(len(call.output) for _, call in calls)]).cumsum(0)
    places = starts[torch.tensor(forest.labels.rows)] + torch.tensor(forest.labels.outputs)
    assert sorted(places.tolist()) == list(range(int(starts[-1])))
    return values[places.argsort()]


def recorded(calls: Sequence[tuple[Episode, Call]]) -> torch.Tensor:
    """[T] of all calls' outputs, as the engine recorded them."""
    return torch.tensor([value for _, call in calls for value in call.logprobs])


@torch.no_grad()
def differ(calls: Sequence[tuple[Episode, Call]], model: Any) -> float:
    """Largest difference between what the engine recorded and what the learner's model says."""
    return float((recorded(calls) - by_learner(model, calls)).abs().max())


def update(model: Any, calls: Sequence[tuple[Episode, Call]], lr: float) -> None:
    """One update that makes every other call likelier, and the others less likely."""
    signs = [1.0 if n % 2 else -1.0 for n, (_, call) in enumerate(calls) for _ in call.output]
    optimizer = OPTIMIZERS["adamw"](model.named_parameters(), lr=lr, weight_decay=0.0)
    (-(torch.tensor(signs) * by_learner(model, calls)).mean()).backward()
    optimizer.step()
    optimizer.zero_grad()


def load_plain(model: Any, weights: dict[str, torch.Tensor]) -> Any:
    """The transformers model with these weights."""
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    return model


def test_float32_engine_learner_and_transformers_agree_through_updates(site: Site, tmp_path: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(site.start, dtype=torch.float32).eval()
    learner = load_model(site.start, site.codec.size)

    def agree(what: str, model: Any, weights: dict[str, torch.Tensor]) -> list[tuple[Episode, Call]]:
        """Sample; every recorded log-probability by both others. -> the calls."""
        calls = site.sample()
        assert {span.version for _, call in calls for span in call.versions} == {site.house.engine.version}
        by_forest = differ(calls, model)
        said, replayed = recorded(calls), by_transformers(load_plain(plain, weights), calls, site.codec.size)
        by_plain = float((said - replayed).abs().max())
        print(f"{what}: {len(said)} tokens, largest difference {by_forest:.1e}, {by_plain:.1e}", flush=True)
        assert by_forest <= TOLERANCE and by_plain <= TOLERANCE
        return calls

    first = agree("start", learner, publishable_weights(learner))
    assert any(call.stop is StopReason.STOP and call.output[-1] in site.codec.ends for _, call in first)
    tag = site.codec.token("<fork1>")
    with_tags = [tag in episode.context_ids(call) for episode, call in first]
    assert any(with_tags) and not all(with_tags), "tags as tokens, and as text"

    update(learner, first[:4], lr=3e-5)
    assert differ(first, learner) > 100 * TOLERANCE
    save_file(publishable_weights(learner), tmp_path / "whole")
    site.publish(tmp_path / "whole")
    agree("after an update", learner, publishable_weights(learner))

    adapted = load_model(site.start, site.codec.size)
    add_adapters(adapted, LORA, seed=0, tag_ids=read_tag_ids(site.start))
    update(adapted, first[:4], lr=1e-3)
    merged, before = merged_weights(adapted), publishable_weights(load_model(site.start))
    moved = (merged["model.embed_tokens.weight"] != before["model.embed_tokens.weight"]).any(dim=1)
    assert set(moved.nonzero()[:, 0].tolist()) <= set(read_tag_ids(site.start)) and bool(moved[tag])
    write_adapter_file(
        tmp_path / "adapters", adapter_tensors(adapted), base=site.start, scaling=LORA.scaling,
        base_checksum=file_checksum(site.start / "model.safetensors"),
    )  # fmt: skip
    site.publish(tmp_path / "adapters")
    last = agree("with adapters and tag rows", adapted, merged)
    assert differ(last, learner) > 100 * TOLERANCE


def test_what_ends_a_call(site: Site) -> None:
    """One of several end ids; a string that begins within one token and ends within another."""
    messages = [{"role": "user", "content": "Count from one to nine in words, with commas."}]
    prompt = site.codec.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)

    def ask(stops: tuple[int, ...], texts: tuple[str, ...] = ()) -> Any:
        request = site.house.request(prompt, stops=stops, stop_texts=texts, temperature=0.0)
        return site.house.run(site.house.engine.generate(request))

    ends = site.codec.ends
    whole = ask(ends)
    place = next(n for n in range(3, len(whole.output) - 3) if whole.output[n] not in whole.output[:n])
    early = ask((*ends, whole.output[place]))
    assert (early.stop, early.output) == (StopReason.STOP, whole.output[: place + 1])
    assert early.logprobs == whole.logprobs[: place + 1], "the same bits"
    texts = [site.codec.decode(whole.output[:n]) for n in range(len(whole.output))]
    string = texts[place + 2][len(texts[place]) - 1 :][:3]
    ended = next(n for n, text in enumerate(texts) if string in text)
    by_text = ask(ends, (string,))
    assert (by_text.stop, by_text.output) == (StopReason.STOP, whole.output[:ended])
    assert by_text.logprobs == whole.logprobs[:ended]
