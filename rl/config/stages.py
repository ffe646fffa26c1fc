"""Section `stages`: the curriculum, in order, each stage with its own settings."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from data.params import CONTENT, MAY_CHANGE, Params
from rl.config.algorithm import Algorithm
from rl.config.cost import CostConfig
from rl.config.engine import PassPrecision, Precision
from rl.config.health import HealthConfig
from rl.config.labels import SAMPLED, LabelSource
from rl.config.lora import Lora
from rl.config.outcome_loss import BinaryLoss, OutcomeLoss
from rl.config.protocol import ProtocolConfig
from rl.config.rewards import RewardConfig
from rl.config.task import TaskConfig

START = "start"
"""Name of the initial model in place of a checkpoint; no stage may have it."""
MAX_STAGE_NAME = 40
"""Characters in the name of a stage."""
StageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=MAX_STAGE_NAME)]
Optimizer = Literal["muon", "adamw"]


class _Stage(Params):
    """Settings that every stage has."""

    name: StageName
    """Unique in the recipe; later stages, `--set` and error messages refer to the stage by it."""
    task: TaskConfig | None = None
    """Changes to the recipe's task for this stage, merged over it."""
    protocol: ProtocolConfig | None = None
    """Changes to the recipe's protocol for this stage; another name replaces it whole."""
    rewards: tuple[RewardConfig, ...] | None = Field(default=None, min_length=1)
    """Rewards of this stage instead of the recipe's."""


class _TrainedStage(_Stage):
    """Settings of the stages that train."""

    start: StageName | None = None
    """Earlier sft or rl stage whose weights it begins with, or `start`; null: the last that was trained."""
    precision: PassPrecision = "float32"
    """Number format of the forward and backward pass, and of Muon's products; the optimizer's state is
    float32. auto is decided when the run begins: bfloat16 on CUDA and on CPUs that have it, else float32.
    """
    weights: Precision = "float32"
    """Number format of the weights that the passes read, and of their gradients. bfloat16 (with precision:
    bfloat16): half the memory for both, float32 masters in the optimizer and in checkpoints; vectors,
    adapters and rows of added tags stay float32.
    """

    @property
    def bfloat16(self) -> bool:
        """Whether the passes compute in bfloat16."""
        assert self.precision != "auto", "it is decided before the run is opened"
        return self.precision == "bfloat16"


class _SupervisedStage(_TrainedStage):
    """Settings of the stages that train on episodes which exist before they begin."""

    keep_engines: bool = Field(default=False, json_schema_extra=MAY_CHANGE)
    """Leave engines that an earlier stage started running: saves their start, costs their memory."""
    steps: int = Field(ge=1, le=1_000_000)
    """Number of optimizer updates."""
    tokens_per_step: int = Field(ge=32, le=2**31)
    """Tokens of one update, all ranks together; a multiple of forest_tokens * num_ranks."""
    forest_tokens: int = Field(ge=32, le=2**31)
    """Most distinct tokens of one forward and backward pass; a longer call is left out."""
    learning_rate: float = Field(gt=0, le=1)
    """Peak learning rate, reached after the warm-up; falls linearly to 5% of it."""
    optimizer: Optimizer = "adamw"
    """muon: Muon on hidden matrices, AdamW on embeddings and norms. adamw: AdamW on all."""
    warmup_steps: int = Field(default=50, ge=0, le=1_000_000)
    """Updates of linear warm-up."""
    weight_decay: float = Field(default=0.05, ge=0, le=1e6)
    """Decoupled weight decay; matrices only."""
    num_ranks: int = Field(default=1, ge=1, le=4_096, json_schema_extra=MAY_CHANGE)
    """Number of data-parallel processes."""
    threads: int | None = Field(default=None, ge=1, le=1_024, json_schema_extra=MAY_CHANGE)
    """CPU threads of each rank. null: one for a model from random weights, which is small; for a pretrained
    one the machine's cores shared by its ranks. Another number adds in another order: equal up to rounding.
    """


class SolverSource(Params):
    """Demonstrations that the protocol renders from the search trees of the task's solver."""

    kind: Literal["solver"]
    """The task's own solver."""


class GoldSource(Params):
    """Gold answers of the task, as the protocol's answer format has them and without a word before them, such
    as the verdicts of a judge.
    """

    kind: Literal["gold"]
    """The first gold answer of each problem; one that has none is left out."""


