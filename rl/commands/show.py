"""`braid show`: one recorded episode of a run in the terminal, or which ones are worth a look."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import ConfigError
from data.text.printable import printable
from rl.commands.arguments import Commands, add_command

if TYPE_CHECKING:
    from rl.reporting.contents import Shown, Told


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "show", "show a recorded episode of a run: threads, tokens, verdict, reward, steps",
        "braid show runs/demo --episode 12/3",
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument(
        "--episode", metavar="ID", help="id of the episode, GROUP/SAMPLE; default: list some episodes"
    )
    parser.add_argument(
        "--in", dest="place", default="", metavar="PLACE",
        help="where to look: a stage, or a file of it such as eval/rl.sampled; default: everywhere",
    )  # fmt: skip
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the episode, or a list of some, and return the exit code."""
    from rl.reporting.gather import read_recipe

    stages = [stage["name"] for stage in read_recipe(arguments.run)["stages"]]
    if arguments.place and arguments.place.split("/")[0] not in stages:
        raise ConfigError(
            f"--in {arguments.place}: {arguments.run} has no such stage\n"
            f"  fix: name one of {', '.join(stages)}"
        )
    kept = [name for name in stages if not arguments.place or arguments.place.split("/")[0] == name]
    if arguments.episode is None:
        lines = list(_list(arguments.run, kept, arguments.place))
    else:
        lines = list(_one(arguments.run, kept, arguments.place, arguments.episode))
    print(printable("\n".join(lines), keep="\n"))
    return 0


def _list(run: Path, stages: list[str], place: str) -> Iterator[str]:
    """Best, worst, median and most wasteful episode of every file, newest training step only."""
    from data.episodes.topology import critical_tokens, total_tokens
    from rl.reporting.choice import choose
    from rl.reporting.gaps import Gaps
    from rl.reporting.recorded import place_of, read_shown, record_files
    from rl.storage.rollout_record import RECORD

    gaps, listed = Gaps(), 0
    for stage in stages:
        files = record_files(run / "stages" / stage)
        steps = [file for file in files if file.parent.name == RECORD]
        for file in [*steps[-1:], *(file for file in files if file not in steps)]:
            where = f"{stage}/{place_of(file)}"
            if not where.startswith(place):
                continue
            listed += 1
            yield f"{where}:"
            for why, shown in choose(gaps.attempt(lambda: list(read_shown(file)), [])):  # noqa: B023
                cost = f"{total_tokens(shown.episode)} tokens, {critical_tokens(shown.episode)} critical"
                yield f"  {shown.episode.id:12} {why}: {verdict(shown)}; {cost}"
    yield from (f"left out: {gap}" for gap in gaps.found)
    if not listed:
        raise ConfigError(
            f"{run}: has no recorded episodes there\n  fix: run an rl stage, or an evaluation that keeps "
            "episodes whole (keep_episodes)"
        )
    yield f"show one with: braid show {run} --episode ID --in PLACE"


def _one(run: Path, stages: list[str], place: str, episode_id: str) -> Iterator[str]:
    """The lines on one episode. Raises ConfigError when there is none of that id, or more than one."""
    from rl.drawing.text import render_text
    from rl.reporting.gaps import Gaps
    from rl.reporting.recorded import find_episode
    from rl.reporting.telling import open_teller
    from rl.storage.run_directory import RunDirectory

    found, damaged = find_episode(run, stages, episode_id)
    places = [f"{stage}/{shown.place}" for stage, shown in found]
    fitting = [index for index, where in enumerate(places) if where.startswith(place)]
    if not fitting:
        notes = "".join(f"\n  could not be read: {note}" for note in damaged)
        raise ConfigError(
            f"--episode {episode_id}: is not among the recorded episodes{notes}\n"
            f"  fix: see which there are with `braid show {run}`"
        )
    if len(fitting) > 1:
        raise ConfigError(
            f"--episode {episode_id}: is in {len(fitting)} places\n  fix: add one of "
            + ", ".join(f"--in {places[index]}" for index in fitting)
        )
    gaps = Gaps()
    stage, shown = found[fitting[0]]
    teller = open_teller(RunDirectory(run), gaps)
    told = teller.tell(stage, "shown", shown)
    yield f"{places[fitting[0]]}, problem {shown.episode.problem_id}"
    yield from (told.problem.splitlines() if told.problem else ())
    yield verdict(shown)
    yield ""
    yield from render_text(shown.episode, teller.decode).splitlines()
    yield from _places(told)
    yield from (f"left out: {note}" for note in [*gaps.found, *damaged])


def verdict(shown: "Shown") -> str:
    """Reward, correctness and reason in one line."""
    reward = "no reward" if shown.reward is None else f"reward {shown.reward:.3f}"
    correct = {True: "right", False: "wrong"}.get(shown.correct, "not graded")  # type: ignore[arg-type]
    terms = "".join(f", {name} {value:+.3f}" for name, value in shown.parts.items())
    return f"{reward}, {correct}" + (f" ({shown.reason})" if shown.reason else "") + terms


def _places(told: "Told") -> Iterator[str]:
    """Labels of steps, rewards with a place, and violations, each a line."""
    valid = {True: "right", False: "WRONG", None: "-"}
    leads = {True: "yes", False: "no", None: "-"}
    if told.steps:
        yield "steps (right by itself; goal reachable):"
    for each in told.steps:
        label = f"{valid[each.label.valid]:6} {leads[each.label.reachable]:4}"
        yield f"  call {each.step.call:3}  {label}  {each.step.text}"
    for term, call, start, stop, value in told.shown.placed:
        tokens = "the whole call" if start is None else f"tokens {start}-{stop}"
        yield f"  {term} {value:+.3f} for call {call}, {tokens}"
    for found in told.shown.episode.violations:
        where = "" if found.position is None else f", token {found.position}"
        detail = f": {found.detail}" if found.detail else ""
        yield f"  violation {found.kind.value.replace('_', ' ')} in call {found.call}{where}{detail}"
