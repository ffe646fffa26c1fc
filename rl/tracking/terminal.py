"""Display of a running stage: one live screen on a terminal, one line for each step elsewhere.

Between two steps the screen shows the current activity; elsewhere `Silence` decides when a line shows it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rl.tracking.silence import Silence


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A metric that is shown, with its label."""

    key: str
    label: str
    form: str
    """Format specification, such as ".3f"."""


RL_SHOWN = (
    Shown(key="reward/mean", label="reward", form=".3f"),
    Shown(key="accuracy", label="accuracy", form=".3f"),
    Shown(key="validation/accuracy", label="validation", form=".3f"),
    Shown(key="staleness/max", label="staleness", form=".0f"),
    Shown(key="tokens/critical", label="critical tokens", form=".0f"),
    Shown(key="tokens/total", label="total tokens", form=".0f"),
    Shown(key="time/tokens_per_s", label="tokens/s", form=",.0f"),
    Shown(key="time/rollout_wait_s", label="rollout wait (s)", form=".1f"),
    Shown(key="time/learner_s", label="learner (s)", form=".1f"),
    Shown(key="time/publish_s", label="weight sync (s)", form=".1f"),
)
"""Metrics of an rl stage. One that a step lacks keeps its last value; one never seen is left out."""
SUPERVISED_SHOWN = (
    Shown(key="loss", label="loss", form=".4f"),
    Shown(key="gradient_norm", label="gradient norm", form=".2f"),
)
"""Metrics of a supervised stage or of a reward model."""


def clock(seconds: float) -> str:
    """`75` as "1:15", `3675` as "1:01:15"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class LiveSummary:
    """Shows the progress of one stage; a context manager.

    `first` is the number of steps already done when the stage resumed: the rate counts only new ones.
    """

    def __init__(
        self,
        stage_name: str,
        *,
        total: int | None = None,
        first: int = 0,
        shown: tuple[Shown, ...] = RL_SHOWN,
        console: Console | None = None,
        now: Callable[[], float] = time.monotonic,
        tell: Callable[[str, str], None] = lambda stage_name, doing: None,
    ) -> None:
        """`tell` is called with the stage's name and its current activity, about once a second."""
        self._tell = tell
        self._stage_name, self._total, self._first, self._shown = stage_name, total, first, shown
        self._console = console or Console()
        self._now = now
        self._started = now()
        self._done = first
        self._values: dict[str, float] = {}
        self._activity = ""
        self._silence = Silence(now=now)
        self._live = Live(self._panel(), console=self._console, auto_refresh=False, transient=True)

    @property
    def interactive(self) -> bool:
        """Whether the output is a terminal."""
        return self._console.is_terminal

    def start(self, done: int) -> None:
        """The stage has started its processes, at `done` steps: count time and steps from now on."""
        self._done = self._first = done
        self._started = self._now()

    def show_activity(self, text: str) -> None:
        """Show what the stage is doing; call it every second or so. Prints a line only after a silence."""
        self._activity = text
        self._tell(self._stage_name, text)
        if self.interactive:
            self._live.update(self._panel(), refresh=True)
        elif self._silence.is_due:
            line = f"{self._stage_name} {self._position()}: {text}"
            self._console.print(line, soft_wrap=True, highlight=False, markup=False)
            self._silence.interrupt()

    def update(self, done: int, scalars: Mapping[str, float]) -> None:
        """Show that `done` steps of the stage are done; `scalars` are metrics of the last one."""
        self._done, self._activity = done, ""
        self._silence.end()
        self._values.update({key: float(value) for key, value in scalars.items()})
        if self.interactive:
            self._live.update(self._panel(), refresh=True)
        else:
            self._console.print(self.line(), soft_wrap=True, highlight=False, markup=False)

    def line(self) -> str:
        """The state in one line of text."""
        values = [f"{shown.label} {self._values[shown.key]:{shown.form}}" for shown in self._present()]
        return ", ".join([f"{self._stage_name} {self._position()}", *values, *self._pace()])

    def __enter__(self) -> Self:
        if self.interactive:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.interactive:
            self._live.stop()
            # The live screen disappears; its last state remains as a line.
            self._console.print(self.line(), highlight=False, markup=False)

    def _present(self) -> list[Shown]:
        return [shown for shown in self._shown if shown.key in self._values]

    def _position(self) -> str:
        return f"{self._done}/{self._total}" if self._total is not None else str(self._done)

    def _pace(self) -> list[str]:
        """Rate, time elapsed and time left; nothing before the first new step."""
        elapsed, new = self._now() - self._started, self._done - self._first
        if new <= 0 or elapsed <= 0:
            return []
        pace = [f"{60 * new / elapsed:.1f} steps/min", f"{clock(elapsed)} elapsed"]
        if self._total is not None:
            pace.append(f"{clock(elapsed / new * (self._total - self._done))} left")
        return pace

    def _panel(self) -> Panel:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim")
        grid.add_column(justify="right")
        if self._total:
            grid.add_row(self._position(), ProgressBar(total=self._total, completed=self._done, width=40))
        for shown in self._present():
            grid.add_row(shown.label, f"{self._values[shown.key]:{shown.form}}")
        if self._activity:
            grid.add_row("now", Text(self._activity))
        return Panel(
            grid,
            title=self._stage_name,
            subtitle=", ".join(self._pace()) or "starting",
            expand=False,
            padding=(0, 1),
        )
