"""Renders a report as one HTML file that needs no network and no script.

Everything that a model, a recipe or a user wrote goes through autoescape and `printable`: it never becomes
markup, and control characters and terminal escapes are shown as text.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from data.text.printable import printable
from rl.drawing.line_chart import Line, render_lines
from rl.drawing.marks import thread_colour
from rl.drawing.text import headline as cost_line
from rl.drawing.waterfall import Clock, StepMark, render_waterfall, step_colour
from rl.evaluation.table import headline, table_rows
from rl.reporting.call_texts import call_texts
from rl.reporting.contents import RunPart, Told, told_in
from rl.reporting.gather import as_text, differences
from rl.reporting.page_size import within_bytes
from rl.reporting.panels import COLOURS, stage_charts

PAGE = Path(__file__).with_name("page")
EPISODES_BYTES = 7_000_000
"""Most of a page's bytes that episodes take; all of it stays below 10 MB, which can be sent by mail."""


def render_report(runs: Sequence[RunPart]) -> str:
    """The whole page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.globals.update(
        as_text=as_text,
        headline=headline,
        step_colour=step_colour,
        table_rows=table_rows,
        thread_colour=thread_colour,
        call_texts=call_texts,
        waterfall=_waterfall,
        chart=_chart,
        spoken=_spoken,
        run_colours=COLOURS,
    )
    environment.filters.update(command=_command, cost=_cost, pretty=_pretty, title=_title, values=_values)
    environment.globals["episode"] = _episodes(environment, runs)
    script = (PAGE / "report.js").read_text(encoding="utf-8")
    names = list(dict.fromkeys(stage.name for run in runs for stage in run.stages))
    return environment.get_template("report.html").render(
        runs=runs,
        stages=[(name, stage_charts(name, runs), _of_stage(name, runs)) for name in names],
        differences=differences(runs) if len(runs) > 1 else (),
        style=Markup((PAGE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _episodes(environment: Environment, runs: Sequence[RunPart]) -> Callable[[Told], Markup]:
    """What the page shows of each episode: all of it while there is room (small ones first) or a headline."""
    macros: Any = environment.get_template("episode.html").module
    every = [told for run in runs for told in told_in(run)]
    whole = {id(told): macros.whole_episode(told) for told in every}
    kept = within_bytes([len(whole[id(told)].encode()) for told in every], EPISODES_BYTES)
    chosen = {
        id(told): whole[id(told)] if fits else macros.headline_only(told)
        for told, fits in zip(every, kept, strict=True)
    }
    return lambda told: chosen[id(told)]


def _shown(value: Any) -> Any:
    """Text with control characters as their escapes; markup of our own as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value, keep="\n")
    return value


def _of_stage(name: str, runs: Sequence[RunPart]) -> list[Any]:
    return [(run, stage) for run in runs for stage in run.stages if stage.name == name]


def _chart(lines: Sequence[Line], title: str) -> Markup:
    return Markup(render_lines(lines, title=title))


def _waterfall(told: Told, clock: str, title: str) -> Markup:
    """The waterfall of an episode; its steps are rewards with a place, or else exact labels."""
    return Markup(
        render_waterfall(
            told.blocks, Clock(clock), title=title, steps=step_marks(told),
            violations=told.shown.episode.violations,
        )
    )  # fmt: skip


def step_marks(told: Told) -> tuple[StepMark, ...]:
    """Steps with a value from 0 to 1: exact labels where there are any, else scaled rewards."""
    labelled = tuple(
        StepMark(
            call=each.step.call, start=each.step.start, stop=each.step.stop, value=float(each.label.valid)
        )
        for each in told.steps
        if each.label.valid is not None
    )
    if labelled:
        return labelled
    rewarded = [
        (call, start, stop, value)
        for _, call, start, stop, value in told.shown.placed
        if start is not None and stop is not None
    ]
    low, high = min((row[3] for row in rewarded), default=0.0), max((row[3] for row in rewarded), default=0.0)
    return tuple(
        StepMark(call=call, start=start, stop=stop, value=(value - low) / (high - low) if high > low else 0.5)
        for call, start, stop, value in rewarded
    )


def _title(told: Told) -> str:
    return f"{told.why}: episode {told.shown.episode.id} of {told.shown.place}"


def _command(told: Told) -> str:
    """What shows the episode in a terminal."""
    return f"braid show RUN --episode {told.shown.episode.id} --in {told.stage}/{told.shown.place}"


def _cost(told: Told) -> str:
    return cost_line(told.shown.episode)


def _pretty(recipe: Mapping[str, Any]) -> str:
    return json.dumps(recipe, indent=2, ensure_ascii=False)


def _values(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """What the script reads of the lines: it looks at no drawing."""
    return [{"label": printable(line.label), "points": line.points} for line in lines]


def _spoken(value: float) -> str:
    """A share as percent."""
    return f"{value:.0%}"
