"""Checks of what a model will read: lengths in its own tokens, and the first prompt as ids and as text."""

from collections.abc import Iterator, Sequence

from data.errors import ConfigError
from data.tasks.base import GeneratedTask, Split, Task
from data.tasks.problem import Problem
from data.tasks.registry import build_task
from data.text.codec import Codec
from rl.config.base import ConfigIssue
from rl.config.lengths import needed_length
from rl.config.model import ScratchModel
from rl.config.recipe import Recipe
from rl.config.stages import EvalStage, ExportStage, RlStage, StageConfig
from rl.config.task import DatasetTask, JudgeTask
from rl.preflight.check_result import CheckResult
from rl.problems import make_problems
from rollout.commands import Generate
from rollout.machine import EpisodeMachine
from rollout.protocols import build_protocol
from rollout.protocols.shared.base import ThinkingProtocol

MEASURED = 2_000
"""Most problems of a split whose prompts are encoded."""
_LAID_OUT = 8
"""The longest prompts, of which each is laid out as a call."""
_SHOWN_IDS = 400
_SHOWN_TEXT = 4_000


def call_lengths(recipe: Recipe, codec: Codec | None) -> Iterator[CheckResult]:
    """How long calls can get, for each stage. Raises ConfigError where a pretrained model's context would cut
    them off; for a model from random weights the cross-checks have shown that they fit, without a codec.
    """
    for stage in recipe.stages:
        if isinstance(stage, ExportStage):
            continue
        task, params = build_task(recipe.task_of(stage).params), recipe.protocol_of(stage)
        if not isinstance(task, GeneratedTask):
            continue
        if isinstance(recipe.model, ScratchModel):
            needed = needed_length(task, params, digits=recipe.model.digits)
            found = f"{params.name}: calls up to {needed} of {recipe.model.max_length} tokens"
        else:
            assert codec is not None
            found = _measured(recipe, stage, task, codec)
        yield CheckResult(about=f"stage {stage.name}", found=found)


def _measured(recipe: Recipe, stage: StageConfig, task: GeneratedTask, codec: Codec) -> str:
    """The longest call of a stage, in tokens of the real problems."""
    protocol = build_protocol(recipe.protocol_of(stage), codec)
    problems = [p for split in _splits(stage) for p in _first(recipe, stage, task, split)]
    if not problems:
        return f"{protocol.name}: no problems"
    needed, longest = longest_call(protocol, task, problems, codec)
    if needed > recipe.model.max_length:
        reason = (
            f"for {protocol.name} in stage {stage.name!r} problem {longest.id!r} and its calls' token limits "
            f"need {needed}, so the model's context would cut calls off before their token limits do"
        )
        remedy = f"raise it to {needed}, or lower the protocol's token limits"
        issue = ConfigIssue(
            key="model.max_length", value=recipe.model.max_length, reason=reason, remedy=remedy
        )
        raise issue.error(recipe.source)
    return (
        f"{protocol.name}: calls up to {needed} of {recipe.model.max_length} tokens; longest of "
        f"{len(problems):,} prompts {_size(task, longest, codec)} tokens ({longest.id})"
    )


def longest_call(
    protocol: ThinkingProtocol, task: Task, problems: Sequence[Problem], codec: Codec
) -> tuple[int, Problem]:
    """-> (tokens of the longest call that begins a thread: context and token limit; its problem).

    Only the longest prompts are laid out: what a framing adds is the same for all.
    """
    ranked = sorted(problems, key=lambda problem: -_size(task, problem, codec))[:_LAID_OUT]
    needed = [(protocol.needed_length(task.prompt(problem)), -place) for place, problem in enumerate(ranked)]
    tokens, place = max(needed)
    return tokens, ranked[-place]


def _size(task: Task, problem: Problem, codec: Codec) -> int:
    prompt = task.prompt(problem)
    texts = (*(message.content for message in prompt.history), prompt.text)
    return sum(len(codec.encode(text)) for text in texts)


def _splits(stage: StageConfig) -> tuple[Split, ...]:
    if isinstance(stage, EvalStage):
        return (stage.split,)
    if isinstance(stage, RlStage) and stage.validate_every:
        return ("train", "validation")
    return ("train",)


def _first(recipe: Recipe, stage: StageConfig, task: GeneratedTask, split: Split) -> Sequence[Problem]:
    config = recipe.task_of(stage)
    assert not isinstance(config, DatasetTask), "its task is generated"
    if config.file(split) is not None:
        return make_problems(task, config, split)
    return task.problems(split, min(config.num_problems(split), MEASURED), 0)


def first_prompt(
    recipe: Recipe, protocol: ThinkingProtocol, task: Task, problem: Problem, codec: Codec
) -> Iterator[CheckResult]:
    """What the model reads in the first call of an episode: its ids, and their text with special tokens."""
    machine = EpisodeMachine(
        protocol,
        task.prompt(problem),
        id="check",
        problem_id=problem.id,
        max_length=recipe.model.max_length,
    )
    call = next((command for command in machine.begin() if isinstance(command, Generate)), None)
    if call is None:
        return
    shown = " ".join(map(str, call.prompt[:_SHOWN_IDS]))
    more = len(call.prompt) - _SHOWN_IDS
    yield CheckResult(
        about="first prompt",
        found=f"{len(call.prompt)} ids: {shown}{f' and {more} more' if more > 0 else ''}",
    )
    text = codec.decode(call.prompt)
    cut = text[:_SHOWN_TEXT] + (" [...]" if len(text) > _SHOWN_TEXT else "")
    yield CheckResult(about="  as text", found=cut.replace("\n", "\\n"))


def template(codec: Codec) -> Iterator[CheckResult]:
    """What a pretrained model's chat template does to earlier turns: a conversation may be continued as it
    was sampled only where it leaves them alone.
    """
    if codec.words_only:
        return
    if not codec.has_template:
        yield CheckResult(about="chat template", found="none")
        return
    try:
        kept = codec.keeps_turns()
    except ConfigError as error:
        reason = str(error).splitlines()[0].removeprefix(f"{codec.name}: ")
        yield CheckResult(about="chat template", found=reason)
        return
    found = "leaves" if kept else "changes"
    yield CheckResult(about="chat template", found=f"{found} earlier turns of the assistant")


def prompts(recipe: Recipe, codec: Codec) -> Iterator[CheckResult]:
    """The first prompt of the first stage, if its problems are generated, or solutions of a file to judge."""
    for stage in recipe.stages:
        if isinstance(stage, ExportStage):
            continue
        config = recipe.task_of(stage)
        task = build_task(config.params)
        if isinstance(config, JudgeTask) and config.params.stage is None:
            problems: Sequence[Problem] = make_problems(task, config, "train")
        elif isinstance(task, GeneratedTask):
            problems = _first(recipe, stage, task, _splits(stage)[0])
        else:
            return  # rl.preflight.dataset_check has read its rows, and shows the first
        protocol = build_protocol(recipe.protocol_of(stage), codec)
        if problems:
            yield from first_prompt(recipe, protocol, task, problems[0], codec)
            return
