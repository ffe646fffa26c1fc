"""One frame of `braid top`: the state of a run on a screen of any width."""

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from data.text.printable import printable
from rl.drawing.sparkline import sparkline
from rl.tracking.run_state import Phase, RunState, StageState
from rl.tracking.terminal import RL_SHOWN, SUPERVISED_SHOWN, Shown, clock

_STYLES = {
    Phase.WAITING: "dim",
    Phase.RUNNING: "green",
    Phase.STOPPED: "red",
    Phase.FINISHED: "cyan",
}
_WIDE = 56
"""Columns from which on curves are drawn beside the values."""
_CURVE = 60
"""Most columns of a curve."""


class TopFrame:
    """A run's state, drawn when the width of the screen is known."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines from top to bottom, cut at the width; why the ledger is unreadable is shown whole."""
        state, stage, width = self._state, self._state.current, options.max_width
        yield _line(
            Text(printable(state.name), style="bold"),
            Text(f"  {state.phase}", style=_STYLES[state.phase]),
            Text(f"  {printable(str(state.path))}", style="dim"),
        )
        yield _line(*self._stages())
        yield Text("")
        yield from self._progress(stage, width)
        curves = width >= _WIDE and console.encoding.startswith("utf")
        yield _values(stage, min(_CURVE, width - 34) if curves else 0)
        yield from self._activity()
        if state.unreadable:
            # The reason stands behind a path that may be longer than the screen is wide.
            yield Text(printable(state.unreadable), style="red", overflow="fold")
        for mishap in state.mishaps:
            said = ": ".join(filter(None, (mishap.what, mishap.detail)))
            yield _line(
                Text(f"{mishap.at[-8:]} ", style="dim"),
                Text(printable(f"{mishap.kind} "), style="yellow"),
                Text(printable(" ".join(said.split()))),
            )

    def _stages(self) -> list[Text]:
        parts: list[Text] = []
        for stage in self._state.stages:
            parts += [Text("  ")] if parts else []
            done = (
                f" {stage.metrics.step}/{stage.steps}"
                if stage.phase in (Phase.RUNNING, Phase.STOPPED)
                else ""
            )
            text = f"{printable(stage.name)} {stage.phase}{done if stage.steps else ''}"
            parts.append(Text(text, style=_STYLES[stage.phase]))
        return parts

    def _progress(self, stage: StageState, width: int) -> RenderResult:
        if stage.steps is None:
            return
        done = min(stage.metrics.step, stage.steps)
        left = stage.seconds_left if stage.phase is Phase.RUNNING else None
        ends = f", {clock(left)} left" if left is not None else ""
        yield _line(Text(f"{printable(stage.name)} {done}/{stage.steps}{ends}"))
        bar = Table.grid()  # alone, a bar does not end its line
        bar.add_row(ProgressBar(total=stage.steps, completed=done, width=min(width, _CURVE)))
        yield bar

    def _activity(self) -> RenderResult:
        state = self._state
        if state.phase is Phase.FINISHED:
            return
        if state.sampling:
            yield _line(Text("on engines  ", style="dim"), Text(f"{state.sampling} groups"))
        if state.doing is not None:
            label = "now  " if state.phase is Phase.RUNNING else "last said  "
            age = max(0.0, state.now - state.doing.at)
            yield _line(
                Text(label, style="dim"),
                Text(printable(f"{state.doing.stage}: {state.doing.doing}")),
                Text(f" ({clock(age)} ago)", style="dim"),
            )
        elif state.phase is Phase.RUNNING:
            yield _line(Text("starting", style="dim"))


def shown_of(stage: StageState) -> tuple[Shown, ...]:
    """The metrics that are shown of a stage, by its kind."""
    return RL_SHOWN if stage.kind == "rl" else SUPERVISED_SHOWN


def _values(stage: StageState, curve: int) -> RenderableType:
    grid = Table.grid(padding=(0, 2), pad_edge=False)
    grid.add_column(style="dim", no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True, overflow="ellipsis")
    if curve > 0:
        grid.add_column(no_wrap=True, overflow="crop", style="cyan")
    for shown in shown_of(stage):
        value = stage.metrics.last(shown.key)
        if value is not None:
            cells = [shown.label, f"{value:{shown.form}}"]
            if curve > 0:
                cells.append(sparkline(list(stage.metrics.values[shown.key]), curve))
            grid.add_row(*cells)
    return grid


def _line(*parts: Text) -> Text:
    """Parts on one line, cut where the screen ends."""
    line = Text.assemble(*parts)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line
