"""`braid check`: everything about a recipe that can be checked on this machine before anything heavy starts.

Each check yields its result, or raises ConfigError. `braid train` begins with the same checks.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from typing import Any

from data.errors import ConfigError
from data.tasks.problem import Problem, ensure_disjoint, load_problems
from data.tasks.registry import Split, build_task
from data.text.codec import load_codec
from rl.config.codec import make_codec, missing_tags
from rl.config.labels import ConsensusLabels, JudgeLabels
from rl.config.model import PretrainedModel, ScratchModel
from rl.config.recipe import Recipe
from rl.config.stages import (
    EpisodesSource,
    LabelStage,
    RecordedSource,
    RewardModelStage,
    RlStage,
    SftStage,
    SupervisedStage,
)
from rl.config.task import SPLITS, DatasetTask, GeneratedTaskConfig, JudgeTask
from rl.imitation.recorded_episodes import matching_files, read_records
from rl.preflight.adapter_check import check_adapters, scratch_layers
from rl.preflight.attention_trial import exactness
from rl.preflight.check_result import CheckResult
from rl.preflight.dataset_check import check_datasets
from rl.preflight.hardware import GIB, Machine, probe
from rl.preflight.memory import engine_memory
from rl.preflight.model_files import loading_problem, weights_problem
from rl.preflight.preference_check import check_preferences
from rl.preflight.prompts import call_lengths, prompts, template
from rl.preflight.sizes import (
    device_memory,
    ensure_cache,
    largest_learner,
    pretrained_config,
    refusal,
    scorer_gb,
    shape_of,
    weight_bytes,
)
from rl.preflight.verifier_check import check_verifiers
from rl.problems import Datasets
from rollout.engines.vllm_settings import PROCESS_GB, split_problem

_MADE = 20_000
"""Largest split (problems) that the check generates to see whether the task has enough; takes seconds."""


def ensure_runnable(
    recipe: Recipe, *, machine: Machine | None = None, remote: bool = False
) -> list[CheckResult]:
    """All checks. `remote`: the run joins a cluster, so this machine's memory and cores do not matter.

    Raises ConfigError for the first that fails.
    """
    here = machine or probe()
    findings = [finding for rule in _RULES for finding in rule(recipe)]
    return findings if remote else [*findings, *_memory(recipe, here), *_placement(recipe, here)]


def ensure_shapes(recipe: Recipe) -> list[CheckResult]:
    """All that can be checked before the weights and the machine are there: of a pretrained model its
    config.json and tokenizer are enough. Raises ConfigError for the first check that fails.
    """
    rules = [partial(_model, weightless=True) if rule is _model else rule for rule in _RULES]
    findings = [finding for rule in rules for finding in rule(recipe)]
    return [*findings, ensure_cache(recipe), *device_memory(recipe)]


def ensure_fits(recipe: Recipe, machine: Machine) -> list[CheckResult]:
    """The checks that depend on the machine. Raises ConfigError."""
    return [*_memory(recipe, machine), *_placement(recipe, machine)]


def render(recipe: Recipe, findings: list[CheckResult], *, shapes: bool = False) -> str:
    """The results as a text table. `shapes`: they are those of `ensure_shapes`."""
    width = max(len(finding.about) for finding in findings)
    lines = [f"  {finding.about:<{width}}  {finding.found}" for finding in findings]
    verdict = "is right, weights and machine not looked at" if shapes else "can run here"
    return "\n".join([f"{recipe.source}: {recipe.name} {verdict}", *lines])


def _problems(recipe: Recipe) -> Iterator[CheckResult]:
    """Files exist and are valid, splits are large enough, and no held-out problem is trained on."""
    for config in dict.fromkeys((recipe.task, *(recipe.task_of(stage) for stage in recipe.stages))):
        if isinstance(config, DatasetTask):
            continue
        if isinstance(config, JudgeTask) and config.params.stage is not None:
            yield CheckResult(about="problems", found=f"solutions that stage {config.params.stage} labels")
            continue
        for split in SPLITS:
            file = config.file(split)
            if file is not None and not file.is_file():
                reason, remedy = (
                    "there is no such file",
                    "correct the path (relative to the recipe), or use null",
                )
                raise refusal(recipe, f"task.files.{split}", str(file), reason, remedy)
        splits = _splits(recipe, config)
        if config.files is not None:
            key = build_task(config.params).key
            for first, second in combinations(splits, 2):
                ensure_disjoint(
                    splits[first],
                    splits[second],
                    key=key,
                    train_name=str(config.file(first) or f"{recipe.source}: the {first} split"),
                    heldout_name=str(config.file(second) or f"{recipe.source}: the {second} split"),
                )
        counts = [
            f"{len(splits[s]) if s in splits else (config.has(s) and config.num_problems(s)) or 0} {s}"
            for s in SPLITS
        ]
        disjoint = "disjoint" if config.files is not None else "disjoint by construction"
        yield CheckResult(about="problems", found=f"{', '.join(counts)}; {disjoint}")


def _splits(recipe: Recipe, config: GeneratedTaskConfig) -> dict[Split, list[Problem]]:
    """The splits of a task that are in files or quick to generate; all of them when any is in a file."""
    task = build_task(config.params)
    splits: dict[Split, list[Problem]] = {}
    for split in SPLITS:
        file, count = config.file(split), config.num_problems(split)
        if file is not None:
            splits[split] = load_problems(file, validate=task.validate)
        elif config.has(split) and (
            config.files is not None or count <= _MADE or isinstance(config, JudgeTask)
        ):
            try:
                splits[split] = task.problems(split, count, 0)
            except ConfigError as error:
                remedy = "use fewer, or change what the reason names"
                raise refusal(recipe, f"task.{split}_problems", count, str(error), remedy) from error
    return splits


def _model(recipe: Recipe, *, weightless: bool = False) -> Iterator[CheckResult]:
    """A pretrained directory is complete, long enough, and its tokenizer has (or may get) the tags.
    `weightless`: its weights may be missing, and are not looked at.
    """
    model = recipe.model
    weights = f"{weight_bytes(recipe) / 4e6:.2f}M weights"
    if isinstance(model, ScratchModel):
        check_adapters(recipe, scratch_layers(model))
        yield CheckResult(about="model", found=f"{model.architecture} from random weights, about {weights}")
        return
    config = pretrained_config(recipe, model)
    longest = config.get("max_position_embeddings")
    if isinstance(longest, int) and model.max_length > longest:
        reason = f"the model's own context is {longest} tokens ({model.path / 'config.json'})"
        raise refusal(recipe, "model.max_length", model.max_length, reason, f"use {longest} or less")
    if not weightless and not sorted(model.path.glob("*.safetensors")):
        reason, remedy = (
            "holds no *.safetensors (pickled weights are never loaded)",
            "save it with save_pretrained",
        )
        raise refusal(recipe, "model.path", str(model.path), reason, remedy)
    if not (model.path / "tokenizer.json").is_file():
        reason, remedy = "holds no tokenizer.json", "load and save its tokenizer once with AutoTokenizer"
        raise refusal(recipe, "model.path", str(model.path), reason, remedy)
    problem = None if weightless else weights_problem(model.path) or loading_problem(model.path)
    if problem is not None:
        remedy = "copy or save the model again, whole"
        raise refusal(recipe, "model.path", str(model.path), problem, remedy)
    missing = missing_tags(recipe, load_codec(model.path))
    if missing and model.tags == "require":
        reason = f"its tokenizer has no single token for {', '.join(missing)}, so engines cannot stop there"
        remedy = "set model.tags: add (or text), or start from a model that Braid exported"
        raise refusal(recipe, "model.path", str(model.path), reason, remedy)
    yield CheckResult(about="model", found=f"{model.path}, about {weights}, context {longest}")
    if recipe.policy_stages():
        yield _exactness(recipe, model)
    yield CheckResult(about="tags", found=_tag_plan(recipe, model, missing))


def _tag_plan(recipe: Recipe, model: PretrainedModel, missing: list[str]) -> str:
    """The treatment of tags that are not one token each, in words."""
    if not missing:
        return "all in the tokenizer"
    if model.tags == "text":
        return f"{len(missing)} written as text"
    adapted = [stage.name for stage in recipe.policy_stages() if stage.lora is not None]
    trained = f"; with lora their rows are trained too ({', '.join(adapted)})" if adapted else ""
    untaught = _untaught(recipe, missing)
    return f"{len(missing)} will be added, their rows the mean of their sub-words'{trained}{untaught}"


def _untaught(recipe: Recipe, missing: list[str]) -> str:
    """What reinforcement learning meets when nobody has taught the model its new tags."""
    stages = [stage for stage in recipe.stages if isinstance(stage, RlStage)]
    if not stages or any(isinstance(stage, SftStage) for stage in recipe.stages):
        return ""
    said = "; no sft stage teaches them, so that the model seldom writes them"
    kinds = {recipe.protocol_of(stage).answer.kind for stage in stages}
    if "tags" in kinds and "<answer>" in missing:
        said += ", <answer> among them (protocol.answer.kind: last_number or boxed reads plain text)"
    return said


def _exactness(recipe: Recipe, model: PretrainedModel) -> CheckResult:
    """The model computes the same log-probabilities in a forest as in plain rows, and has the layers that are
    to get adapters.
    """
    found = exactness(model.path, model.max_length)
    if found.reason is not None:
        reason = f"{found.reason}; the cause is {found.key} in its config.json"
        remedy = "take a model with ordinary attention, such as Qwen3 or Llama"
        if found.key.startswith("rope"):
            remedy = "lower model.max_length to the model's original context, or take another model"
        raise refusal(recipe, "model.path", str(model.path), reason, remedy)
    check_adapters(recipe, found.layers)
    text = f"forests and rows agree to {max(found.difference, 1e-6):.0e} nats"
    if found.dropout:
        text += f"; dropout is switched off in training ({', '.join(found.dropout)})"
    return CheckResult(about="attention", found=text)


def _rows(recipe: Recipe) -> Iterator[CheckResult]:
    """Rows of data sets are right, and verifiers grade them."""
    datasets = Datasets(recipe)
    yield from check_datasets(recipe, datasets)
    yield from check_verifiers(recipe, datasets)


def _calls(recipe: Recipe) -> Iterator[CheckResult]:
    """How long calls can get, and what the model reads first."""
    if isinstance(recipe.model, ScratchModel):
        # Its tokenizer would take seconds to build, and is made of the words that are counted here.
        yield from call_lengths(recipe, None)
        return
    codec = make_codec(recipe)
    yield from template(codec)
    yield from call_lengths(recipe, codec)
    yield from prompts(recipe, codec)


def _labelled_before(stage: SupervisedStage | LabelStage) -> tuple[str, ...]:
    """Earlier stages whose labelled steps a stage takes."""
    if isinstance(stage, LabelStage):
        return stage.by.stages if isinstance(stage.by, ConsensusLabels) else ()
    return (stage.labels,) if isinstance(stage, RewardModelStage) and stage.labels is not None else ()


def _sources(recipe: Recipe) -> Iterator[CheckResult]:
    """Episode records to learn from exist, can be read, and have the stage's protocol."""
    for stage in recipe.stages:
        if not isinstance(stage, SupervisedStage | LabelStage):
            continue
        source, protocol = stage.source, recipe.protocol_of(stage).name
        if isinstance(stage, LabelStage) and isinstance(stage.by, JudgeLabels) and stage.by.path is not None:
            weights = stage.by.path / "model.safetensors"
            if not weights.is_file():
                reason, remedy = f"holds no {weights.name}", "give an export, or the model of a stage"
                raise refusal(recipe, f"{stage.name}.by.path", str(stage.by.path), reason, remedy)
        if not isinstance(source, EpisodesSource):
            continue
        found = [f"stage {name}" for name in (*source.stages, *_labelled_before(stage))]
        for index, pattern in enumerate(source.files):
            try:
                files = matching_files(pattern)
                for file in files:
                    next(read_records([file], protocol), None)  # one record shows the protocol of the file
            except ConfigError as error:
                key = f"{stage.name}.source.files.{index}"
                raise refusal(recipe, key, str(pattern), str(error), "correct it, or leave it out") from error
            found.append(f"{len(files)} file(s) of {pattern}")
        if isinstance(stage, RewardModelStage) and stage.preferences:
            yield check_preferences(recipe, stage)
            continue
        if not isinstance(source, RecordedSource):
            yield CheckResult(about=f"stage {stage.name}", found=f"labels {', '.join(found)}")
            continue
        filters = [
            name for name, on in (("correct", source.correct), ("well-formed", source.well_formed)) if on
        ]
        which = "any" if source.best == "any" else "the shortest"
        rules = ", ".join([*filters, f"{which} {source.max_per_problem} of a problem"])
        yield CheckResult(about=f"stage {stage.name}", found=f"imitates {', '.join(found)}: {rules}")


