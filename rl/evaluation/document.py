"""`summary.json`: the measured figures of a run, in the form every report reads.

    {"arms": {"spawn_join": {"sft": M, "rl": M}, ...}, "gain": {"from", "to", "points", "interval"},
     "seconds", "peak_memory_gb", ...}

M is `ArmMeasures`, averaged over training seeds; `gain` is the change of accuracy of the subject arm from the
first to the last of its evaluated stages, in the order of training (where the initial model was evaluated, it
is the first). Further keys:
    subject     the arm that `gain` is about
    seeds       {arm: {seed: {"sft": M, "rl": M, "gain": G}}}: what the averages hide
    contrasts   {other arm: {"stage", "points", "interval", "critical_ratio", "critical_ratio_interval"}}:
                the subject minus (over) the other arm, at the last stage both have
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import ConfigError
from data.whole_file import write_json
from rl.evaluation.outcomes import Evaluation, Outcome
from rl.evaluation.summary import ArmMeasures, critical_ratio, gain, merge_seeds, summarise

Arms = Mapping[str, Mapping[str, Mapping[int, Evaluation]]]
"""Arm ("spawn_join") -> stage name (in the order of training) -> training seed -> its evaluation."""
DECIMALS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How figures are computed, the same way for every arm."""

    critical_budgets: tuple[int, ...]
    bootstrap_samples: int = 10_000
    seed: int = 0
    """Seed of the bootstrap, not of training."""

    def measures(self, evaluation: Evaluation) -> ArmMeasures:
        """The figures of one checkpoint's evaluation."""
        return summarise(
            evaluation.sampled,
            greedy=evaluation.greedy,
            critical_budgets=self.critical_budgets,
            bootstrap_samples=self.bootstrap_samples,
            seed=self.seed,
        )

    def gain(self, before: Sequence[Outcome], after: Sequence[Outcome]) -> dict[str, Any]:
        """Paired difference of accuracy, in percentage points."""
        return gain(before, after, bootstrap_samples=self.bootstrap_samples, seed=self.seed).as_dict()


def merged(seeds: Mapping[int, Evaluation]) -> Evaluation:
    """One evaluation of all training seeds of a stage, as samples of the same problems."""
    greedy = {seed: evaluation.greedy for seed, evaluation in seeds.items() if evaluation.greedy}
    return Evaluation(
        sampled=tuple(merge_seeds({seed: evaluation.sampled for seed, evaluation in seeds.items()})),
        greedy=tuple(merge_seeds(greedy)) if len(greedy) == len(seeds) else (),
    )


def build_summary(
    arms: Arms, *, subject: str, settings: Settings, seconds: float, peak_memory_gb: float
) -> dict[str, Any]:
    """The summary of a run. Raises ConfigError if the subject is missing or arms have different problems."""
    if subject not in arms:
        raise ConfigError(f"summary: no arm named {subject!r}; there are {', '.join(arms) or 'none'}")
    whole = {arm: {stage: merged(seeds) for stage, seeds in stages.items()} for arm, stages in arms.items()}
    return {
        "arms": {
            arm: {stage: settings.measures(evaluation).as_dict() for stage, evaluation in stages.items()}
            for arm, stages in whole.items()
        },
        "subject": subject,
        "gain": _gain(whole[subject], settings),
        "seconds": seconds,
        "peak_memory_gb": peak_memory_gb,
        "seeds": {arm: _seed_figures(stages, settings) for arm, stages in arms.items()},
        "contrasts": {
            arm: _contrast(whole[subject], stages, settings)
            for arm, stages in whole.items()
            if arm != subject
        },
    }


def _gain(stages: Mapping[str, Evaluation], settings: Settings) -> dict[str, Any] | None:
    """From the first to the last stage; None when fewer than two were evaluated."""
    if len(stages) < 2:
        return None
    first, *_, last = stages
    change = settings.gain(stages[first].sampled, stages[last].sampled)
    return {"from": first, "to": last, **change}


def _seed_figures(stages: Mapping[str, Mapping[int, Evaluation]], settings: Settings) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for seed in sorted({seed for seeds in stages.values() for seed in seeds}):
        own = {stage: seeds[seed] for stage, seeds in stages.items() if seed in seeds}
        measures = {stage: settings.measures(evaluation).as_dict() for stage, evaluation in own.items()}
        figures[str(seed)] = measures | {"gain": _gain(own, settings)}
    return figures


def _contrast(
    subject: Mapping[str, Evaluation], other: Mapping[str, Evaluation], settings: Settings
) -> dict[str, Any] | None:
    shared = [stage for stage in subject if stage in other]
    if not shared:
        return None
    stage = shared[-1]
    own, reference = subject[stage].sampled, other[stage].sampled
    samples, seed = settings.bootstrap_samples, settings.seed
    found = critical_ratio(own, reference, bootstrap_samples=samples, seed=seed)
    ratio, interval = found if found is not None else (None, None)
    difference = settings.gain(reference, own)
    return {
        "stage": stage,
        **difference,
        "critical_ratio": ratio,
        "critical_ratio_interval": interval,
    }


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Written whole or not at all; floats to six decimals. ValueError for a figure that is not finite."""
    write_json(path, _rounded(dict(summary)), sort_keys=False)


def read_summary(path: Path) -> dict[str, Any]:
    """Raises ConfigError when the file is missing or not a summary."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; it is written when the run's evaluation has finished")
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}){_AGAIN}") from error
    if (where := _misshapen(document)) is not None:
        raise ConfigError(f"{path}: {where} is missing or of the wrong type: not a run's summary{_AGAIN}")
    summary: dict[str, Any] = document
    return summary


_AGAIN = "\n  fix: evaluate the run again, or remove the file"
_FIGURES = {
    "accuracy": float,
    "total_tokens": float,
    "critical_tokens": float,
    "critical_p90": float,
    "threads": float,
    "problems": int,
    "interval": list,
    "accuracy_at_critical_budget": dict,
}
"""Figures of each stage that tables and cards read, with their types."""


def _misshapen(document: Any) -> str | None:
    """The first key, as a path, that a table or card needs and does not find; None for a summary."""
    if not isinstance(document, dict) or not isinstance(document.get("arms"), dict):
        return "key 'arms'"
    for key in ("seconds", "peak_memory_gb"):
        if not isinstance(document.get(key), int | float):
            return f"key {key!r}"
    for arm, stages in document["arms"].items():
        if not isinstance(stages, dict) or not stages:
            return f"key 'arms.{arm}'"
        for stage_name, figures in stages.items():
            for key, kind in _FIGURES.items():
                value = figures.get(key) if isinstance(figures, dict) else None
                if not isinstance(value, int | float if kind is float else kind):
                    return f"key 'arms.{arm}.{stage_name}.{key}'"
    return None


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
