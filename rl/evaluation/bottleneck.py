"""Bottleneck of an rl stage: measured shares of what the controller waited for, and the key to change.

The controller waits for one thing at a time:
    rollout    the batch is not full and a group is still being sampled
    reward     the batch is not full and all running groups are being scored
    learner    the learner's step
    publish    transfer of weights to the engines, and the canary of the weights before
    validation the end of a validation, before other weights may be published
    other      the rest: checkpoints and the record
"""

from collections.abc import Iterable, Mapping

from rl.config.stages import RlStage

WAITS = {
    "rollout": "time/rollout_wait_s",
    "reward": "time/reward_wait_s",
    "learner": "time/learner_s",
    "publish": "time/publish_s",
    "validation": "time/validation_wait_s",
}
"""Cause of a wait -> the metric that measures it."""


def waiting_shares(rows: Iterable[Mapping[str, float]], seconds: float) -> dict[str, float]:
    """Shares of the `seconds` that the steps with these metrics took; they add up to 1.

    Example: steps that waited 30 s and 10 s for rollouts and learned for 20 s each, in 100 s:
        rollout 0.4, reward 0, learner 0.4, publish 0, validation 0, other 0.2
    """
    totals = dict.fromkeys(WAITS, 0.0)
    for row in rows:
        for name, key in WAITS.items():
            totals[name] += row.get(key, 0.0)
    whole = max(seconds, sum(totals.values()))
    if whole <= 0:
        return dict.fromkeys((*WAITS, "other"), 0.0)
    return {name: total / whole for name, total in totals.items()} | {
        "other": 1.0 - sum(totals.values()) / whole
    }


def advice(shares: Mapping[str, float], stage: RlStage) -> str:
    """One line with the shares, and the key to change for the largest."""
    listed = ", ".join(
        f"{name} {share:.0%}" for name, share in sorted(shares.items(), key=lambda item: -item[1])
    )
    largest = max(WAITS, key=lambda name: shares[name])
    return f"{stage.name} waited for: {listed}. {_remedy(largest, shares, stage)}"


def _remedy(largest: str, shares: Mapping[str, float], stage: RlStage) -> str:
    name = stage.name
    if (
        largest in ("rollout", "learner")
        and not stage.staleness
        and min(shares["rollout"], shares["learner"]) > 0.1
    ):
        return (
            f"Engines and learner take turns: with {name}.staleness: 1 they work at once, unless they share "
            "cores."
        )
    return {
        "rollout": "More engines (engine.num_engines), or more calls at once (engine.max_live_calls, with "
        "engine.kv_cache_gb for them).",
        "reward": f"More reward workers ({name}.reward_workers), if there are cores for them, or a faster "
        f"verifier; {name}.reward_seconds bounds the time of one episode.",
        "learner": f"More ranks ({name}.num_ranks), fewer {name}.minibatches, or larger passes "
        f"({name}.forest_tokens).",
        "validation": f"Fewer validations ({name}.validate_every) or fewer problems in them "
        "(task.validation_problems).",
        "publish": f"Fewer, larger steps ({name}.groups_per_step), or adapters only ({name}.lora).",
    }[largest]
