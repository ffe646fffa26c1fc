"""The canary with a real engine and learner, in both number formats: honest updates pass, planted wrong
weights do not.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_lab import House, make_model, prompt
from episodes import call, episode
from safetensors.torch import save_file

from data.checksum import file_checksum
from data.episodes.trajectory import Forced
from data.errors import PublishError
from data.forests.collate import collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from rewards.score import Score
from rl.config.stages import RlStage
from rl.controller.canary import Canary, Examiner, verify
from rl.controller.seams import Text
from rl.learner.learner import Learner
from rl.learner.logprobs import forest_logprobs
from rl.learner.settings import LearnerSettings
from rl.scored_group import ScoredGroup
from rollout.engines.base import EngineRequest, EngineResult
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
UPDATES = 4


class Site:
    """Engine, learner and canary of one number format. Both sides begin with the same weights."""

    def __init__(self, house: House, dtype: Any, folder: Path) -> None:
        self.house, self._folder = house, folder
        stage = RlStage(
            name="rl", kind="rl", steps=99, groups_per_step=4, samples_per_group=2, learning_rate=1e-3,
            forest_tokens=512,
        )  # fmt: skip
        start = house.settings.model_dir
        self.learner = Learner(start, LearnerSettings(stage=stage, max_tokens=512, publish_dtype=dtype))
        self.examiner = Examiner(self, dtype=dtype, max_length=256)  # type: ignore[arg-type]

    async def logprobs(self, texts: list[Text], rounds: bool) -> list[list[float]]:
        return self.learner.logprobs(texts, rounds=rounds)

    async def canary(self, requests: list[EngineRequest]) -> list[list[EngineResult]]:
        return [list(await asyncio.gather(*map(self.house.engine.generate, requests)))]

    def sample(self) -> list[ScoredGroup]:
        """Four groups of one sampled call each."""
        groups = []
        for index in range(4):
            request = self.house.request(prompt(self.house.made, 12), max_tokens=48, seed=self.house.made)
            result = self.house.run(self.house.engine.generate(request))
            said = replace(
                call(0, 0, 48), context=(Forced(ids=request.prompt),), output=result.output,
                logprobs=result.logprobs, versions=result.versions,
            )  # fmt: skip
            scores = (Score(value=float(index % 2)),)
            groups.append(
                ScoredGroup(index=index, problem_id="p", episodes=(episode((said,)),), scores=scores)
            )
        return groups

    def update(self, groups: list[ScoredGroup]) -> None:
        """Likelier or less likely, group by group: an update of every weight."""
        loss = torch.zeros(())
        for group in groups:
            one = group.episodes[0].calls[0]
            context = group.episodes[0].context_ids(one)
            row = Row(ids=(*context, *one.output), first=len(context), weights=(1.0,) * len(one.output))
            values, _ = forest_logprobs(self.learner.model, collate(build_forest([row])))
            loss = loss + (1 - 2 * (group.index % 2)) * values.mean()
        loss.backward()
        self.learner.optimizer.step()
        self.learner.optimizer.zero_grad()

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of what the learner publishes."""
        return {name: tensor.clone() for name, tensor in self.learner.published().items()}

    def publish(self, weights: dict[str, torch.Tensor]) -> int:
        """Publish these weights, whatever they are, as the next version."""
        version = self.house.engine.version + 1
        path = self._folder / f"{version}.safetensors"
        save_file(weights, path)
        self.house.run(self.house.engine.publish(path, version, file_checksum(path)))
        return version

    def verify(self, canary: Canary, version: int) -> Any:
        return self.house.run(verify(replace(canary, version=version), self))  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("canary")
    make_model(0).save_pretrained(folder / "start")
    settings = VllmSettings(
        model_dir=folder / "start", max_length=256, kv_cache_gb=0.1, max_live_calls=16, dtype=request.param
    )
    with asyncio.Runner() as runner:
        engine = runner.run(VllmEngine.start(settings))
        house = House(runner=runner, engine=engine, settings=settings, models={}, files={})
        yield Site(house, request.param, folder)
        engine.shutdown()


def test_honest_updates_pass_and_planted_weights_do_not(site: Site) -> None:
    """Old weights in a layer, in the tied embedding, in every other tensor, in all of them."""
    start = site.weights()
    before, canary, groups = start, None, []
    for _ in range(UPDATES):
        before, groups = site.weights(), site.sample()
        site.update(groups)
        version = site.publish(site.learner.published())
        canary = site.house.run(site.examiner.prepare(version, groups))
        assert canary is not None and len(canary.expected) == 4 * 48
        agreement = site.verify(canary, version)
        assert agreement is not None and 0 < agreement.rms < agreement.limit / 2, "far from an alarm"
    assert canary is not None and canary.before
    now = site.weights()
    layer = {name: start[name] if ".layers.1." in name else now[name] for name in now}
    embedding = {name: start[name] if "embed_tokens" in name else now[name] for name in now}
    half = {name: before[name] if index % 2 else now[name] for index, name in enumerate(sorted(now))}
    for what, wrong in {
        "layer": layer,
        "embedding": embedding,
        "half": half,
        "one update old": before,
    }.items():
        version = site.publish(wrong)
        with pytest.raises(PublishError, match="not the published ones"):
            print(what, site.verify(canary, version))
    site.verify(canary, site.publish(now))


def test_an_update_below_the_rounding_of_a_token_raises_no_alarm(site: Site) -> None:
    for group in site.learner.optimizer.param_groups:
        group["lr"] = 1e-7
    for _ in range(3):
        groups = site.sample()
        site.update(groups)
        version = site.publish(site.learner.published())
        canary = site.house.run(site.examiner.prepare(version, groups))
        assert canary is not None
        site.verify(canary, version)
