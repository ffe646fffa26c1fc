"""How the runtime scales: with the number of engines, and with the calls a run has already made.

    python scripts/bench_growth.py --json FILE --from RUN                both parts; RUN is a finished run
    python scripts/bench_growth.py --json FILE --parts controller       without one

engines     The last rl stage of RUN's recipe, from RUN's supervised weights, with 1, 2 and 4 engines and a
            learner that only takes the time it took in RUN (`--simulate learner`). A step has so many times
            the groups as there are engines: each has as much to do. The bound is never reached: one engine is
            a match for that learner, and two would wait for it. `tokens_per_s` by engines, from the start of
            the first group to the end of the last, and the cores that were busy meanwhile. One engine and its
            actor, the driver and the reward worker need more than one core between them, so `of_linear` is
            the rate over that of one engine times min(engines, cores / cores that one engine's run keeps
            busy).
controller  The controller's loop in one process (admission, ledger, record, metrics, checkpoints) around
            episodes that a scripted engine has made beforehand, a learner that does nothing, and free
            rewards: nothing but the controller spends time. A step has two groups, so that the first hundred
            calls are seen. `cpu_us_per_call` (microseconds) by the calls consumed so far; the first figure
            has the start in it.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from data.episodes.trajectory import Episode
from data.errors import BraidError, ConfigError
from data.ledger.ledger import Ledger
from data.ledger.queries import staleness_histogram
from data.ledger.schema import reading
from rl.config import Recipe, load_recipe, resolved
from rl.config.codec import make_codec
from rl.config.stages import RlStage
from rl.problems import solved_task
from rl.runtime.services import Services
from rl.simulation.free import free_sides
from rl.simulation.recorded import rl_stage
from rl.stages.context import RunContext
from rl.stages.reinforce import run_rl
from rl.storage.checksums import write_checksums
from rl.storage.run_directory import RunDirectory
from rl.tracking.accounting import Accounting
from rollout.demonstrate import demonstrate
from rollout.engines.scripted import ScriptedEngine
from rollout.protocols import build_protocol
from rollout.runner import EpisodeSpec, run_episode
from rollout.seeds import episode_seed

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "countdown_cpu.yaml"
ENGINES = (1, 2, 4)
LOOK_S = 0.25
"""Seconds between two samples of the number of busy cores."""
GROUPS = 2
"""Groups per step of the controller's benchmark."""
POOL = 32
"""Number of scripted groups; they are used again and again."""


