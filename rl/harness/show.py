"""The comparison as a table, for the terminal and as Markdown."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from rl.evaluation.equal_cost import Difference
from rl.evaluation.strategies.points import REFERENCE
from rl.evaluation.strategies.width_law import Width
from rl.harness.comparison import Compared, Figure

HEADINGS = {
    "total_tokens": "total",
    "critical_tokens": "critical",
    "critical_seconds": "seconds",
    "eflops": "MeFLOPs",
}
"""Cost -> its heading."""
WIDTH = 200
"""Width of the table where the output is no terminal, in characters."""


def headings(rows: Sequence[Compared]) -> list[str]:
    """Headings of the table; costs that no row knows are left out."""
    known = _known(rows)
    against = [f"at equal {HEADINGS[cost]}" for cost in known]
    return ["strategy", "setting", "accuracy [95%]", *(HEADINGS[cost] for cost in known), *against]


def cells(rows: Sequence[Compared]) -> list[list[str]]:
    """The rows as text: a difference is in points against majority at the same mean cost."""
    known = _known(rows)
    return [
        [
            row.point.strategy,
            row.point.setting,
            f"{row.accuracy.value:.3f} [{row.accuracy.interval[0]:.3f}, {row.accuracy.interval[1]:.3f}]",
            *(_cost(row, cost) for cost in known),
            *(_difference(row, cost) for cost in known),
        ]
        for row in rows
    ]


def losers(rows: Sequence[Compared]) -> list[str]:
    """Sentences that name what loses, and what wins, on each axis of cost."""
    lines = []
    for cost in _known(rows):
        for verdict in ("loses", "wins"):
            names = [
                f"{row.point.strategy} ({row.point.setting})"
                for row in rows
                if (found := row.differences.get(cost)) is not None and found.verdict == verdict
            ]
            if names:
                lines.append(f"At equal {HEADINGS[cost]}, {verdict} against {REFERENCE}: {', '.join(names)}.")
    return lines


def at_k_lines(figures: Mapping[str, Figure]) -> list[str]:
    """One line for each kind of figure at k, with intervals."""
    kinds: dict[str, list[str]] = {}
    for name, each in figures.items():
        kind = name.split("@")[0]
        shown = f"{name} {each.value:.3f} [{each.interval[0]:.3f}, {each.interval[1]:.3f}]"
        kinds.setdefault(kind, []).append(shown)
    return ["   ".join(group) for group in kinds.values()]


def law_lines(law: Sequence[Width]) -> list[str]:
    """The width law against what was measured, one line."""
    if not law:
        return []
    each = ", ".join(
        f"n = {width.n}: {width.measured:.0f} ({width.empirical:.0f}, {width.exponential:.0f})"
        for width in law
    )
    return [f"First of n, critical tokens measured (foretold from lengths, by the exponential law): {each}."]


def markdown(rows: Sequence[Compared]) -> str:
    """The table in Markdown, without a trailing newline."""
    head = headings(rows)
    lines = [head, ["---"] * 2 + ["---:"] * (len(head) - 2), *cells(rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def print_table(title: str, rows: Sequence[Compared], console: Console | None = None) -> None:
    """Prints the table; as wide as it needs where the output is no terminal."""
    console = console or Console()
    if console.width < WIDTH and not console.is_terminal:
        console = Console(width=WIDTH)
    table = Table(title=title, title_style="", box=box.HORIZONTALS, show_edge=False, pad_edge=False)
    for number, heading in enumerate(headings(rows)):
        table.add_column(heading, justify="left" if number < 2 else "right")
    shown = cells(rows)
    for number, line in enumerate(shown):
        last = number + 1 < len(shown) and shown[number + 1][0] != line[0]
        table.add_row(*line, end_section=last)
    console.print(table)


def _known(rows: Sequence[Compared]) -> list[str]:
    return [cost for cost in HEADINGS if all(cost in row.point.costs for row in rows)]


def _cost(row: Compared, cost: str) -> str:
    mean = float(row.point.costs[cost].mean())
    if cost == "eflops":
        return f"{mean / 1e6:,.0f}"
    return f"{mean:.2f}" if cost == "critical_seconds" else f"{mean:.0f}"


def _difference(row: Compared, cost: str) -> str:
    found: Difference | None = row.differences.get(cost)
    if found is None:
        return "-"
    low, high = found.interval
    verdict = f" {found.verdict}" if found.verdict else ""
    return f"{found.points:+.1f} [{low:+.1f}, {high:+.1f}]{verdict}"
