"""Detection of a run that cannot learn: the reason, with counts and recipe keys, and when to end it. No I/O.

    condition    fed by    true when
    no_signal    groups    no trained token of the group can have an advantage (all wrong, all right, tied)
    ungraded     groups    the same, and no episode of any of these groups has a reward
    cut_off      steps     more than health.cut_off_share of the calls ended at their length limit
    no_update    steps     the learner applied no update
    no_forks     steps     fewer than health.fork_share of the episodes forked, in a protocol that forks
    hacked       steps     the scorer's opinion has risen and the verified accuracy has not followed
                           (rl.controller.hacking)
    mismatch     steps     engine and learner disagree: learner/mismatch_kl is above MISMATCH_KL; never fatal

Each condition has a streak: groups (in the order of their indices) or steps in a row for which it is true.
A streak is reported when it begins and at each doubling: at 1, 2, 4, ... steps, or at B, 2B, 4B, ... groups
(B groups to a step). It is fatal when it reaches health.patience_steps or health.patience_groups.

Example: B = 4 and patience_groups = 20. Twenty unsolved groups in a row give reports at 4, 8 and
16 groups and end the run at 20.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from data.episodes.trajectory import StopReason
from rl.config.stages import RlStage
from rl.controller.hacking import find_hacking
from rl.scored_group import ScoredGroup
from rollout.protocols import AnyParams
from rollout.protocols.shared.params import ForkingParams

MISMATCH_KL = 0.01
"""Largest KL(engine || learner) per token without a warning (nats); bfloat16 gives about 0.001."""


class Condition(StrEnum):
    """Why a run cannot learn."""

    NO_SIGNAL = "no_signal"
    UNGRADED = "ungraded"
    CUT_OFF = "cut_off"
    NO_UPDATE = "no_update"
    NO_FORKS = "no_forks"
    HACKED = "hacked"
    MISMATCH = "mismatch"


class Tie(StrEnum):
    """Why a group has no signal."""

    WRONG = "all wrong"
    RIGHT = "all right"
    UNGRADED = "all ungraded"
    EQUAL = "otherwise tied"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One report on a condition that holds."""

    condition: Condition
    streak: int
    """Groups or steps in a row."""
    fatal: bool
    """Whether the streak has reached the patience of the recipe."""
    text: str
    """Description of the condition, with counts."""
    remedy: str
    """Recipe keys to change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtocolLimits:
    """Properties of a stage's protocol that the detectors use."""

    forks: bool
    """Whether its episodes are meant to fork."""
    length_keys: tuple[str, ...] = ()
    """Recipe keys that limit the length of a call."""


def protocol_limits(params: AnyParams) -> ProtocolLimits:
    """Whether the protocol forks with these parameters, and its keys for the length of a call."""
    budgets = params.budgets
    return ProtocolLimits(
        forks=isinstance(params, ForkingParams) and budgets.depth > 0,
        length_keys=tuple(
            f"protocol.{name}" for name in type(params).model_fields if name.endswith("_tokens")
        ),
    )


@dataclass(kw_only=True, slots=True)
class _Silence:
    """Groups without signal since the last group with signal."""

    groups: int = 0
    ties: Counter[Tie] = field(default_factory=Counter)
    calls: int = 0
    cut_off: int = 0
    reason: str = ""
    """Why the last ungraded episode could not be graded."""


def tie_of(group: ScoredGroup) -> Tie:
    """Why a group without signal has none, by the verdicts on its graded episodes."""
    graded = [score for score in group.scores if score.value is not None]
    verdicts = {score.correct for score in graded}
    if not graded:
        return Tie.UNGRADED
    if verdicts == {False}:
        return Tie.WRONG
    return Tie.RIGHT if verdicts == {True} else Tie.EQUAL