def _ranks(recipe: Recipe) -> Iterator[CheckResult]:
    """The model can be split over the ranks of an engine."""
    model, split = recipe.model, recipe.engine.tensor_parallel
    if split == 1:
        return
    shape: dict[str, Any]
    if isinstance(model, PretrainedModel):
        shape = pretrained_config(recipe, model)
    else:
        shape = {"num_attention_heads": model.num_heads, "num_key_value_heads": model.num_kv_heads}
        shape["intermediate_size"] = model.intermediate_size
    problem = split_problem(shape, split)
    if problem is not None:
        raise refusal(
            recipe, "engine.tensor_parallel", split, problem, "or more engines (engine.num_engines)"
        )
    yield CheckResult(about="engine", found=f"split over {split} ranks")


def _memory(recipe: Recipe, machine: Machine) -> Iterator[CheckResult]:
    """The cache holds at least one longest call, and caches, weights and processes fit into free memory."""
    engine = recipe.engine
    cache = ensure_cache(recipe)
    split = engine.tensor_parallel
    shape = shape_of(recipe)
    on_device = engine_memory(shape, dtype=engine.dtype, kv_cache_gb=engine.kv_cache_gb)
    learner, largest = largest_learner(recipe, shape)
    scorer = scorer_gb(recipe, shape)
    cuda = _device(recipe, machine) == "cuda"
    if cuda and not machine.gpus:
        reason, remedy = (
            "this machine has no GPU that nvidia-smi can see",
            "use device: auto, or a machine with GPUs",
        )
        raise refusal(recipe, "engine.device", recipe.engine.device, reason, remedy)
    if cuda:
        free = min(gpu.free_gb for gpu in machine.gpus)
        needed, where = on_device / split, "the fullest GPU"
    else:
        needed, free, where = (
            engine.num_engines * (on_device + PROCESS_GB * split) + learner + scorer,
            machine.free_gb,
            "memory",
        )
    if needed > free:
        others = "" if cuda else ", the learner and the scorer" if scorer else " and the learner"
        reason = (
            f"about {needed:.1f} GiB are needed for {engine.num_engines} engine(s) with such caches, weights"
            f"{others}, but only {free:.1f} GiB of {where} are free"
        )
        remedy = "lower it, use fewer engines, or free some memory"
        raise refusal(recipe, "engine.kv_cache_gb", engine.kv_cache_gb, reason, remedy)
    yield cache
    yield CheckResult(about="memory", found=f"about {needed:.1f} GiB needed, {free:.1f} GiB of {where} free")
    if largest:
        yield CheckResult(about="learner memory", found=largest)
    if scorer:
        yield CheckResult(about="scorer", found=f"about {scorer:.1f} GiB in its process(es)")


