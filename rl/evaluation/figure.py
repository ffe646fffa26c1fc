"""The picture of a run: accuracy against critical-path budget (left), validation over RL steps (right)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data.whole_file import whole_file
from rl.drawing.marks import COLOURS
from rl.evaluation.document import Arms
from rl.evaluation.outcomes import Outcome
from rl.evaluation.summary import graded

EARLIER_STYLES = ("--", ":", "-.")
"""Line styles of an arm's stages before its last, in their order; the last one is solid."""
GREY = "#555555"


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Accuracy against critical-path budget, for one arm and stage."""

    arm: str
    stage_name: str
    budgets: tuple[int, ...]
    """[N] budgets in tokens, ascending."""
    seeds: tuple[tuple[float, ...], ...]
    """[seeds, N] share solved within each budget."""
    critical_mean: float
    """Mean critical tokens of an episode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Validation over the steps of one rl stage, for one arm and training seed."""

    arm: str
    seed: int
    steps: tuple[int, ...]
    """Training steps with a validation, ascending."""
    accuracy: tuple[float, ...]
    """Validation accuracy at these steps."""
    critical: tuple[float, ...]
    """Mean critical tokens at the same steps."""


def budget_curve(outcomes: Sequence[Outcome], budgets: Sequence[int]) -> tuple[float, ...]:
    """[N] share of problems solved within each budget; the same mean as `accuracy_within`."""
    scored = graded(outcomes)
    samples: dict[str, int] = {}
    for outcome in scored:
        samples[outcome.problem_id] = samples.get(outcome.problem_id, 0) + 1
    solved = [outcome for outcome in scored if outcome.correct]
    order = sorted(range(len(solved)), key=lambda index: solved[index].critical_tokens)
    costs = [solved[index].critical_tokens for index in order]
    gained = np.cumsum([0.0, *(1 / samples[solved[index].problem_id] for index in order)]) / len(samples)
    return tuple(float(value) for value in gained[np.searchsorted(costs, budgets, side="right")])


def curves(arms: Arms) -> list[Curve]:
    """Exact curves of every arm and stage on one grid, up to the longest episode."""
    runs = [run.sampled for stages in arms.values() for seeds in stages.values() for run in seeds.values()]
    longest = max(outcome.critical_tokens for run in runs for outcome in run)
    budgets = tuple(range(0, longest + 2))
    drawn = []
    for arm, stages in arms.items():
        for stage, seeds in stages.items():
            mean = np.mean(
                [np.mean([item.critical_tokens for item in run.sampled]) for run in seeds.values()]
            )
            lines = tuple(budget_curve(run.sampled, budgets) for run in seeds.values())
            drawn.append(
                Curve(arm=arm, stage_name=stage, budgets=budgets, seeds=lines, critical_mean=float(mean))
            )
    return drawn


def progress_of(
    records: Iterable[Mapping[str, Any]],
    *,
    arm: str,
    seed: int,
    accuracy: str = "validation/accuracy",
    critical: str = "validation/critical_tokens",
) -> Progress:
    """The curve of one rl stage, from the records of `metrics.jsonl` that hold both keys."""
    kept = [record for record in records if accuracy in record and critical in record]
    return Progress(
        arm=arm,
        seed=seed,
        steps=tuple(int(record["step"]) for record in kept),
        accuracy=tuple(float(record[accuracy]) for record in kept),
        critical=tuple(float(record[critical]) for record in kept),
    )


def colour_of(arm: str, arms: Sequence[str]) -> str:
    """Colour of an arm, by its position among all arms."""
    return COLOURS[arms.index(arm) % len(COLOURS)]


def style_of(curve: Curve, curves: Sequence[Curve]) -> str:
    """Line style of a curve: solid for the last stage of its arm, by position for earlier ones."""
    stages = [other.stage_name for other in curves if other.arm == curve.arm]
    index = stages.index(curve.stage_name)
    return "-" if index == len(stages) - 1 else EARLIER_STYLES[index % len(EARLIER_STYLES)]


def draw_figure(path: Path, *, curves: Sequence[Curve], progress: Sequence[Progress], problems: int) -> None:
    """Writes a PNG of 2,000 x 800 pixels. Without validations the right panel holds a note."""
    figure = Figure(figsize=(10, 4), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    arms = list(dict.fromkeys([*(curve.arm for curve in curves), *(line.arm for line in progress)]))
    _draw_budgets(left, curves, arms, problems)
    _draw_progress(right, progress, arms)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.tick_params(labelsize=9)
        axes.set_ylim(bottom=0)
    with whole_file(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


ROW_HEIGHT = 0.065
"""Height of a line of the legend, as a share of the picture's height."""


def _label(arm: str) -> str:
    return arm.replace("_", " ")


