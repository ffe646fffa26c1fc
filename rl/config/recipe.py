"""The root of a recipe."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr

from data.episodes.probe_plan import ProbePlan
from data.params import CONTENT, MAY_CHANGE, Params
from data.text.normalise import NormaliserName
from rl.config.engine import EngineConfig
from rl.config.model import ModelConfig
from rl.config.protocol import ProtocolConfig
from rl.config.rewards import RewardConfig
from rl.config.scorer import ScorerConfig
from rl.config.stages import START, EvalStage, RlStage, SftStage, StageConfig, TrainingStage
from rl.config.task import TaskConfig
from rl.config.tracking import TrackingConfig

NORMALISER_OF_VERIFIER: dict[str, NormaliserName] = {
    "math": "math",
    "gsm8k": "number",
    "numeric": "number",
    "choice": "choice",
}
"""Normal form of votes by the name of the task's verifier."""

_REWARD_SECONDS = 10.0
"""Time for the scoring of one episode, its verifier apart."""


class Recipe(Params):
    """One training run: a model, a task, a protocol, rewards, engines, and the stages of the curriculum."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80, json_schema_extra=MAY_CHANGE)
    """Name of the recipe, shown in tables, pictures and the model card."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed from which all random numbers of the run are derived."""
    extensions: tuple[Path, ...] = Field(default=(), json_schema_extra=CONTENT)
    """Python files of your own, relative to the recipe: protocols, tasks, verifiers, terms, layouts."""
    task: TaskConfig
    """Task whose problems the model learns to solve."""
    model: ModelConfig
    """Model that is trained."""
    protocol: ProtocolConfig
    """Protocol by which threads fork and join."""
    rewards: tuple[RewardConfig, ...] = Field(min_length=1)
    """Terms of the reward; their weighted values are added up."""
    engine: EngineConfig = EngineConfig()
    """Settings of the inference engines."""
    scorer: ScorerConfig | None = None
    """Who is asked how good steps are: by reward terms, and by protocols that search."""
    tracking: TrackingConfig = Field(default=TrackingConfig(), json_schema_extra=MAY_CHANGE)
    """Where metrics are sent besides metrics.jsonl."""
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    """Stages of the run, in order."""

    _source: str = PrivateAttr(default="recipe")

    @property
    def source(self) -> str:
        """The file this was loaded from, for error messages."""
        return self._source

    def from_file(self, source: str) -> "Recipe":
        """The same recipe with `source` set."""
        copy = self.model_copy()
        copy._source = source
        return copy

    def stage(self, name: str) -> StageConfig:
        """The stage of that name. Raises KeyError."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def task_of(self, stage: StageConfig) -> TaskConfig:
        """The task a stage works on."""
        return stage.task or self.task

    def protocol_of(self, stage: StageConfig) -> ProtocolConfig:
        """The protocol of a stage; votes compare answers as the verifier of its task does, unless the recipe
        says how.
        """
        protocol, verifier = stage.protocol or self.protocol, self.task_of(stage).verifier
        if (
            protocol.answer.normalise is not None
            or verifier is None
            or verifier.name not in NORMALISER_OF_VERIFIER
        ):
            return protocol
        answer = protocol.answer.model_copy(update={"normalise": NORMALISER_OF_VERIFIER[verifier.name]})
        return protocol.model_copy(update={"answer": answer})

    def rewards_of(self, stage: StageConfig) -> tuple[RewardConfig, ...]:
        """The reward terms of a stage."""
        return stage.rewards or self.rewards

    def is_scored(self, stage: StageConfig) -> bool:
        """Whether a term of the stage's rewards takes the scorer's opinion."""
        return any(term.takes_scorer for term in self.rewards_of(stage))

    def probes_of(self, stage: StageConfig) -> ProbePlan | None:
        """The answers that a term of the stage's rewards has forced out of every episode; None: none."""
        return next((term.probes for term in self.rewards_of(stage) if term.probes is not None), None)

    def is_searched(self, stage: StageConfig) -> bool:
        """Whether the protocol of the stage asks the scorer while its episodes run."""
        return isinstance(stage, RlStage | EvalStage) and self.protocol_of(stage).takes_scorer

    @property
    def stops_at_text(self) -> bool:
        """Whether a protocol of the run ends calls at ordinary text."""
        return any(self.protocol_of(stage).stops_at_text for stage in self.stages)

    def reward_seconds_of(self, stage: RlStage | EvalStage) -> float:
        """Seconds that scoring one episode of a stage may take: the stage's own, or what follows from its
        verifier, also for the answers that are forced at one place.
        """
        verifier = self.task_of(stage).verifier
        if stage.reward_seconds is not None:
            return stage.reward_seconds
        probes = self.probes_of(stage)
        answers = 1 if probes is None else 1 + probes.answers
        return _REWARD_SECONDS if verifier is None else answers * verifier.seconds + _REWARD_SECONDS

    def begins_with(self, stage: StageConfig) -> str:
        """Checkpoint whose weights a stage begins with: its own choice, else the last that was trained before
        it, or `start`.
        """
        if isinstance(stage, TrainingStage) and stage.start is not None:
            return stage.start
        before = START
        for other in self.stages:
            if other.name == stage.name:
                break
            if isinstance(other, SftStage | RlStage):
                before = other.name
        return before

    def policy_stages(self) -> tuple[SftStage | RlStage, ...]:
        """The stages that produce weights of the policy."""
        return tuple(stage for stage in self.stages if isinstance(stage, SftStage | RlStage))

    def training_stages(self) -> tuple[TrainingStage, ...]:
        """The stages that train: those of the policy, and reward models."""
        return tuple(stage for stage in self.stages if isinstance(stage, TrainingStage))
