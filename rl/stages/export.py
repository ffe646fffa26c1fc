"""The export stage: weights of a stage, or the initial ones, as a Hugging Face directory with its card."""

import sys
from pathlib import Path
from typing import Any

from safetensors import safe_open

from data.errors import ConfigError
from data.extensions import sha256_of
from data.text.codec import load_codec
from rl.config.extensions import copies
from rl.config.model import PretrainedModel
from rl.config.recipe import Recipe
from rl.config.stages import START, ExportStage, StageConfig
from rl.evaluation.document import read_summary
from rl.export.directory import is_export, write_export
from rl.export.model_card import CardFacts, render_card
from rl.export.verify import verify_files, verify_logprobs
from rl.stages.context import RunContext
from rl.storage.run_directory import RunDirectory, trained_stage
from rollout.protocols import PROTOCOLS
from rollout.protocols.shared.framing import framing_of


async def run_export(context: RunContext, stage: ExportStage) -> dict[str, Any]:
    """Exports into the run directory. -> content of done.json."""
    output = context.directory.path / stage.directory
    export_from_run(context.recipe, context.directory, stage, output)
    verify_files(context.recipe, context.directory, stage.checkpoint, output)
    return {"directory": str(stage.directory)}


def export(run_dir: Path, checkpoint: str | None, output: Path) -> int:
    """Export a finished stage of a run, or `start`, to any directory. -> process exit code.

    Raises ConfigError for a directory that is not a run, for a stage without weights, and for an output that
    is not an export.
    """
    recipe, directory, name = trained_stage(run_dir, checkpoint)
    export_from_run(
        recipe, directory, ExportStage(kind="export", name="export", checkpoint=name), output.absolute()
    )
    print(f"exported {name} to {output}")
    for line in verify_files(recipe, directory, name, output.absolute()):
        print(f"  {line}")
    return 0


def verify(run_dir: Path, checkpoint: str | None, exported: Path) -> int:
    """Check an export of a stage of a run, its log-probabilities too. -> process exit code.

    Raises ConfigError with the first reason why it is not that stage.
    """
    recipe, directory, name = trained_stage(run_dir, checkpoint)
    if not is_export(exported):
        raise ConfigError(f"{exported}: is no export of braid\n  fix: write one with `braid export`")
    for lines in (verify_files, verify_logprobs):
        for line in lines(recipe, directory, name, exported.absolute()):
            print(f"  {line}", flush=True)
    print(f"{exported} is {name} of {run_dir}")
    return 0


def export_from_run(recipe: Recipe, directory: RunDirectory, stage: ExportStage, output: Path) -> None:
    """Weights of `stage.checkpoint` to `output`; the card holds the figures of summary.json.

    Raises ConfigError for weights that are missing, damaged or not finite, and for an `output` that holds
    something else; StorageError when the disk is full.
    """
    checkpoint, model_dir = stage.checkpoint, directory.model(stage.checkpoint)
    codec = load_codec(directory.start)
    params = recipe.protocol_of(stage)
    protocol, framing = PROTOCOLS[params.name], framing_of(params.framing, codec)
    summary_file = directory.path / "summary.json"
    summary = read_summary(summary_file) if summary_file.exists() else {"arms": {}}
    extensions = {path.name: sha256_of(path) for path in copies(directory.path)}
    facts = CardFacts(
        name=f"{recipe.name}-{checkpoint}",
        task=recipe.task_of(stage).name,
        protocol=params.name,
        recipe=Path(recipe.source).name,
        command=f"braid train {recipe.source} --run {directory.path.name}",
        parameters=count_parameters(model_dir),
        base_model=str(recipe.model.path) if isinstance(recipe.model, PretrainedModel) else None,
        checkpoint=checkpoint,
        extensions=tuple(f"{name} (SHA-256 {checksum})" for name, checksum in extensions.items()),
        stages=tuple(_sentence(recipe, other) for other in _stages_up_to(recipe, checkpoint)),
    )
    description: dict[str, Any] = {
        "protocol": params.model_copy(update={"framing": framing}).model_dump(mode="json"),
        "tags": {tag: codec.tag(tag) for tag in protocol.tags_in_use(params, framing.kind)},
        "eos": codec.eos,
        "ends": list(codec.ends),
        "max_length": recipe.model.max_length,
        "dtype": recipe.engine.dtype,
        "rules": (sys.modules[protocol.__module__].__doc__ or "").strip(),
    }
    if extensions:
        description["extensions"] = extensions
    write_export(
        model_dir,
        output,
        protocol_description=description,
        card=render_card(facts, summary),
        start_dir=directory.start,
    )


def _stages_up_to(recipe: Recipe, checkpoint: str) -> list[StageConfig]:
    """The stages that made a checkpoint; none for `start`."""
    made: list[StageConfig] = []
    while checkpoint != START:
        made.insert(0, recipe.stage(checkpoint))
        checkpoint = recipe.begins_with(made[0])
    return made


def count_parameters(model_dir: Path) -> int:
    """Stored weights of a safetensors directory; tied ones count once."""
    total = 0
    for path in model_dir.glob("*.safetensors"):
        with safe_open(str(path), framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                size = 1
                for length in file.get_slice(name).get_shape():
                    size *= length
                total += size
    return total


def _sentence(recipe: Recipe, stage: StageConfig) -> str:
    """One sentence about a stage, for the model card."""
    if stage.kind == "sft":
        of = {"solver": "solver searches", "gold": "gold answers"}.get(stage.source.kind, "recorded episodes")
        size = stage.tokens_per_step
        return f"{stage.name}: supervised, {stage.steps} updates of {size} tokens on {of}."
    assert stage.kind == "rl"
    rewards = " + ".join(term.name for term in recipe.rewards_of(stage))
    return (
        f"{stage.name}: {stage.algorithm.name}, {stage.steps} steps of {stage.groups_per_step} problems x "
        f"{stage.samples_per_group} samples, staleness at most {stage.staleness}, reward {rewards}."
    )
