"""The real engine with models that tests publish."""

import asyncio
from collections.abc import Iterator

import pytest
import torch
from engine_lab import House, make_model

from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings


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


@pytest.fixture
def first_model(house: House) -> None:
    """The first model is being served."""
    if house.serving[house.engine.version] != "first":
        house.run(house.publish("first"))
