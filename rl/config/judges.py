"""How a judge is asked, by a stage that labels or as the scorer: as it was trained, or as the recipe says."""

from dataclasses import dataclass

from data.tasks.judge.question import MARKER, JudgeFormat
from data.text.answer_format import AnswerFormatConfig
from rl.config.labels import JudgeLabels
from rl.config.protocol import ProtocolConfig
from rl.config.recipe import Recipe
from rl.config.stages import LabelStage
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
    trained = trained_judges(recipe)
    if by.path is None and name in trained:
        return trained[name]
    protocol = judge_protocol(MAX_TOKENS if by.max_tokens is None else by.max_tokens)
    return JudgeSetting(protocol=protocol, format=by.format or JudgeFormat(), trained_by=None)


def scoring_judge(recipe: Recipe) -> JudgeSetting | None:
    """How the recipe's scorer is asked, if it is a judge; None for a reward model, or without a scorer."""
    scorer = recipe.scorer
    if scorer is None:
        return None
    if scorer.judge is not None:
        return JudgeSetting(protocol=judge_protocol(MAX_TOKENS), format=scorer.judge, trained_by=None)
    return trained_judges(recipe).get(scorer.stage or "")


def trained_judges(recipe: Recipe) -> dict[str, JudgeSetting]:
    """Stage -> its setting, of all that train a judge."""
    return {
        stage.name: JudgeSetting(
            protocol=recipe.protocol_of(stage), format=config.params.format, trained_by=stage.name
        )
        for stage in recipe.policy_stages()
        if isinstance(config := recipe.task_of(stage), JudgeTask)
    }


def judge_protocol(max_tokens: int) -> SequentialParams:
    """One thread that ends with its verdicts behind `MARKER`."""
    return SequentialParams(
        name="sequential",
        max_tokens=max_tokens,
        answer=AnswerFormatConfig(kind="after", markers=(MARKER,)),
        framing=ChatFramingConfig(instructions={"solo": "{problem} {answer}"}),
    )