def _draw_budgets(axes: Axes, curves: Sequence[Curve], arms: Sequence[str], problems: int) -> None:
    for curve in curves:
        colour, values = colour_of(curve.arm, arms), np.array(curve.seeds)
        mean = values.mean(axis=0)
        style = style_of(curve, curves)
        label = f"{_label(curve.arm)}, {curve.stage_name}: {mean[-1]:.2f}, {curve.critical_mean:.0f} tokens"
        width = 2.2 if style == "-" else 1.4
        axes.plot(curve.budgets, mean, style, color=colour, linewidth=width, label=label)
        if len(values) > 1:
            axes.fill_between(
                curve.budgets, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0
            )
        height = float(np.interp(curve.critical_mean, curve.budgets, mean))
        face = colour if style == "-" else "white"
        axes.plot(
            curve.critical_mean, height, "o", color=colour, markerfacecolor=face, markersize=6, zorder=5
        )
    axes.set_xlim(0, max(curve.budgets[-1] for curve in curves) if curves else 1)
    axes.set_xlabel("critical-path budget (sampled tokens)", fontsize=10)
    axes.set_ylabel("share solved within the budget", fontsize=10)
    axes.set_title(f"Accuracy by critical-path budget ({problems:,} test problems)", fontsize=11, loc="left")
    if curves:
        band = "\nmean and range over seeds" if any(len(curve.seeds) > 1 for curve in curves) else ""
        # Accuracy rises to the right: with room above the curves the upper left is free.
        rows = len(curves) + 1 + band.count("\n")
        top = max(max(map(max, curve.seeds)) for curve in curves)
        axes.set_ylim(0, top / max(0.4, 1 - ROW_HEIGHT * rows) or 1.0)
        legend = axes.legend(
            loc="upper left", fontsize=8.5, framealpha=0.9, edgecolor="none", alignment="left",
            title=f"accuracy without a budget, mean critical path (dot){band}", title_fontsize=8,
        )  # fmt: skip
        legend.get_title().set_color(GREY)


def _draw_progress(axes: Axes, progress: Sequence[Progress], arms: Sequence[str]) -> None:
    axes.set_title("Validation during RL", fontsize=11, loc="left")
    axes.set_xlabel("RL step", fontsize=10)
    axes.set_ylabel("accuracy", fontsize=10)
    drawn = [line for line in progress if line.steps]
    if not drawn:
        axes.text(0.5, 0.5, "no validation was recorded", transform=axes.transAxes, ha="center", color=GREY)
        return
    final = {
        arm: np.mean([line.accuracy[-1] for line in drawn if line.arm == arm])
        for arm in arms
        if any(line.arm == arm for line in drawn)
    }
    lowest = min(final, key=lambda arm: float(final[arm])) if len(final) > 1 else None
    for arm in arms:
        lines = [line for line in drawn if line.arm == arm]
        if lines:
            _draw_arm_progress(axes, lines, colour=colour_of(arm, arms), label_below=arm == lowest)
    # matplotlib warns of an axis from 0 to 0 and picks another.
    axes.set_ylim(0, 1.2 * max(max(line.accuracy) for line in drawn) or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    low, high = min(line.steps[0] for line in drawn), max(line.steps[-1] for line in drawn)
    axes.set_xlim(low - 0.02 * (high - low + 1), high + 0.04 * (high - low + 1))


def _draw_arm_progress(axes: Axes, lines: Sequence[Progress], *, colour: str, label_below: bool) -> None:
    several = len(lines) > 1
    for line in lines if several else ():
        axes.plot(line.steps, line.accuracy, color=colour, linewidth=0.8, alpha=0.4)
    steps = sorted(set.intersection(*(set(line.steps) for line in lines)))
    if not steps:
        return
    shared = [(line, [line.steps.index(step) for step in steps]) for line in lines]
    accuracy = np.mean([[line.accuracy[i] for i in chosen] for line, chosen in shared], axis=0)
    critical = np.mean([[line.critical[i] for i in chosen] for line, chosen in shared], axis=0)
    axes.plot(steps, accuracy, "o-", color=colour, linewidth=2.2, markersize=4)
    name = _label(lines[0].arm) + (f" (mean of {len(lines)} seeds)" if several else "")
    axes.annotate(
        f"{name}\ncritical path {critical[0]:.0f} → {critical[-1]:.0f} tokens",
        # Beyond the last points of the curve, so that the text does not cross it.
        (steps[-1], float(accuracy[-3:].min() if label_below else accuracy[-3:].max())),
        xytext=(0, -12 if label_below else 10), textcoords="offset points",
        ha="right", va="top" if label_below else "bottom", fontsize=8.5, color=colour,
    )  # fmt: skip