class EpisodesSource(Params):
    """Recorded episodes, of earlier stages and of files."""

    stages: tuple[StageName, ...] = ()
    """Earlier stages of this run that recorded episodes: rl stages, and eval stages on `split: train`."""
    files: tuple[Path, ...] = Field(default=(), json_schema_extra=CONTENT)
    """Episode records, relative to the recipe; `*` and `**` stand for any names and folders."""


class RecordedSource(EpisodesSource):
    """Recorded episodes that pass the filters: rejection sampling, or episodes of another run or model.

    A whole curriculum of rejection sampling:
        - {name: sft, kind: sft, ...}
        - {name: sample, kind: eval, checkpoints: [sft], split: train, problems: 2000, samples: 8,
           greedy: false, keep_episodes: null}
        - {name: best, kind: sft, source: {kind: recorded, stages: [sample], best: shortest}, ...}
    """

    kind: Literal["recorded"]
    """Episodes that were sampled."""
    correct: bool = True
    """Only episodes whose answer is right by the task's own checker."""
    well_formed: bool = True
    """Only episodes without a violation of the protocol."""
    max_per_problem: int = Field(default=4, ge=1, le=1_000_000)
    """Most episodes of one problem; identical copies count once."""
    best: Literal["any", "shortest"] = "any"
    """Which episodes of a problem: drawn at random, or those with the shortest critical path."""


SftSource = Annotated[SolverSource | GoldSource | RecordedSource, Field(discriminator="kind")]


class SftStage(_SupervisedStage):
    """Supervised fine-tuning on demonstrations of the solver, or on recorded episodes."""

    kind: Literal["sft"]
    """Stage of supervised fine-tuning."""
    lora: Lora | None = None
    """Train low-rank adapters and the rows of added tags instead of all weights; the stage's model is their
    sum. null trains all.
    """
    source: SftSource = SolverSource(kind="solver")
    """Source of the demonstrations."""
    demonstrations: int | None = Field(default=None, ge=1, le=100_000_000)
    """Number of solver demonstrations, or most recorded episodes or gold answers (null: all); training cycles
    over them.
    """
    pivot_weight: float = Field(default=1.0, ge=1, le=1e6)
    """Loss weight of the decisive tokens: verdicts, returns, answers."""
    match_tags: bool = False
    """Match forking tags to an episode's traces by the smallest total loss (Set-SFT). Episodes whose tags,
    each with all traces, exceed forest_tokens are left out.
    """


StepName = Literal["line", "paragraph", "call", "thread"]


class LabelStage(_Stage):
    """Labels for the steps of recorded episodes, of any task: how often what is sampled behind a step ends
    well, what several labellings agree on, or what a file says. A reward model takes them (`labels`).

    Example:
        - {name: sample, kind: eval, checkpoints: [sft], split: train, samples: 4, greedy: false,
           keep_episodes: null}
        - {name: mc, kind: label_steps, source: {stages: [sample]}, by: {kind: monte_carlo, completions: 8}}
        - {name: prm, kind: reward_model, labels: mc, ...}
    """

    kind: Literal["label_steps"]
    """Stage that labels steps."""
    by: LabelSource
    """Origin of the labels."""
    source: EpisodesSource = EpisodesSource()
    """Source of the episodes; none with consensus, which takes the steps of the stages that it names."""
    step: StepName = "line"
    """How an episode is cut into steps."""
    episodes: int | None = Field(default=None, ge=1, le=100_000_000)
    """Most episodes, drawn at random; null: all."""


class RewardModelStage(_SupervisedStage):
    """A reward model of recorded episodes: it begins with the policy's weights and learns to say, of a text
    that ends with a step, how right it is.

    Example, on a task that labels its steps:
        - {name: sample, kind: eval, checkpoints: [sft], split: train, samples: 4, greedy: false,
           keep_episodes: null}
        - {name: prm, kind: reward_model, source: {stages: [sample]}, label: reachable, ...}
    """

    kind: Literal["reward_model"]
    """Stage that trains a reward model."""
    target: Literal["steps", "outcome"] = "steps"
    """steps: the label of each step, at its last token (process reward model). outcome: whether the answer is
    right, one number at the last token of the root thread (outcome reward model).
    """
    loss: OutcomeLoss = BinaryLoss(kind="binary")
    """What an outcome is compared with: its label, or (bradley_terry) another answer to its problem."""
    preferences: tuple[Path, ...] = Field(default=(), json_schema_extra=CONTENT)
    """Files in TRL's preference layout (`chosen`, `rejected`, `prompt`, `margin`; texts or messages), in
    place of `source`, with target: outcome; relative to the recipe.
    """
    lora: Lora | None = None
    """Train low-rank adapters and the head instead of all weights; the stage's model is their sum."""
    step: StepName = "line"
    """How an episode is cut into steps."""
    label: Literal["valid", "reachable"] = "reachable"
    """valid: the step is right by itself. reachable: the goal can still be reached from where it leads."""
    labels: StageName | None = None
    """Earlier label_steps stage whose steps and labels are learned, in place of `source` and `label`; null:
    the task's exact labels. Soft labels stay soft.
    """
    source: EpisodesSource = EpisodesSource()
    """Source of the episodes, right and wrong ones."""
    episodes: int | None = Field(default=None, ge=1, le=100_000_000)
    """Most episodes, or rows of `preferences`, drawn at random; null: all."""
    held_out_percent: int = Field(default=10, ge=1, le=90)
    """Share of the problems whose episodes are not trained on: the model is measured on them at the end."""


