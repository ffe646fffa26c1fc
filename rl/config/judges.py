"""How a stage that labels by a judge asks it: as the judge was trained, or as the recipe says."""

from dataclasses import dataclass

from data.tasks.judge.question import MARKER, JudgeFormat
from data.text.answer_format import AnswerFormatConfig
from rl.config.labels import JudgeLabels
from rl.config.protocol import ProtocolConfig
from rl.config.recipe import Recipe
from rl.config.stages import START, LabelStage
from rl.config.task import JudgeTask
from rollout.protocols.sequential import SequentialParams
from rollout.protocols.shared.framing_params import ChatFramingConfig

MAX_TOKENS = 1024
"""Sampled tokens of a judge that no stage trained, where the recipe says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeSetting:
    """Protocol and format in which a judge is asked."""

    protocol: ProtocolConfig
    format: JudgeFormat
    trained_by: str | None
    """Stage that trained it to judge; None where no stage did."""


def judge_setting(recipe: Recipe, stage: LabelStage, by: JudgeLabels) -> JudgeSetting:
    """The setting of a stage's judge: that of the stage whose weights judge, if it trained a judge."""
    name = by.checkpoint or recipe.begins_with(stage)
    if by.path is None and name != START and name in (other.name for other in recipe.policy_stages()):
        judging = recipe.stage(name)
        config = recipe.task_of(judging)
        if isinstance(config, JudgeTask):
            protocol = recipe.protocol_of(judging)
            return JudgeSetting(protocol=protocol, format=config.params.format, trained_by=name)
    protocol = judge_protocol(MAX_TOKENS if by.max_tokens is None else by.max_tokens)
    return JudgeSetting(protocol=protocol, format=by.format or JudgeFormat(), trained_by=None)


def judge_protocol(max_tokens: int) -> SequentialParams:
    """One thread that ends with its verdicts behind `MARKER`."""
    return SequentialParams(
        name="sequential",
        max_tokens=max_tokens,
        answer=AnswerFormatConfig(kind="after", markers=(MARKER,)),
        framing=ChatFramingConfig(instructions={"solo": "{problem} {answer}"}),
    )