class Health:
    """The streaks of one stage."""

    def __init__(self, stage: RlStage, limits: ProtocolLimits) -> None:
        """Feed it every group and every step of the stage, in order."""
        self._stage, self._limits = stage, limits
        batch = stage.groups_per_step
        self._patience_groups = stage.health.patience_groups or max(256, stage.health.patience_steps * batch)
        self._silence = _Silence()
        self._streaks: Counter[Condition] = Counter()
        self._opinions: list[float] = []
        self._accuracies: list[float] = []
        """[steps] of the episodes that the scorer judged."""

    def on_group(self, group: ScoredGroup, *, signal: bool) -> Finding | None:
        """The next decided group, with the rewards that it would be trained with."""
        if signal:
            self._silence = _Silence()
            return None
        silence = self._silence
        silence.groups += 1
        silence.ties[tie_of(group)] += 1
        calls = [call for episode in group.episodes for call in episode.calls]
        silence.calls += len(calls)
        silence.cut_off += sum(call.stop is StopReason.LENGTH for call in calls)
        silence.reason = next((s.reason for s in group.scores if s.value is None), silence.reason)
        if not _is_due(silence.groups, self._stage.groups_per_step, self._patience_groups):
            return None
        return self._no_signal()

    def on_step(self, step: int, metrics: Mapping[str, float]) -> list[Finding]:
        """The metrics of a finished step (0-based), as `metrics.jsonl` has them."""
        stage, found = self._stage, []
        for condition, holds, text, remedy in (
            (Condition.CUT_OFF, *self._cut_off(metrics)),
            (Condition.NO_UPDATE, *self._no_update(step, metrics)),
            (Condition.NO_FORKS, *self._no_forks(metrics)),
            (Condition.HACKED, *self._hacked(metrics)),
            (Condition.MISMATCH, *self._mismatch(metrics)),
        ):
            self._streaks[condition] = streak = self._streaks[condition] + 1 if holds else 0
            patience = stage.health.patience_steps
            if holds and _is_due(streak, 1, patience):
                times = "in the last step" if streak == 1 else f"in each of the last {streak} steps"
                found.append(
                    Finding(
                        condition=condition,
                        streak=streak,
                        fatal=streak >= patience and condition is not Condition.MISMATCH,
                        text=f"{times} {text}",
                        remedy=remedy,
                    )
                )
        return found

    def _no_signal(self) -> Finding:
        silence, name = self._silence, self._stage.name
        ties = silence.ties
        ungraded = ties[Tie.UNGRADED] == silence.groups
        counts = ", ".join(f"{ties[tie]} {tie}" for tie in Tie)
        text = f"none of the last {silence.groups} groups has a learning signal ({counts})"
        if silence.cut_off > self._stage.health.cut_off_share * silence.calls:
            text += f"; {silence.cut_off} of {silence.calls} calls ended at their length limit"
            remedy = self._length_remedy()
        else:
            remedy = {
                Tie.WRONG: f"make the start easier: a longer sft stage before {name}, easier problems "
                f"(task), more {name}.samples_per_group, or a reward for partial success (rewards)",
                Tie.RIGHT: f"use harder problems (task), or end the stage earlier ({name}.steps)",
                Tie.UNGRADED: "make the rewards gradable (rewards): see the ledger for each episode's reason",
                Tie.EQUAL: "add a reward that tells these episodes apart (rewards), or raise "
                f"{name}.samples_per_group or {name}.temperature",
            }[ties.most_common(1)[0][0]]
        if silence.reason:
            text += f"; last reason for an ungraded episode: {silence.reason}"
        return Finding(
            condition=Condition.UNGRADED if ungraded else Condition.NO_SIGNAL,
            streak=silence.groups,
            fatal=silence.groups >= self._patience_groups,
            text=text,
            remedy=remedy,
        )

    def _cut_off(self, metrics: Mapping[str, float]) -> tuple[bool, str, str]:
        share, bound = metrics.get("share/truncated_calls", 0.0), self._stage.health.cut_off_share
        text = f"more than {bound:.0%} of the calls ended at their length limit ({share:.0%} in the last)"
        return share > bound, text, self._length_remedy()

    def _no_update(self, step: int, metrics: Mapping[str, float]) -> tuple[bool, str, str]:
        stage = self._stage
        critic = stage.algorithm.critic
        made = metrics.get("learner/updates", 1.0)
        if metrics.get("learner/skipped_updates", 0.0) > 0:
            text = "the learner skipped every update, since loss or gradient was not finite"
            remedy = f"lower {stage.name}.learning_rate, or set {stage.name}.precision: float32"
        else:
            text = "the learner made no update, since no trained token had an advantage"
            remedy = f"rewards that differ within a group (rewards), or more {stage.name}.samples_per_group"
        warming_up = critic is not None and step < critic.warmup_steps
        return made == 0.0 and not warming_up, text, remedy

    def _no_forks(self, metrics: Mapping[str, float]) -> tuple[bool, str, str]:
        share, bound = metrics.get("share/activation", 1.0), self._stage.health.fork_share
        text = f"fewer than {bound:.1%} of the episodes forked ({share:.1%} in the last)"
        name = self._stage.name
        remedy = (
            f"teach forking again (an sft stage before {name}), or reward it (rewards: parallelism, "
            f"spawn_count); {name}.health.fork_share: 0 allows a model that does not fork"
        )
        return self._limits.forks and share < bound, text, remedy

    def _hacked(self, metrics: Mapping[str, float]) -> tuple[bool, str, str]:
        name, health = self._stage.name, self._stage.health
        if "scorer/accuracy" not in metrics or health.scorer_steps is None:
            return False, "", ""
        self._opinions.append(metrics["scorer/mean"])
        self._accuracies.append(metrics["scorer/accuracy"])
        found = find_hacking(self._opinions, self._accuracies, health.scorer_steps, health.scorer_follow)
        if found is None:
            return False, "", ""
        newest = self._opinions[-health.scorer_steps :], self._accuracies[-health.scorer_steps :]
        said, right = (sum(values) / len(values) for values in newest)
        text = (
            f"the scorer's opinion had risen without the verified accuracy (within {found.steps} steps from "
            f"{said - found.opinion.gain:.2f} to {said:.2f}; accuracy from {right - found.accuracy.gain:.2f} "
            f"to {right:.2f}): the policy has learned to please its scorer"
        )
        remedy = (
            "a lower weight, gate: correct or aggregate: pure for the terms that take its opinion "
            "(rewards: process), a scorer trained on what the policy writes now (reward_model stage), or the "
            f"checkpoint before; {name}.health.scorer_follow lets accuracy follow less, {name}.health."
            "scorer_steps: null never looks"
        )
        return True, text, remedy

    def _mismatch(self, metrics: Mapping[str, float]) -> tuple[bool, str, str]:
        kl = metrics.get("learner/mismatch_kl", 0.0)
        text = (
            "engine and learner disagreed on tokens of the same weights by more than "
            f"{MISMATCH_KL} nats (KL; {kl:.2g} in the last), so the updates are biased"
        )
        remedy = (
            f"correct for it ({self._stage.name}.algorithm.corrections: [{{name: truncate}}] or "
            "[{name: mask}]), or sample in float32 (engine.dtype)"
        )
        return kl > MISMATCH_KL, text, remedy

    def _length_remedy(self) -> str:
        keys = " or ".join((*self._limits.length_keys, "model.max_length"))
        return f"longer calls ({keys}), or an sft stage whose demonstrations end earlier"


def _is_due(streak: int, first: int, patience: int) -> bool:
    """Whether a streak is reported: at `first` times 1, 2, 4, ... and at `patience`.

    Example: first 4, patience 20: 4, 8, 16, 20, 32, ...
    """
    times, rest = divmod(streak, first)
    return streak == patience or (not rest and times & (times - 1) == 0)


def no_update_advice(stage_name: str, rows: Sequence[Mapping[str, float]]) -> str | None:
    """The last line of a stage whose learner made no update in any step; None when it made one, or when the
    rows do not say.
    """
    made = [row["learner/updates"] for row in rows if "learner/updates" in row]
    if not made or any(made):
        return None
    return (
        f"{stage_name} made no update in {len(made)} steps: the weights are those it began with. The reason "
        "is in the warnings above, and in metrics.jsonl and the ledger."
    )