class RlStage(_TrainedStage):
    """Reinforcement learning: engines sample groups of episodes, the learner trains on the exact tokens."""

    kind: Literal["rl"]
    """Stage of reinforcement learning."""
    steps: int = Field(ge=1, le=1_000_000)
    """Number of steps; each consumes one batch and ends with new weights in the engines."""
    groups_per_step: int = Field(ge=1, le=100_000)
    """Problems of one batch."""
    samples_per_group: int = Field(ge=2, le=10_000)
    """Episodes of one problem, compared with each other."""
    staleness: int = Field(default=0, ge=0, le=1_000_000)
    """S: a token trained at step t was sampled by weights of version t - S or later; 0 is synchronous."""
    minibatches: int = Field(default=1, ge=1, le=100_000)
    """Optimizer updates per batch; divides groups_per_step."""
    algorithm: Algorithm = Algorithm()
    """Advantage, loss and their corrections."""
    lora: Lora | None = None
    """Train and publish low-rank adapters and the rows of added tags instead of all weights; null trains all.
    """
    optimizer: Optimizer = "adamw"
    """muon: Muon on hidden matrices, AdamW on embeddings and norms. adamw: AdamW on all."""
    learning_rate: float = Field(gt=0, le=1)
    """Peak, reached after the warm-up."""
    final_learning_rate_fraction: float = Field(default=1.0, ge=0, le=1)
    """Final learning rate as a share of the peak, reached linearly; 1 keeps the peak."""
    warmup_steps: int = Field(default=0, ge=0, le=1_000_000)
    """Steps of linear warm-up."""
    max_grad_norm: float = Field(default=1.0, gt=0, le=1e12)
    """Largest norm of the gradients; larger ones are scaled down to it."""
    weight_decay: float = Field(default=0.0, ge=0, le=1e6)
    """Decoupled weight decay; matrices only."""
    forest_tokens: int = Field(default=2048, ge=32, le=2**31, json_schema_extra=MAY_CHANGE)
    """Most distinct tokens of one forward and backward pass; a longer call gets its own pass."""
    num_ranks: int = Field(default=1, ge=1, le=4_096, json_schema_extra=MAY_CHANGE)
    """Data-parallel processes of the learner; forests are distributed over them by cost."""
    threads: int | None = Field(default=None, ge=1, le=1_024, json_schema_extra=MAY_CHANGE)
    """CPU threads of each rank. null: one for a model from random weights, which is small; for a pretrained
    one the machine's cores shared by its ranks. Another number adds in another order: equal up to rounding.
    """
    sharding: Literal["none", "fsdp"] = Field(default="none", json_schema_extra=MAY_CHANGE)
    """`fsdp`: weights, gradients and moments are sharded over ranks; `none`: every rank holds all of them."""
    activation_checkpointing: bool = Field(default=False, json_schema_extra=MAY_CHANGE)
    """Compute each layer again in the backward pass instead of keeping it: less memory, a third more time."""
    cost: CostConfig = Field(default=CostConfig(), json_schema_extra=MAY_CHANGE)
    """Cost model by which forests are distributed over ranks."""
    temperature: float = Field(default=1.0, gt=0, le=4)
    """Sampling temperature of the episodes."""
    drop_zero_variance: bool = True
    """Leave out groups in which no trained token can have an advantage other than zero: with most estimators
    those whose episodes all got the same reward.
    """
    checkpoint_every: int = Field(default=10, ge=1, le=1_000_000, json_schema_extra=MAY_CHANGE)
    """Steps between checkpoints; the last step always gets one."""
    keep_checkpoints: int = Field(default=2, ge=1, le=1_000_000, json_schema_extra=MAY_CHANGE)
    """Number of latest checkpoints kept."""
    validate_every: int = Field(default=0, ge=0, le=1_000_000)
    """Steps between validations; 0 is never."""
    validation_samples: int = Field(default=1, ge=1, le=10_000)
    """Episodes per validation problem."""
    health: HealthConfig = Field(default=HealthConfig(), json_schema_extra=MAY_CHANGE)
    """When a run that cannot learn ends."""
    reward_workers: int = Field(default=1, ge=1, le=4_096, json_schema_extra=MAY_CHANGE)
    """Processes that score episodes; each takes one group at a time."""
    reward_seconds: float | None = Field(default=None, gt=0, le=1e7)
    """Seconds that scoring one episode may take; an episode that takes longer is ungraded. null: 10, and with
    a verifier 10 more than its own `seconds`.
    """
    reward_start_seconds: float = Field(default=300.0, gt=0, le=1e7, json_schema_extra=MAY_CHANGE)
    """Seconds that a reward worker may take to start before it is replaced."""
    hang_seconds: float = Field(default=1800.0, ge=1, le=1e7, json_schema_extra=MAY_CHANGE)
    """Seconds a step of the learner may take before the learner is restarted."""