class BusyCores(threading.Thread):
    """Samples how many cores of this machine are busy."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended = threading.Event()
        self.seen: list[tuple[float, float]] = []
        """(time, cores busy since the previous sample)."""

    def run(self) -> None:
        """Sample until `stop` is called."""
        psutil.cpu_percent()
        while not self._ended.wait(LOOK_S):
            self.seen.append((time.time(), psutil.cpu_percent() / 100 * (os.cpu_count() or 1)))

    def stop(self) -> None:
        """End the sampling thread."""
        self._ended.set()
        self.join()

    def mean(self, begun: float, ended: float) -> float:
        """Mean between two moments."""
        inside = [busy for moment, busy in self.seen if begun <= moment <= ended]
        return sum(inside) / max(1, len(inside))


def engines(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The part of that name. Raises BraidError."""
    directory = RunDirectory(arguments.start)
    recipe = directory.recipe()
    stage = rl_stage(recipe, None, str(arguments.start))
    file = folder / "recipe.json"
    file.write_text(json.dumps(alone(recipe, directory, stage, arguments.steps)))
    groups = stage.groups_per_step
    cores = os.cpu_count() or 1
    found: dict[str, Any] = {"tokens_per_s": {}, "busy_cores": {}, "of_linear": {}}
    numbers = arguments.engines or [n for n in ENGINES if n <= cores or arguments.address]
    for number in numbers:
        run, busy = folder / f"engines-{number}", BusyCores()
        options = ("--simulate", "learner", "--simulate-from", arguments.start, "--run", run)
        command = [sys.executable, "-m", "rl.cli", "train", file, *options]
        command += ["--set", f"engine.num_engines={number}"]
        command += ["--set", f"{stage.name}.groups_per_step={number * groups}"]
        command += ["--address", arguments.address] if arguments.address else []
        print(f"bench_growth: {number} engines", flush=True)
        busy.start()
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        busy.stop()
        if done.returncode:
            raise BraidError(f"{run.name} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
        begun, ended = sampled_between(run, stage.name)
        tokens = sum(staleness_histogram(RunDirectory(run).ledger, stage.name).values())
        found["tokens_per_s"][str(number)] = tokens / (ended - begun)
        found["busy_cores"][str(number)] = busy.mean(begun, ended)
        found["of_linear"] = of_linear(found["tokens_per_s"], found["busy_cores"], cores)
        rate, cores_busy, share = (values[str(number)] for values in found.values())
        print(f"  {rate:,.0f} tokens/s, {cores_busy:.1f} cores busy, {share:.2f} of linear", flush=True)
    return found


def of_linear(rates: dict[str, float], busy: dict[str, float], cores: int) -> dict[str, float]:
    """By engines, the rate over that of the fewest times the engines, or times what the cores have room for.

    Example: rates of 10, 18 and 19 by 1, 2 and 4 engines, of which the first keeps 1 of 2 cores busy:
    1, 18 / 20 and 19 / 20.
    """
    first = next(iter(rates))
    room = cores / max(1.0, busy[first])
    return {
        number: rate / rates[first] / min(int(number) / int(first), room) for number, rate in rates.items()
    }


def alone(recipe: Recipe, directory: RunDirectory, stage: RlStage, steps: int) -> dict[str, Any]:
    """The recipe with this stage only, begun where it began there; sampling waits for no step."""
    before = next((other for other in recipe.policy_stages() if other.name != stage.name), None)
    model = directory.model(before.name) if before else directory.start
    changed = stage.model_dump(mode="json") | {
        "steps": steps, "staleness": steps, "validate_every": 0, "checkpoint_every": steps
    }  # fmt: skip
    kept = {name: value for name, value in resolved(recipe).items() if name not in ("stages", "model")}
    length = recipe.model.max_length
    return kept | {
        "stages": [changed],
        "model": {"kind": "pretrained", "path": str(model), "max_length": length},
    }


def sampled_between(run: Path, stage: str) -> tuple[float, float]:
    """When the first group was started, and when the last one ended."""
    with reading(RunDirectory(run).ledger) as books:
        query = "SELECT MIN(started_at), MAX(started_at + rollout_s) FROM groups WHERE stage = ?"
        begun, ended = books.execute(query, (stage,)).fetchone()
    return float(begun), float(ended)


def controller(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The part of that name."""
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    stage = rl_stage(recipe, None, recipe.source)
    directory = RunDirectory(folder / "controller")
    directory.open(recipe)
    make_codec(recipe).save(directory.start)
    (directory.start / "config.json").write_text("{}")
    write_checksums(directory.start)
    recipe = recipe.model_copy(update={"stages": (stage,)})
    with Accounting(directory) as accounting, Ledger.open(directory.ledger) as ledger:
        context = RunContext(recipe, directory, accounting, ledger, None)  # type: ignore[arg-type]
        pool = asyncio.run(tell(context, stage))
        per_group = sum(len(episode.calls) for group in pool for episode in group) / len(pool)
        steps = max(1, round(arguments.calls / (per_group * GROUPS)))
        changes = {"steps": steps, "groups_per_step": GROUPS, "minibatches": 1, "validate_every": 0}
        stage = stage.model_copy(update=changes | {"checkpoint_every": max(1, steps // 20)})
        marks: list[tuple[int, float]] = []

        def spent(calls: int) -> None:
            before = marks[-1][0] if marks else 0
            marks.append((before + calls, time.process_time()))

        factories = free_sides(pool, folder, spent)
        context.services = Services(recipe, directory, None, ledger, factories)  # type: ignore[arg-type]
        began = time.process_time()
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            asyncio.run(run_rl(context, stage))
    costs = by_decade([(0, began), *marks])
    for calls, cost in costs.items():
        print(f"up to {int(calls):,} calls: {cost:,.0f} microseconds of the controller's processor each")
    return {"cpu_us_per_call": costs, "calls_per_step": marks[0][0]}


def by_decade(marks: Sequence[tuple[int, float]]) -> dict[str, float]:
    """(calls so far, seconds so far) -> microseconds a call, from one power of ten to the next.

    Example: (0, 0.0), (100, 0.1), (1000, 1.0) -> {"100": 1000.0, "1000": 1000.0}
    """
    chosen, bound = [marks[0]], 100
    for mark in marks:
        if mark[0] >= bound or mark is marks[-1]:
            chosen.append(mark)
            while bound <= mark[0]:
                bound *= 10
    return {
        str(calls): 1e6 * (seconds - earlier) / (calls - before)
        for (before, earlier), (calls, seconds) in pairwise(chosen)
        if calls > before
    }


def answer(said: Mapping[tuple[int, ...], tuple[int, ...]], ids: tuple[int, ...], _: int) -> Sequence[int]:
    """What was said behind this context."""
    return said[ids]


async def tell(context: RunContext, stage: RlStage) -> list[list[Episode]]:
    """Groups of demonstrated episodes, as calls of a scripted engine."""
    recipe, rng = context.recipe, random.Random(0)
    task = solved_task(context.task(stage), recipe.source)
    protocol = build_protocol(recipe.protocol_of(stage), context.codec)
    pool = []
    for group, problem in enumerate(context.problems(stage, "train")[:POOL]):
        prompt = task.prompt(problem)
        episodes: list[Episode] = []
        while len(episodes) < stage.samples_per_group:
            name = f"{group}/{len(episodes)}"
            shown = demonstrate(
                protocol, prompt, task.search(problem, rng), id=name, problem_id=problem.id,
                max_length=recipe.model.max_length,
            )  # fmt: skip
            if shown is None:
                continue
            said = {shown.context_ids(call): call.output for call in shown.calls}
            engine = ScriptedEngine(partial(answer, said), max_length=recipe.model.max_length)
            item = EpisodeSpec(
                id=name,
                problem_id=problem.id,
                prompt=prompt,
                temperature=1.0,
                seed=episode_seed(0, group, len(episodes)),
            )
            episodes.append(await run_episode(engine, protocol, item))
        pool.append(episodes)
    return pool


PARTS = {"engines": engines, "controller": controller}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark. -> process exit code: 0 measured, 2 the input cannot work, 1 something failed."""
    arguments = _parser().parse_args(argv)
    output = arguments.json.absolute()
    try:
        if "engines" in arguments.parts and arguments.start is None:
            raise ConfigError("--from: is missing\n  fix: name a finished run, or give --parts controller")
        if not output.parent.is_dir():
            raise ConfigError(f"--json {arguments.json}: there is no such folder\n  fix: make it")
        document: dict[str, Any] = {"cores": os.cpu_count()}
        with tempfile.TemporaryDirectory(prefix="braid-bench-") as temporary:
            for part in arguments.parts:
                document[part] = PARTS[part](arguments, Path(temporary))
    except BraidError as error:
        print(f"bench_growth: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"bench_growth: wrote {output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench_growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json", type=Path, required=True, metavar="FILE", help="file for the figures")
    add("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    add("--from", dest="start", type=Path, metavar="RUN", help="a finished run with an rl stage")
    add("--engines", type=int, nargs="+", metavar="N", help="default: 1, 2, 4, if there are as many cores")
    add("--address", metavar="HOST:PORT", help="a Ray cluster here that declares more cores")
    add("--steps", type=int, default=10, metavar="N", help="steps of each run with engines; default 10")
    add("--calls", type=int, default=100_000, metavar="N", help="calls of the controller; default 100,000")
    add("--recipe", type=Path, default=RECIPE, help="recipe of the controller's run; default: the demo's")
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as in braid train")
    return parser


if __name__ == "__main__":
    sys.exit(main())
