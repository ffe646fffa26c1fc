"""Section `algorithm`: advantage, loss, corrections, denominators. A named algorithm is a row of
PRESETS, and a recipe can change each of its parts.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from data.params import Params
from rl.algorithms.advantages.credit import Credit
from rl.algorithms.corrections.levels import Level
from rl.algorithms.losses.aggregation import Aggregation
from rl.config.lora import Lora

EstimatorName = Literal[
    "group_std", "group_mean", "leave_one_out", "batch_std", "group_mean_batch_std", "group_mean_reward_std"
]
Loss = Literal["clip", "sequence_clip", "cispo", "dppo_tv", "likelihood"]
AlgorithmName = Literal[
    "grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "reinforce_pp", "reinforce_pp_baseline", "p_grpo",
    "papo", "gfpo", "scale_rl", "ppo", "prime",
]  # fmt: skip
KlEstimator = Literal["k1", "k2", "k3"]

PRESETS: dict[str, dict[str, Any]] = {
    # DeepSeekMath, arXiv 2402.03300
    "grpo": {},
    # arXiv 2503.20783: no standard deviation, no length in the denominator
    "dr_grpo": {"advantage": "group_mean", "aggregation": "constant"},
    # arXiv 2503.14476; its dynamic sampling is the stage's `drop_zero_variance`, its length penalty the
    # reward `overlong`
    "dapo": {"clip_high": 0.28, "aggregation": "token"},
    # arXiv 2507.18071
    "gspo": {"loss": "sequence_clip", "clip_low": 3e-4, "clip_high": 4e-4},
    # MiniMax-M1, arXiv 2506.13585
    "cispo": {"loss": "cispo", "clip_low": 1.0, "clip_high": 4.0, "aggregation": "token"},
    # arXiv 2402.14740
    "rloo": {"advantage": "leave_one_out"},
    # arXiv 2501.03262
    "reinforce_pp": {"advantage": "batch_std", "aggregation": "token"},
    "reinforce_pp_baseline": {"advantage": "group_mean_batch_std", "aggregation": "token"},
    # ThreadWeaver, arXiv 2512.07843: with a standard deviation the small speed term would weigh as much as
    # correctness wherever all samples are correct
    "p_grpo": {"advantage": "group_mean", "loss": "likelihood", "aggregation": "token"},
    # NPR, arXiv 2512.07461: no ratio, so that no structural token is ever clipped
    "papo": {"advantage": "group_mean_reward_std", "loss": "likelihood", "aggregation": "token"},
    # arXiv 2510.05132: needs a protocol with forking tags, which it trains alone
    "gfpo": {},
    # ScaleRL, arXiv 2510.13786
    "scale_rl": {
        "advantage": "group_mean_batch_std",
        "loss": "cispo",
        "clip_low": 1.0,
        "clip_high": 4.0,
        "aggregation": "prompt",
    },
    # arXiv 1707.06347
    "ppo": {"advantage": "group_mean", "aggregation": "token", "critic": {}},
    # arXiv 2502.01456; its filter of prompts that all samples solve, or none, is `drop_zero_variance`
    "prime": {"advantage": "leave_one_out", "aggregation": "token", "implicit": {}},
}
"""Defaults that each algorithm's name sets; the fields' own defaults fill the rest."""
REWARD_SCALE = ("leave_one_out", "group_mean")
"""Estimators whose advantages are in units of the reward, against the problem's own group."""
TRAIN_FORKING_TAGS = ("gfpo",)
"""Algorithms that need a protocol with forking tags (`ProtocolParams.has_forking_tags`)."""


class TruncateCorrection(Params):
    """Weights by min(rho, cap), rho = proximal / behaviour (truncated importance sampling)."""

    name: Literal["truncate"]
    """Name of the correction."""
    cap: float | None = Field(default=2.0, gt=0, le=1e6)
    """Largest weight; null is no limit: the plain weight of decoupled PPO."""
    level: Level = "token"
    """Level of the ratio rho: a token, a sequence (product), or its geometric mean."""


class MaskCorrection(Params):
    """Leaves out tokens or sequences with rho outside [lower, upper].

    Masked importance sampling is {lower: 0, upper: 3, level: sequence}, IcePop {lower: 0.5, upper: 5},
    geometric rejection {lower: 0.99, upper: 1.01, level: sequence_mean, keep_ratio: false}.
    """

    name: Literal["mask"]
    """Name of the correction."""
    lower: float = Field(default=0.5, ge=0, le=1e6)
    """Smallest rho that is kept."""
    upper: float = Field(default=5.0, gt=0, le=1e6)
    """Largest rho that is kept."""
    level: Level = "token"
    """Level of the ratio rho: a token, a sequence (product), or its geometric mean."""
    keep_ratio: bool = True
    """Weight what is kept by rho instead of 1."""


class OffPolicyMaskCorrection(Params):
    """Leaves out bad sequences that the policy has moved away from (DeepSeek-V3.2, arXiv 2512.02556)."""

    name: Literal["off_policy_mask"]
    """Name of the correction."""
    delta: float = Field(default=0.5, gt=0, le=1e6)
    """Largest mean of log(behaviour / policy) of a sequence with negative advantage."""