class EvalStage(_Stage):
    """Evaluation of finished stages on held-out problems, or sampling of training episodes to learn from."""

    kind: Literal["eval"]
    """Stage that evaluates checkpoints."""
    checkpoints: tuple[StageName, ...] = Field(min_length=1)
    """Earlier sft or rl stages whose last weights are evaluated; `start` is the initial model, a baseline."""
    split: Literal["train", "validation", "test"] = "test"
    """Split of the problems; figures of `train` go to the stage's own folder, not into the run's summary."""
    problems: int | None = Field(default=None, ge=1, le=10_000_000)
    """Number of problems, from the beginning of the split; null takes all."""
    samples: int = Field(default=1, ge=1, le=10_000)
    """Episodes per problem at `temperature`."""
    keep_episodes: int | None = Field(default=64, ge=1, le=100_000_000)
    """Episodes of each evaluation kept whole, to look at or, with `split: train`, to learn from; null keeps
    all.
    """
    reward_workers: int = Field(default=1, ge=1, le=4_096, json_schema_extra=MAY_CHANGE)
    """Processes that score episodes; each takes one group at a time."""
    reward_seconds: float | None = Field(default=None, gt=0, le=1e7)
    """Seconds that scoring one episode may take; an episode that takes longer is ungraded. null: 10, and with
    a verifier 10 more than its own `seconds`.
    """
    reward_start_seconds: float = Field(default=300.0, gt=0, le=1e7, json_schema_extra=MAY_CHANGE)
    """Seconds that a reward worker may take to start before it is replaced."""
    greedy: bool = True
    """Also sample one episode per problem at temperature 0."""
    temperature: float = Field(default=1.0, gt=0, le=4)
    """Temperature of the sampled episodes."""
    critical_budgets: tuple[Annotated[int, Field(ge=1, le=1_000_000_000)], ...] = ()
    """Budgets of critical-path tokens; accuracy is also given within each of them."""
    bootstrap_samples: int = Field(default=2_000, ge=100, le=1_000_000)
    """Number of bootstrap resamples of the problems for each 95% interval."""


class ExportStage(_Stage):
    """A plain Hugging Face directory with tokenizer, protocol description and model card."""

    kind: Literal["export"]
    """Stage that exports a model."""
    checkpoint: StageName
    """Earlier sft or rl stage whose last weights are exported; `start` is the initial model."""
    directory: Path = Path("export")
    """Folder of the export, inside the run directory."""


SupervisedStage = SftStage | RewardModelStage
"""Stages that TRL's trainer runs."""
TrainingStage = SupervisedStage | RlStage
"""Stages that have ranks: all that train."""
StageConfig = Annotated[
    SftStage | LabelStage | RewardModelStage | RlStage | EvalStage | ExportStage,
    Field(discriminator="kind"),
]


def samples(stage: StageConfig) -> bool:
    """Whether a stage needs engines."""
    return isinstance(stage, RlStage | EvalStage) or (
        isinstance(stage, LabelStage) and isinstance(stage.by, SAMPLED)
    )


def threads_of(stage: TrainingStage, *, scratch: bool) -> int | None:
    """CPU threads of each rank of a stage; None: the machine's cores shared by the ranks."""
    return stage.threads or (1 if scratch else None)
