"""What only stages of reinforcement learning have: rewards with intervals, staleness, time split, cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from data.ledger.queries import longest_episodes, staleness_histogram
from rl.config.stages import RlStage
from rl.evaluation.bottleneck import advice, waiting_shares
from rl.evaluation.scaling_fit import scaling_of
from rl.reporting.contents import Fact, GroupScores, RlPart
from rl.reporting.gaps import Gaps
from rl.reporting.group_scores import read_groups, step_means, without_signal
from rl.reporting.telling import Teller
from rl.tracking.terminal import clock

VALIDATION = "validation/accuracy"
_NONE: tuple[list[GroupScores], dict[str, int]] = ([], {})


def gather_rl(
    teller: Teller,
    stage: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    done: Mapping[str, Any] | None,
    gaps: Gaps,
) -> RlPart:
    """The part of one stage, whose records of `metrics.jsonl` these are; `done`: content of its done.json."""
    name, ledger = str(stage["name"]), teller.directory.ledger
    groups, states = gaps.attempt(lambda: read_groups(ledger, name), _NONE)
    waits = _waits(records, done)
    return RlPart(
        rewards=step_means(groups, lambda group: group.reward),
        accuracy=step_means(groups, lambda group: group.correct),
        without_signal=without_signal(groups),
        groups=states,
        staleness=gaps.attempt(lambda: staleness_histogram(ledger, name), {}),
        waits=waits,
        advice=_advice(teller, name, waits),
        scaling=scaling_of(record for record in records if is_finite(record.get(VALIDATION, 0.0))),
        longest=tuple(gaps.attempt(lambda: longest_episodes(ledger, name, most=5), [])),
        costs=stage_costs(records),
    )


def _waits(records: Sequence[Mapping[str, Any]], done: Mapping[str, Any] | None) -> dict[str, float]:
    """Shares by what was waited for; while the stage runs, of the time that its steps waited in all."""
    known = done.get("waited_for") if done is not None else None
    if isinstance(known, dict) and known:
        return {str(key): float(value) for key, value in known.items()}
    return waiting_shares([record.get("time", {}) for record in records], 0.0) if records else {}


def _advice(teller: Teller, name: str, waits: Mapping[str, float]) -> str:
    stage = None if teller.recipe is None else teller.recipe.stage(name)
    return advice(waits, stage) if waits and isinstance(stage, RlStage) else ""


def stage_costs(records: Sequence[Mapping[str, Any]]) -> tuple[Fact, ...]:
    """Sums over the steps of a stage: tokens sampled and trained, seconds."""
    sampled, trained = _sum(records, "tokens/sampled"), _sum(records, "learner/trained_tokens")
    cancelled = sum(
        _number(record, "share/cancelled_tokens")
        * (_number(record, "tokens/sampled") - _number(record, "tokens/probes"))
        for record in records
    )
    probes = _sum(records, "tokens/probes")
    times = [record.get("time", {}) for record in records]
    learner, publish = _sum(times, "time/learner_s"), _sum(times, "time/publish_s")
    facts = [
        ("tokens sampled", f"{sampled:,.0f}", sampled),
        ("of these cancelled", f"{cancelled:,.0f}", cancelled),
        ("of these in forced answers", f"{probes:,.0f}", probes),
        ("tokens trained", f"{trained:,.0f}", trained),
        ("learner's time", clock(learner), learner),
        ("weight syncs", clock(publish), publish),
    ]
    return tuple(Fact(name=name, value=text) for name, text, value in facts if value)


def _sum(records: Sequence[Mapping[str, Any]], key: str) -> float:
    return sum(_number(record, key) for record in records)


def _number(record: Mapping[str, Any], key: str) -> float:
    """A metric's value; 0 where a record lacks it, or holds "nan"."""
    value = record.get(key, 0.0)
    return float(value) if is_finite(value) else 0.0


def is_finite(value: Any) -> bool:
    """Whether a metric has a number: what JSON has none for stands there as text."""
    return isinstance(value, int | float)
