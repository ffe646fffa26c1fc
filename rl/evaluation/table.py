"""The measured figures as a table, for the terminal (100 columns) and as Markdown (README, model card)."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

HEADINGS = ("protocol", "stage", "accuracy [95%]", "greedy", "total", "critical", "p90", "threads")
BUDGET_COLUMNS = 3
"""Number of critical-path budgets in the table. More would not fit 100 columns; `summary.json` has all."""
TABLE_WIDTH = 100
"""Width of the table, in characters."""


def table_rows(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows as text; one row for each arm and stage."""
    budgets = shown_budgets(summary)
    rows = []
    for arm, stages in summary["arms"].items():
        for stage, figures in stages.items():
            low, high = figures["interval"]
            greedy = figures["greedy_accuracy"]
            within = figures["accuracy_at_critical_budget"]
            rows.append(
                [
                    arm,
                    stage,
                    f"{figures['accuracy']:.3f} [{low:.3f}, {high:.3f}]",
                    "-" if greedy is None else f"{greedy:.3f}",
                    f"{figures['total_tokens']:.0f}",
                    f"{figures['critical_tokens']:.0f}",
                    f"{figures['critical_p90']:.0f}",
                    f"{figures['threads']:.2f}",
                    *(f"{within[budget]:.3f}" if budget in within else "-" for budget in budgets),
                ]
            )
    return [*HEADINGS, *(f"≤{budget}" for budget in budgets)], rows


def shown_budgets(summary: Mapping[str, Any]) -> list[str]:
    """At most three critical-path budgets, spread over those measured, ascending."""
    names = {
        budget
        for stages in summary["arms"].values()
        for figures in stages.values()
        for budget in figures["accuracy_at_critical_budget"]
    }
    ordered = sorted(names, key=int)
    if len(ordered) <= BUDGET_COLUMNS:
        return ordered
    stride = (len(ordered) - 1) / (BUDGET_COLUMNS - 1)
    return [ordered[round(index * stride)] for index in range(BUDGET_COLUMNS)]


def headline(summary: Mapping[str, Any]) -> list[str]:
    """The main results in words, one sentence per line."""
    lines = []
    gain, subject = summary.get("gain"), summary.get("subject", "the model")
    if gain:
        low, high = gain["interval"]
        runs = summary.get("seeds", {}).get(subject, {}).values()
        each = [run["gain"]["points"] for run in runs if run.get("gain")]
        seeds = f"; by seed {', '.join(f'{points:+.1f}' for points in each)}" if len(each) > 1 else ""
        change = f"{gain['points']:+.1f} points [{low:+.1f}, {high:+.1f}]"
        lines.append(
            f"From {gain['from']} to {gain['to']}, accuracy of {subject} changes by {change}{seeds}."
        )
    for arm, contrast in summary.get("contrasts", {}).items():
        if contrast:
            low, high = contrast["interval"]
            change = f"{contrast['points']:+.1f} points [{low:+.1f}, {high:+.1f}]"
            ratio = contrast["critical_ratio"]
            path = "" if ratio is None else f", critical path {ratio:.2f} of its length"
            lines.append(f"Against {arm} after {contrast['stage']}: {change}{path}.")
    lines.append(f"{summary['seconds'] / 60:.1f} minutes, peak memory {summary['peak_memory_gb']:.2f} GB.")
    return lines


def render_table(summary: Mapping[str, Any]) -> Table:
    """The table of accuracy and cost, for a rich console."""
    headings, rows = table_rows(summary)
    problems = max(figures["problems"] for stages in summary["arms"].values() for figures in stages.values())
    table = Table(
        title=f"{problems} problems; tokens by episode; ≤B: solved within B critical-path tokens",
        title_style="",
        box=box.HORIZONTALS,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < 2 else "right", no_wrap=True, overflow="ellipsis")
    for index, row in enumerate(rows):
        table.add_row(*row, end_section=index + 1 < len(rows) and rows[index + 1][0] != row[0])
    return table


def print_summary(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints the table and the main results; as wide as the table needs where the output is no terminal."""
    console = console or Console()
    if console.width < TABLE_WIDTH and not console.is_terminal:
        console = Console(width=TABLE_WIDTH)
    console.print(render_table(summary))
    for line in headline(summary):
        console.print(line, highlight=False)


def markdown_table(summary: Mapping[str, Any]) -> str:
    """The same table in Markdown, without a trailing newline."""
    headings, rows = table_rows(summary)
    lines = [headings, ["---"] * 2 + ["---:"] * (len(headings) - 2), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