def _device(recipe: Recipe, machine: Machine) -> str:
    return machine.device if recipe.engine.device == "auto" else recipe.engine.device


def _placement(recipe: Recipe, machine: Machine) -> Iterator[CheckResult]:
    """Enough cores or GPUs for the engines, and disk for the checkpoints."""
    engines, device = recipe.engine.num_engines, _device(recipe, machine)
    split = recipe.engine.tensor_parallel
    each = "one" if split == 1 else f"{split} (engine.tensor_parallel)"
    if device == "cuda" and engines * split > len(machine.gpus):
        reason, remedy = (
            f"this machine has {len(machine.gpus)} GPU(s), one engine takes {each}",
            "use fewer, or join a cluster",
        )
        raise refusal(recipe, "engine.num_engines", engines, reason, remedy)
    if device == "cpu" and engines * split > machine.cores:
        reason, remedy = (
            f"this machine has {machine.cores} core(s), and an engine keeps {each} busy",
            "use fewer engines" if split == 1 else "use fewer engines, or lower engine.tensor_parallel",
        )
        raise refusal(recipe, "engine.num_engines", engines, reason, remedy)
    ranks = f" of {split} ranks" if split > 1 else ""
    yield CheckResult(
        about="placement",
        found=f"{engines} engine(s){ranks} on {device}; {machine.cores} cores, {len(machine.gpus)} GPU(s)",
    )
    slow = [f"{stage.name}.precision" for stage in recipe.policy_stages() if stage.precision == "bfloat16"]
    slow += ["engine.dtype"] if recipe.engine.dtype == "bfloat16" else []
    if slow and device == "cpu" and machine.emulates_bfloat16:
        found = f"{', '.join(slow)}: emulated on this CPU and several times as slow as float32; use float32"
        yield CheckResult(about="bfloat16", found=found)
    kept = sum(
        stage.keep_checkpoints + 1 if isinstance(stage, RlStage) else 2 for stage in recipe.policy_stages()
    )
    disk = kept * 3 * weight_bytes(recipe) / GIB
    if disk > machine.disk_free_gb:
        reason = (
            f"checkpoints need about {disk:.1f} GiB, but the disk has {machine.disk_free_gb:.1f} GiB free"
        )
        raise refusal(recipe, "", None, reason, "free some space, or lower keep_checkpoints")
    yield CheckResult(
        about="disk", found=f"about {disk:.2f} GiB of checkpoints, {machine.disk_free_gb:.0f} GiB free"
    )


_RULES: tuple[Callable[[Recipe], Iterator[CheckResult]], ...] = (
    _problems, _model, _rows, _calls, _sources, _ranks,
)  # fmt: skip
