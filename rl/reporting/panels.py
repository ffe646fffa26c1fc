"""The curves of a stage: which metrics stand in one picture, and the same stage of several runs together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rl.drawing.line_chart import Line, Point
from rl.drawing.marks import ROOT_COLOUR
from rl.reporting.contents import RunPart, StagePart, StepMean
from rl.reporting.group_scores import MOST_POINTS

COLOURS = (ROOT_COLOUR, "#A8450A", "#007A5A", "#8A3F77", "#6B6100", "#5B4B9A")
"""Colours of runs, or of the metrics of a single run; each can be told from white."""
DASHES = ("", "5 3", "2 2", "8 3 2 3")
"""Dashes of the metrics of a picture that has several runs."""
MOST_LINES, MOST_OTHERS = 4, 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One picture: its title, what it shows, and the metrics with their labels."""

    title: str
    note: str
    keys: Mapping[str, str]
    unused_is_zero: bool = False
    """Whether a metric that is 0 throughout belongs to a part that the run does not use: it is left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A picture with its curves."""

    title: str
    note: str
    lines: tuple[Line, ...]


REWARD = Panel(
    title="Reward", note="Mean reward with its 95% interval over groups", keys={"reward/mean": "reward"}
)
ACCURACY = Panel(
    title="Accuracy in training", note="Share of right answers with its 95% interval over groups",
    keys={"accuracy": "accuracy"},
)  # fmt: skip
RL_PANELS = (
    Panel(
        title="Validation accuracy", note="Held-out problems, by the published weights",
        keys={"validation/accuracy": "validation"},
    ),
    Panel(
        title="Length of an episode", note="Mean sampled tokens: all, and on the critical path",
        keys={"tokens/total": "total", "tokens/critical": "critical"},
    ),
    Panel(
        title="Entropy", note="Mean entropy of the policy at trained tokens",
        keys={"learner/entropy": "entropy"},
    ),
    Panel(
        title="KL", note="Divergence from the sampling policy, and from the start",
        keys={"learner/policy_kl": "to the sampler", "learner/reference_kl": "to the start"},
        unused_is_zero=True,
    ),
    Panel(
        title="Clipped tokens", note="Share of trained tokens whose ratio was clipped",
        keys={"learner/clipped_share": "clipped"},
    ),
    Panel(
        title="Mismatch of engine and learner", note="Difference of log-probabilities for the same weights",
        keys={"learner/mismatch_mean": "mean", "learner/mismatch_p99": "99th percentile"},
    ),
    Panel(
        title="Staleness", note="Training step minus the weights' version, by token",
        keys={"staleness/mean": "mean", "staleness/max": "max"},
    ),
    Panel(
        title="Activation", note="Share of episodes that fork, and of tokens outside the root thread",
        keys={"share/activation": "episodes that fork", "share/parallel_tokens": "parallel tokens"},
    ),
    Panel(
        title="Threads", note="Threads opened beside the root, and calls active at once",
        keys={"threads/width": "width", "threads/concurrency": "concurrency"},
    ),
    Panel(
        title="Violations and limits", note="Shares of episodes, and of calls that ran into their limit",
        keys={
            "share/violations": "violations", "share/wrong_claims": "wrong answers",
            "share/truncated_calls": "calls cut off",
        },
    ),
    Panel(
        title="Scorer", note="The reward model's mean opinion, and how well it ranks right before wrong",
        keys={"scorer/mean": "opinion", "scorer/auc": "AUC"},
    ),
    Panel(
        title="Implicit reward model", note="Loss before a batch is learned, and order of its pairs",
        keys={"implicit/loss": "loss", "implicit/in_group": "right before wrong in a group"},
    ),
    Panel(title="Gradient norm", note="Before clipping", keys={"learner/gradient_norm": "norm"}),
    Panel(
        title="Time of a step", note="Seconds that the controller waited for each",
        keys={
            "time/rollout_wait_s": "rollouts", "time/learner_s": "learner", "time/publish_s": "weight sync",
            "time/reward_wait_s": "rewards",
        },
        unused_is_zero=True,
    ),
    Panel(title="Throughput", note="Sampled tokens a second", keys={"time/tokens_per_s": "tokens/s"}),
)  # fmt: skip
"""Pictures of an rl stage, behind reward and accuracy. A share that is zero throughout is drawn: that nobody
forks must be seen.
"""


def stage_charts(name: str, runs: Sequence[RunPart]) -> list[Chart]:
    """The pictures of the stages of this name, of all runs that have one."""
    stages = [(index, stage) for index, run in enumerate(runs) for stage in run.stages if stage.name == name]
    several = len(runs) > 1
    labels = [run.label for run in runs]
    if any(stage.kind == "rl" for _, stage in stages):
        charts = [
            _from_groups(REWARD, stages, labels, several, lambda stage: stage.rl.rewards if stage.rl else ()),
            _from_groups(
                ACCURACY, stages, labels, several, lambda stage: stage.rl.accuracy if stage.rl else ()
            ),
            _without_signal(stages, labels, several),
            _scaling(stages, labels, several),
            *(_from_metrics(panel, stages, labels, several) for panel in (_terms(stages), *RL_PANELS)),
        ]
    else:
        charts = [_from_metrics(panel, stages, labels, several) for panel in _others(stages)]
    return [chart for chart in charts if chart.lines]