Correction = Annotated[
    TruncateCorrection | MaskCorrection | OffPolicyMaskCorrection, Field(discriminator="name")
]


class Critic(Params):
    """PPO's value function: a copy of the policy with a scalar head."""

    learning_rate: float = Field(default=1e-4, gt=0, le=1)
    """Learning rate of the critic's AdamW."""
    warmup_steps: int = Field(default=5, ge=0, le=1_000_000)
    """Steps in which only the critic learns (value pretraining of VAPO, arXiv 2504.05118)."""
    level: Literal["token", "call"] = "token"
    """Where the critic speaks: at every token, or once a call, at its beginning; then all tokens of the call
    get its advantage (ArCHer's utterance level), and each call counts alike in the critic's loss.
    """
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount factor per token, or per call with `level: call`."""
    lam: float = Field(default=1.0, ge=0, le=1)
    """lambda of the policy's advantages: 1 gives reward minus value, 0 the one-step TD error."""
    lam_critic: float = Field(default=1.0, ge=0, le=1)
    """lambda of the critic's targets; VAPO keeps it at 1."""
    value_clip: float | None = Field(default=0.2, gt=0, le=1e6)
    """Largest change of a value from the one used for the advantages; null: no limit."""
    whiten: bool = True
    """Give the batch's advantages mean 0 and standard deviation 1."""


class Implicit(Params):
    """An implicit reward model in the learner (PRIME, arXiv 2502.01456): adapters over the weights that the
    stage begins with, trained at every step to tell right episodes from wrong ones. The log-ratio of both
    models is a reward for every token, and no label of a step is needed.
    """

    beta: float = Field(default=0.05, gt=0, le=1e3)
    """A token's reward is beta times its log-ratio; their sum is the logit of a right outcome."""
    weight: float = Field(default=1.0, gt=0, le=1e6)
    """Weight of the returns of token rewards beside the advantage of the episode's reward."""
    learning_rate: float = Field(default=1e-4, gt=0, le=1)
    """Learning rate of the adapters' AdamW."""
    max_grad_norm: float = Field(default=10.0, gt=0, le=1e12)
    """Largest norm of the adapters' gradients; larger ones are scaled down to it."""
    lora: Lora = Lora()
    """The adapters. Without them the model is the reference, so both need one copy of the frozen weights."""
    whiten: bool = True
    """Give the batch's advantages mean 0 and standard deviation 1."""


class Algorithm(Params):
    """Advantage, loss and corrections of an rl stage. `name` sets the defaults of the other keys."""

    name: AlgorithmName = "grpo"
    """Published algorithm; sets the defaults of the other keys (table in docs/learner.md)."""
    advantage: EstimatorName = "group_std"
    """Baseline and scale of a reward: see rl.algorithms.advantages.estimators."""
    credit: Credit = "broadcast"
    """`broadcast`: all calls of an episode share its advantage. `child`: each child gets its own, by what it
    found; see rl.algorithms.advantages.credit.
    """
    roles: tuple[str, ...] | None = None
    """Only calls of these roles carry loss; null: all that the protocol trains."""
    loss: Loss = "clip"
    """Policy loss: see rl.algorithms.losses."""
    clip_low: float = Field(default=0.2, gt=0, le=1)
    """The probability ratio is clipped below at 1 - clip_low; 1: it is not clipped below."""
    clip_high: float = Field(default=0.2, gt=0, le=1e6)
    """The probability ratio is clipped above at 1 + clip_high."""
    dual_clip: float | None = Field(default=None, gt=1, le=1e6)
    """Bound of the loss of a token with negative advantage, as a multiple of that advantage."""
    tv_delta: float = Field(default=0.2, gt=0, lt=1)
    """Largest change of a token's probability, for loss `dppo_tv`."""
    proximal: Literal["behaviour", "recomputed", "interpolated"] = "behaviour"
    """Denominator of the probability ratio: the policy that sampled, the policy at the start of the step
    (decoupled PPO; one more forward pass), or an interpolation by weight version (A-3PO; no extra pass).
    """
    corrections: tuple[Correction, ...] = ()
    """Importance corrections for the mismatch of proximal and behaviour policy; several are multiplied."""
    aggregation: Aggregation = "sequence"
    """Denominators of the loss: see rl.algorithms.losses.aggregation (`call` is that of APR)."""
    kl_coef: float = Field(default=0.0, ge=0, le=1e6)
    """Weight of KL(policy || reference); above 0, the stage's initial model is kept as the reference."""
    kl_estimator: KlEstimator = "k3"
    """Estimator of the KL divergence: see rl.algorithms.losses.kl."""
    critic: Critic | None = None
    """A value function instead of the group's mean as baseline: advantages by GAE over the episode DAG."""
    implicit: Implicit | None = None
    """An implicit reward model, whose token rewards are added to the advantages."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {**PRESETS.get(str(given.get("name", "grpo")), {}), **_tuples(given)}


def _tuples(given: Any) -> Any:
    """The same with tuples for lists: input of a validator in Python comes from Python, not from JSON, and
    strict validation needs them.
    """
    if isinstance(given, dict):
        return {key: _tuples(value) for key, value in given.items()}
    return tuple(map(_tuples, given)) if isinstance(given, list | tuple) else given
