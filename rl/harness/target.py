"""What is evaluated: a checkpoint of a run, an export, any Hugging Face directory, or an endpoint."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import ConfigError
from rl.export.described import read_described
from rl.export.directory import PROTOCOL_FILE
from rl.storage.identity import RECIPE_FILE
from rl.storage.run_directory import trained_stage
from rollout.protocols import AnyParams

MOST_CONTEXT = 4096
"""Context that a Hugging Face directory gets unless --max-length says more: its cache takes memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTarget:
    """Weights in a directory that the engine loads."""

    name: str
    """How tables name it."""
    directory: Path
    """A Hugging Face directory with tokenizer."""
    protocol: AnyParams | None
    """The protocol that it was trained for; None when nothing says so."""
    max_length: int
    """Longest context and output of one call, in tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointTarget:
    """An OpenAI-compatible server that somebody else runs."""

    name: str
    """Name of the model, as the server knows it."""
    url: str
    """Base address, up to and including /v1."""


Target = ModelTarget | EndpointTarget


def is_endpoint(text: str) -> bool:
    """Whether a target is an address."""
    return text.startswith(("http://", "https://"))


def find_target(text: str, *, checkpoint: str | None, model: str | None, max_length: int | None) -> Target:
    """The target that a user names: an address, a run directory, or a model directory.

    Raises ConfigError for anything else, and where an option does not belong to it.
    """
    if is_endpoint(text):
        if model is None:
            raise ConfigError(f"{text}: which model?\n  fix: add --model NAME, as GET {text}/models lists it")
        return EndpointTarget(name=model, url=text)
    path = Path(text)
    if model is not None:
        raise ConfigError("--model: names the model of an endpoint\n  fix: leave it out for a directory")
    if (path / RECIPE_FILE).is_file():
        recipe, directory, name = trained_stage(path, checkpoint)
        protocol = recipe.protocol if name == "start" else recipe.protocol_of(recipe.stage(name))
        return ModelTarget(
            name=f"{path.name}/{name}",
            directory=directory.model(name),
            protocol=protocol,
            max_length=max_length or recipe.model.max_length,
        )
    if checkpoint is not None:
        raise ConfigError(f"--checkpoint: {path} is not a run, which alone has several\n  fix: leave it out")
    return _directory(path, max_length)


def _directory(path: Path, max_length: int | None) -> ModelTarget:
    config = path / "config.json"
    if not config.is_file():
        raise ConfigError(
            f"{path}: is not a run directory (no recipe.json), nor a model (no config.json)\n"
            "  fix: name a run, an export, a Hugging Face directory, or the http address of an endpoint"
        )
    longest = int(_read(config).get("max_position_embeddings", MOST_CONTEXT))
    protocol: AnyParams | None = None
    own = min(longest, MOST_CONTEXT)
    if (path / PROTOCOL_FILE).is_file():
        described = read_described(path)
        protocol, own = described.params, described.max_length
    return ModelTarget(
        name="/".join(path.resolve().parts[-2:]),
        directory=path,
        protocol=protocol,
        max_length=max_length or own,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})\n  fix: restore the file") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: is not a JSON object\n  fix: restore the file")
    return found