Stages = Sequence[tuple[int, StagePart]]
"""(index of the run, its stage)."""


def _from_groups(panel: Panel, stages: Stages, labels: Sequence[str], several: bool, means: Any) -> Chart:
    """A chart with intervals; without a ledger, the means of the metrics."""
    lines = []
    for index, stage in stages:
        found: tuple[StepMean, ...] = means(stage)
        if found:
            lines.append(
                Line(
                    label=labels[index] if several else panel.title.lower(),
                    colour=COLOURS[index % len(COLOURS)],
                    points=tuple((mean.step, mean.mean) for mean in found),
                    band=tuple(mean.interval for mean in found),
                )
            )
    if not lines:
        return _from_metrics(panel, stages, labels, several)
    return Chart(title=panel.title, note=panel.note, lines=tuple(lines))


def _without_signal(stages: Stages, labels: Sequence[str], several: bool) -> Chart:
    lines = [
        Line(
            label=labels[index] if several else "without signal",
            colour=COLOURS[index % len(COLOURS)],
            points=thinned(stage.rl.without_signal),
        )
        for index, stage in stages
        if stage.rl is not None and stage.rl.without_signal
    ]
    note = "Share of the trained groups whose rewards are all equal"
    return Chart(title="Groups without signal", note=note, lines=tuple(lines))


def _scaling(stages: Stages, labels: Sequence[str], several: bool) -> Chart:
    """Held-out accuracy with the sigmoid fitted on its first half."""
    lines = []
    for index, stage in stages:
        fit = None if stage.rl is None else stage.rl.scaling
        if fit is None:
            continue
        colour, name = COLOURS[index % len(COLOURS)], f"{labels[index]}: " if several else ""
        measured = tuple(zip(fit.compute, fit.reward, strict=True))
        fitted = tuple((step, fit.curve.at(step)) for step in fit.compute)
        lines.append(Line(label=f"{name}measured", colour=colour, points=measured))
        lines.append(Line(label=f"{name}fitted on the first half", colour=colour, points=fitted, dash="5 3"))
    note = "ScaleRL's sigmoid of validation accuracy over steps, judged on the half it has not seen"
    return Chart(title="Scaling", note=note, lines=tuple(lines))


def _from_metrics(panel: Panel, stages: Stages, labels: Sequence[str], several: bool) -> Chart:
    lines, odd = [], 0
    for run, stage in stages:
        for number, (key, label) in enumerate(panel.keys.items()):
            points, skipped = series(stage.records, key)
            odd += skipped
            unused = panel.unused_is_zero and not any(value for _, value in points)
            if not points or unused:
                continue
            lines.append(
                Line(
                    label=f"{labels[run]}: {label}" if several else label,
                    colour=COLOURS[(run if several else number) % len(COLOURS)],
                    points=thinned(points),
                    dash=DASHES[number % len(DASHES)] if several else "",
                )
            )
    note = panel.note + (f"; {odd} values are not finite and left out" if odd else "")
    return Chart(title=panel.title, note=note, lines=tuple(lines))


def series(records: Sequence[Mapping[str, Any]], key: str) -> tuple[tuple[Point, ...], int]:
    """-> (step, value) of the records that hold a metric, and how many values are not finite."""
    points, odd = [], 0
    for record in records:
        value = record.get(key, record.get("time", {}).get(key))
        if isinstance(value, int | float):
            points.append((float(record["step"]), float(value)))
        elif value is not None:
            odd += 1
    return tuple(points), odd


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> tuple[Point, ...]:
    """At most `most` points, each the mean of as many in a row.

    Example: (0, 1), (1, 3), (2, 5) with `most` 2 give (0.5, 2) and (2, 5).
    """
    size = -(-len(points) // most)
    if size <= 1:
        return tuple(points)
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    return tuple(
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups
    )


_COUNTERS = (
    "reward/mean",
    "reward/ungraded",
    "reward/answers_",
    "reward/golds_",
    "reward/verifier_",
    "reward/failed_",
)


def _terms(stages: Stages) -> Panel:
    """Contributions of the reward terms."""
    keys = dict.fromkeys(
        key
        for _, stage in stages
        for record in stage.records
        for key in record
        if key.startswith("reward/") and not key.startswith(_COUNTERS)
    )
    wanted = list(keys)[:MOST_LINES] if len(keys) > 1 else []  # one term is the reward itself
    shown = {key: key.removeprefix("reward/").replace("_", " ") for key in wanted}
    return Panel(title="Reward by term", note="Mean contribution of each term, as trained", keys=shown)


def _others(stages: Stages) -> list[Panel]:
    """A picture for each metric of a stage of any kind."""
    keys = dict.fromkeys(
        key
        for _, stage in stages
        for record in stage.records
        for key in sorted(record, key=lambda key: ("loss" not in key, key))
        if key not in ("stage", "step", "time")
    )
    return [
        Panel(title=key.replace("_", " ").capitalize(), note=f"Metric {key}", keys={key: key})
        for key in list(keys)[:MOST_OTHERS]
    ]
