"""Training curves of several runs in one picture: accuracy and critical-path tokens over RL steps.

    python scripts/draw_curves.py GRPO=runs/demo PPO=runs/ppo --out docs/curves.png

Thin dots are training batches, lines their means over `--window` steps.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data.errors import BraidError, ConfigError
from rl.drawing.marks import COLOURS
from rl.tracking.metrics import read_metrics

PANELS = (("accuracy", "training accuracy"), ("tokens/critical", "critical-path tokens"))


def main(argv: Sequence[str] | None = None) -> int:
    """-> process exit code."""
    arguments = _parser().parse_args(argv)
    try:
        curves = {name: curve(path, arguments.stage) for name, path in map(named, arguments.runs)}
    except BraidError as error:
        print(f"draw_curves: {error}", file=sys.stderr)
        return 2
    draw(curves, arguments.window, arguments.out)
    print(f"wrote {arguments.out}")
    return 0


def named(argument: str) -> tuple[str, Path]:
    """NAME=DIRECTORY -> both. Raises ConfigError when one is missing."""
    name, equals, path = argument.partition("=")
    if not (name and equals and path):
        raise ConfigError(f"{argument}: is not NAME=RUN\n  fix: write for instance GRPO=runs/demo")
    return name, Path(path)


def curve(run: Path, stage: str) -> dict[str, list[float]]:
    """Every step's figures. Raises ConfigError for a run without steps of that stage."""
    rows = [row for row in read_metrics(run / "metrics.jsonl", stage) if "accuracy" in row]
    if not rows:
        raise ConfigError(f"{run}: has no steps of a stage {stage!r}; name another with --stage")
    return {key: [float(row[key]) for row in rows] for key in ("step", *(key for key, _ in PANELS))}


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Each value's mean with the `window - 1` before it, or as many as there are.

    Example: 1 2 6 with window 2 -> 1 1.5 4
    """
    return [float(np.mean(values[max(0, stop - window) : stop])) for stop in range(1, len(values) + 1)]


def draw(curves: dict[str, dict[str, list[float]]], window: int, out: Path) -> None:
    """Draw the picture of all curves."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (key, label) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for colour, (name, found) in zip(COLOURS, curves.items(), strict=False):
            axes.plot(found["step"], found[key], ".", color=colour, alpha=0.25, markersize=4)
            axes.plot(found["step"], smooth(found[key], window), color=colour, label=name, linewidth=1.8)
        axes.set_xlabel("RL step")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    figure.axes[0].legend(frameon=False, loc="lower right")
    figure.savefig(out, dpi=130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help="at most six")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    parser.add_argument("--stage", default="rl")
    parser.add_argument("--window", type=int, default=5, help="steps of a mean")
    return parser


if __name__ == "__main__":
    sys.exit(main())
