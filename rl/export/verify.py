"""`braid export --verify`: is an exported directory the model that the run trained?

weights    every tensor of the model that training began with, in its shape and number format, and no other;
           each is the stage's own, rounded; something differs from the beginning, each adapted layer too
files      configuration, generation settings, chat template and tokenizer are those of the beginning;
           protocol.json (with framing and answer format) is the stage's
    episodes   transformers and vLLM give a recorded episode's tokens the recorded log-probabilities
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.episodes.wire import read_episodes
from data.errors import ConfigError
from data.text.codec import load_codec
from rl.config.recipe import Recipe
from rl.config.stages import EvalStage, ExportStage
from rl.evaluation.gather import outcomes_path
from rl.evaluation.outcome_file import episodes_file
from rl.export.directory import EXPORT_FORMAT, PROTOCOL_FILE, TOKENIZER_FILES
from rl.storage.checksums import damage
from rl.storage.rollout_record import RECORD
from rl.storage.run_directory import RunDirectory, previous_model
from rollout.protocols.shared.framing import framing_of

BOUNDS = {"float32": 1e-4, "bfloat16": 0.1}
"""Largest mean difference of log-probabilities, by the coarser number format of the two sides: in float32
what engine and learner may differ by in any token, in bfloat16 three times what rounding gave with SmolLM2
(0.032; single tokens 0.2 to 0.3).
"""
MOST_CALLS = 8
"""Calls that are compared."""
_FILES = ("generation_config.json", *TOKENIZER_FILES)


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedCall:
    """A call that the exported weights sampled, or, without log-probabilities, any call of their protocol."""

    context: tuple[int, ...]
    output: tuple[int, ...]
    logprobs: tuple[float, ...]
    """[T] as recorded; () when other weights sampled the call."""


def verify_files(recipe: Recipe, directory: RunDirectory, checkpoint: str, export: Path) -> list[str]:
    """Weights and files of an export. -> lines on what was compared. Raises ConfigError with the reason."""
    if problem := damage(export):
        raise _refused(export, problem)
    found = _differing_file(directory.start, export)
    if found is not None:
        raise _refused(export, found)
    described = json.loads((export / PROTOCOL_FILE).read_text(encoding="utf-8"))
    codec, known = load_codec(directory.start), []
    for params in (recipe.protocol_of(stage) for stage in _exports(recipe, checkpoint)):
        framing = framing_of(params.framing, codec)
        known.append(params.model_copy(update={"framing": framing}).model_dump(mode="json"))
    if described.get("format") != EXPORT_FORMAT or described.get("protocol") not in known:
        raise _refused(export, f"{PROTOCOL_FILE} is not that of checkpoint {checkpoint!r}")
    from rl.learner.exported import compare_weights

    model = directory.model(checkpoint)
    named = [stage for stage in recipe.policy_stages() if stage.name == checkpoint]
    before = previous_model(recipe, directory, named[0]) if named else directory.start
    reason, changed, total = compare_weights(export, model, directory.start, before, trained=bool(named))
    if reason is not None:
        raise _refused(export, reason)
    return [
        f"weights: {total} tensors with names, shapes and format of the start; {changed} differ from it",
        "files: configuration, generation settings, chat template and tokenizer are the start's",
    ]


def verify_logprobs(recipe: Recipe, directory: RunDirectory, checkpoint: str, export: Path) -> list[str]:
    """A recorded episode by transformers and by vLLM. -> a line on each. Raises ConfigError."""
    from rl.learner.exported import plain_logprobs

    calls, temperature, source = recorded_calls(recipe, directory, checkpoint)
    formats = {recipe.engine.dtype, _dtype(export)}
    bound = BOUNDS["bfloat16" if formats - {"float32"} else "float32"]
    texts = [(call.context, call.output) for call in calls]
    size = load_codec(export).size
    by_transformers = plain_logprobs(export, texts, temperature, size)
    expected = [call.logprobs for call in calls]
    if not all(expected):
        source, expected = (
            "the stage's own weights",
            plain_logprobs(directory.model(checkpoint), texts, temperature, size),
        )
    lines = [_compared(export, "transformers", by_transformers, expected, source, bound)]
    by_engine = asyncio.run(_engine_logprobs(recipe, export, texts, size))
    # An engine scores a prompt at temperature 1.
    at_one = expected if temperature == 1.0 else plain_logprobs(export, texts, 1.0, size)
    return [*lines, _compared(export, "vLLM", by_engine, at_one, source, bound)]


def recorded_calls(
    recipe: Recipe, directory: RunDirectory, checkpoint: str
) -> tuple[list[RecordedCall], float, str]:
    """-> calls, the temperature of their log-probabilities, and where they are from: an evaluation of the
    checkpoint, whose weights sampled them, or else any record of the run.

    Raises ConfigError when the run has recorded nothing.
    """
    for stage in recipe.stages:
        if isinstance(stage, EvalStage) and checkpoint in stage.checkpoints:
            file = episodes_file(outcomes_path(directory, stage.name, checkpoint, "sampled"))
            if file.exists() and (calls := _calls(file, exact=True)):
                return calls, stage.temperature, f"the evaluation {stage.name!r}"
    for file in sorted(directory.path.glob(f"stages/*/{RECORD}/*.gz")) + sorted(
        directory.path.glob("stages/*/*.episodes.jsonl.gz")
    ):
        if calls := _calls(file, exact=False):
            return calls, 1.0, "the stage's own weights"
    raise ConfigError(
        f"{directory.path}: no episode is recorded, so log-probabilities cannot be compared\n"
        f"  fix: evaluate {checkpoint!r} (an eval stage), or train an rl stage"
    )


def _calls(file: Path, *, exact: bool) -> list[RecordedCall]:
    found = []
    for episode in read_episodes(file):
        for call in episode.calls:
            if call.output and (call.logprobs or not exact):
                logprobs = call.logprobs if exact else ()
                context = episode.context_ids(call)
                found.append(RecordedCall(context=context, output=call.output, logprobs=logprobs))
            if len(found) == MOST_CALLS:
                return found
    return found


def _compared(
    export: Path,
    who: str,
    found: Sequence[Sequence[float]],
    expected: Sequence[Sequence[float]],
    source: str,
    bound: float,
) -> str:
    """The line on one comparison. Raises ConfigError when the mean difference exceeds the bound."""
    errors = [
        abs(a - b)
        for one, other in zip(found, expected, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    mean = sum(errors) / len(errors)
    text = f"mean {mean:.1e}, largest {max(errors):.1e}, over {len(errors)} tokens"
    if not mean <= bound:
        reason = f"{who} gives other log-probabilities than {source}: {text} (rounding stays below {bound:g})"
        raise _refused(export, reason)
    return f"{who}: log-probabilities of {source} recomputed: {text}"


async def _engine_logprobs(
    recipe: Recipe, export: Path, texts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], vocabulary: int
) -> list[tuple[float, ...]]:
    from rollout.engines.base import EngineRequest
    from rollout.engines.vllm_engine import VllmEngine
    from rollout.engines.vllm_settings import VllmSettings

    settings = VllmSettings(
        model_dir=export,
        max_length=recipe.model.max_length,
        dtype=recipe.engine.dtype,
        kv_cache_gb=recipe.engine.kv_cache_gb,
        device=recipe.engine.device,
        vocabulary=vocabulary,
    )
    engine = await VllmEngine.start(settings)
    try:
        found = []
        for number, (context, output) in enumerate(texts):
            # One more token is sampled: room for it is left where a call filled the context.
            ids = (*context, *output)[: settings.max_length - 1]
            request = EngineRequest(
                id=f"verify/{number}", prompt=ids, stops=(), max_tokens=1, temperature=1.0, seed=0,
                score_prompt=True,
            )  # fmt: skip
            found.append((await engine.generate(request)).prompt_logprobs[len(context) - 1 :])
        return found
    finally:
        engine.shutdown()


def _differing_file(start: Path, export: Path) -> str | None:
    """The first file beside the weights that is not the start's."""
    for name in _FILES:
        mine, theirs = export / name, start / name
        if theirs.is_file() and not mine.is_file():
            what = "chat template" if name == "chat_template.jinja" else "file"
            return f"the {what} {name} is missing"
        if theirs.is_file() and mine.read_bytes() != theirs.read_bytes():
            return f"{name} is not the one that training began with"
    ours, before = (json.loads((folder / "config.json").read_text("utf-8")) for folder in (export, start))
    changed = sorted(key for key in ours.keys() | before.keys() if ours.get(key) != before.get(key))
    return f"config.json has another {', '.join(changed)}" if changed else None


def _dtype(export: Path) -> str:
    config: Mapping[str, Any] = json.loads((export / "config.json").read_text(encoding="utf-8"))
    return str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")


def _exports(recipe: Recipe, checkpoint: str) -> list[ExportStage]:
    """The export stages of a checkpoint, and the one that `braid export` stands for."""
    own = [stage for stage in recipe.stages if isinstance(stage, ExportStage)]
    return [
        ExportStage(kind="export", name="export", checkpoint=checkpoint),
        *(stage for stage in own if stage.checkpoint == checkpoint),
    ]


def _refused(export: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{export}: is not what the run trained: {reason}\n  fix: export it again with `braid export`"
    )
