"""The picture of a comparison: accuracy over each cost, one line for each strategy."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from data.whole_file import whole_file
from rl.drawing.marks import COLOURS
from rl.evaluation.strategies.points import Point

TITLES = {
    "total_tokens": "total tokens",
    "critical_tokens": "critical tokens",
    "critical_seconds": "critical seconds",
    "eflops": "eFLOPs",
}
"""Cost -> title of its panel."""
WIDE = 6.0
"""Largest cost over the smallest from which on the axis is logarithmic."""
MARKERS = "oDs^vPX*"
"""Markers of the strategies, so that lines which lie on each other can be told apart."""
STYLES = ("-", "--", ":")
"""Line styles, after all colours have been used once."""


def draw_strategies(path: Path, points: Sequence[Point], *, title: str) -> None:
    """Writes a PNG with one panel for each cost that all points know."""
    costs = [cost for cost in TITLES if all(cost in point.costs for point in points)]
    names = list(dict.fromkeys(point.strategy for point in points))
    figure = Figure(figsize=(3.6 * len(costs) + 2.2, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for axes, cost in zip(panels, costs, strict=True):
        for number, name in enumerate(names):
            _draw(axes, [point for point in points if point.strategy == name], cost, number)
        low, high = axes.get_xlim()
        if low > 0 and high > WIDE * low:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"mean {TITLES[cost]} of a problem", fontsize=9)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    panels[0].set_ylabel("accuracy", fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    with whole_file(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


def _draw(axes: Axes, points: Sequence[Point], cost: str, number: int) -> None:
    """One strategy: its settings in the order of their cost."""
    placed = sorted((float(point.costs[cost].mean()), float(point.correct.mean())) for point in points)
    axes.plot(
        [x for x, _ in placed],
        [y for _, y in placed],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4.5,
        alpha=0.8,
        linewidth=1.6,
        color=COLOURS[number % len(COLOURS)],
        linestyle=STYLES[number // len(COLOURS) % len(STYLES)],
        label=points[0].strategy.replace("_", " "),
    )
