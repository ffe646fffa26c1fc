"""Names under which a record of metrics.jsonl is sent to trackers: Braid's own, and those of TRL and verl.

An alias is a second name for the same number, so that dashboards made for another trainer show
Braid's runs. Only metrics that mean the same have one. `braid track --aliases trl verl` and
`tracking.aliases` ask for them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rl.config.tracking import Vocabulary

VALIDATION_STEP = "validation/step"
"""The step of a record's validation metrics, as an axis of their own: few steps have any."""
ALIASES: Mapping[str, Mapping[Vocabulary, str]] = {
    # Braid: TRL (GRPOTrainer), verl
    "reward/mean": {"trl": "reward", "verl": "critic/score/mean"},
    "loss": {"trl": "loss", "verl": "train/loss"},
    "gradient_norm": {"trl": "grad_norm", "verl": "train/grad_norm"},
    "learning_rate": {"trl": "learning_rate"},
    "learner/loss": {"trl": "loss", "verl": "actor/pg_loss"},
    "learner/entropy": {"trl": "entropy", "verl": "actor/entropy"},
    "learner/gradient_norm": {"trl": "grad_norm", "verl": "actor/grad_norm"},
    "learner/learning_rate": {"trl": "learning_rate", "verl": "actor/lr"},
    "learner/reference_kl": {"trl": "kl", "verl": "actor/kl_loss"},
    "learner/policy_kl": {"verl": "actor/ppo_kl"},
    "learner/clipped_share": {"trl": "clip_ratio/region_mean", "verl": "actor/pg_clipfrac"},
    "learner/value_loss": {"verl": "critic/vf_loss"},
    "learner/correction": {"trl": "sampling/importance_sampling_ratio/mean"},
    "learner/mismatch_mean": {"trl": "sampling/sampling_logp_difference/mean"},
    "tokens/total": {"trl": "completions/mean_length", "verl": "response_length/mean"},
    "tokens/sampled": {"verl": "perf/total_num_tokens"},
    "share/truncated_calls": {"trl": "completions/clipped_ratio", "verl": "response_length/clip_ratio"},
    "staleness/mean": {"verl": "training/off_policy/trajectory_staleness/mean"},
    "staleness/max": {"verl": "training/off_policy/trajectory_staleness/max"},
    "time/rollout_wait_s": {"verl": "timing_s/gen"},
    "time/reward_wait_s": {"verl": "timing_s/reward"},
    "time/learner_s": {"verl": "timing_s/update_actor"},
    "time/validation_s": {"verl": "timing_s/testing"},
    "time/checkpoint_s": {"verl": "timing_s/save_checkpoint"},
    "time/tokens_per_s": {"verl": "perf/throughput"},
    "validation/accuracy": {"trl": "eval_accuracy", "verl": "val-core/all/acc/mean@1"},
    "validation/total_tokens": {"trl": "eval_completions/mean_length"},
}
"""Braid's name -> the same metric's name elsewhere. docs/tracking.md has the table."""
_OWN = ("stage", "step", "time")


def named(record: Mapping[str, Any], aliases: Sequence[Vocabulary] = ()) -> dict[str, float]:
    """The metrics of a record under the names they are sent by, times included.

    Example, with "trl": {"stage": "rl", "step": 3, "reward/mean": 0.5, "learner/loss": "nan"} gives
    {"reward/mean": 0.5, "learner/loss": nan, "reward": 0.5, "loss": nan}.
    """
    flat = {**record, **record.get("time", {})}
    found = {key: float(value) for key, value in flat.items() if key not in _OWN}
    renamed = {
        name: found[key]
        for key, names in ALIASES.items()
        if key in found
        for vocabulary, name in names.items()
        if vocabulary in aliases and name not in found
    }
    axis = {VALIDATION_STEP: float(record["step"])} if any(map(is_validation, found)) else {}
    return {**found, **renamed, **axis}


def is_validation(name: str) -> bool:
    """Whether a metric, under any of its names, is of a validation."""
    return name.startswith(("validation/", "eval_", "val-core/"))
