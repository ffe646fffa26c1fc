"""Kill a run's processes at random, restart it when it ends, and audit its ledger.

    python scripts/chaos.py recipes/countdown_cpu.yaml --run runs/chaos --kills 200 --json chaos.json

Kinds of victims: the engine's process, its actor, the reward worker, the scorer where the recipe has one, a
rank of the learner, the controller (`braid train` itself) and the node (Ray's raylet or its head service).
All by SIGKILL, in bursts; after each burst the run has to make a step before the next. A run whose
controller has ended is started by the same command. Once there were enough kills it is left to finish.

The file: kills (also by kind), starts, orphans (processes that outlived their controller by two minutes),
and, from the ledger of the last rl stage: lost, duplicated, out_of_order, wrong_steps, disputed, restarts,
rollbacks, steps. Exit code 0 when every prompt was trained exactly once, in order, and no orphan was left.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from data.ledger.audit import audit
from data.ledger.schema import reading
from data.tasks.problem import load_problems
from data.tasks.sampler import ProblemSampler
from rl.config import Recipe, load_recipe
from rl.config.stages import RlStage
from rl.seeds import purpose_seed
from rl.storage.run_directory import RunDirectory

KINDS = {
    "engine": ("VLLM::EngineCore",),
    "actor": ("ray::RolloutWorker",),
    "reward": ("ray::RewardWorker",),
    "scorer": ("ray::ScorerWorker",),
    "learner": ("ray::RankWorker",),
    "node": ("raylet/raylet", "gcs/gcs_server"),
}
"""What the command line of a victim holds, one of these. The controller is known by its id."""
CONTROLLER = "controller"
_MARK = "BRAID_CHAOS_MARK"
_GONE_S = 120.0
"""Engine, learner and rewards are gone in seconds; Ray's own agents look around less often."""
_STEP_S = 300.0


@dataclass(kw_only=True)
class Run:
    """A run that is being harassed."""

    recipe: Recipe
    folder: Path
    command: Sequence[str]
    rng: random.Random
    most: int
    """Largest number of kills."""
    pause: float
    """Mean seconds between a step and the next burst."""
    bursts: Sequence[int]
    """Sizes of a burst, from which one is drawn."""
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    orphans: list[str] = field(default_factory=list)
    seen: set[psutil.Process] = field(default_factory=set)
    """Descendants of all controllers."""
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def to_the_end(self) -> int:
        """-> exit code of the last controller."""
        try:
            while True:
                code = self._one_life()
                if code == 0 or not self._disturbed:
                    return code
        finally:
            # Of all lives: the next one need not wait until Ray's agents have seen that they are alone.
            self.orphans = self._left_behind()

    def _one_life(self) -> int:
        """Run one controller. -> its exit code, negative when a signal ended it."""
        self.starts += 1
        self._disturbed = False
        log = self.folder.with_name(f"{self.folder.name}.log")
        with log.open("ab") as stream:
            process = subprocess.Popen(
                self.command, env={**os.environ, _MARK: self.mark}, stdin=subprocess.DEVNULL,
                stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            while process.poll() is None and self.kills.total() < self.most:
                if self._wait_for_a_step(process):
                    self._burst(process)
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        return code

    def _wait_for_a_step(self, process: "subprocess.Popen[bytes]") -> bool:
        """-> whether the run has made one (and a random while has passed), and goes on."""
        ledger = RunDirectory(self.folder).ledger
        before = _consumed(ledger)
        deadline = time.monotonic() + _STEP_S
        while process.poll() is None:
            self.seen |= children(process.pid)
            if _consumed(ledger) != before:
                time.sleep(self.rng.expovariate(1 / self.pause))
                return process.poll() is None
            if time.monotonic() > deadline:
                raise SystemExit(f"no step within {_STEP_S:g} s; see {self.folder}.log")
            time.sleep(0.05)
        return False

    def _burst(self, process: "subprocess.Popen[bytes]") -> None:
        """Kill several processes at once, the controller last: it would otherwise end by itself."""
        found = children(process.pid)
        self.seen |= found
        victims: dict[str, list[int]] = {CONTROLLER: [process.pid]}
        for child in found:
            title = _title(child)
            for kind, words in KINDS.items():
                if any(word in title for word in words):
                    victims.setdefault(kind, []).append(child.pid)
        # Kinds that were hit least often first, at random among equals: no kind is left out by chance.
        count = min(self.rng.choice(self.bursts), len(victims), self.most - self.kills.total())
        order = sorted(victims, key=lambda kind: (self.kills[kind], self.rng.random()))
        chosen = order[:count]
        for kind in sorted(chosen, key=lambda kind: kind == CONTROLLER):
            try:
                os.kill(self.rng.choice(victims[kind]), 9)
            except ProcessLookupError:
                continue
            self.kills[kind] += 1
            self._disturbed = self._disturbed or kind in (CONTROLLER, "node")

    def _left_behind(self) -> list[str]:
        """Names of processes that are still there two minutes later; they are ended."""
        deadline = time.monotonic() + _GONE_S
        while (left := self._alive()) and time.monotonic() < deadline:
            time.sleep(0.2)
        for process in left:
            process.kill()
        return [_title(process) for process in left]

    def _alive(self) -> list[psutil.Process]:
        found = []
        # Some overwrite their environment, and with it the mark: those were seen while they had a parent.
        for process in {*self.seen, *psutil.process_iter()}:
            try:
                ours = process in self.seen or process.environ().get(_MARK) == self.mark
                if ours and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found


def children(process_id: int) -> set[psutil.Process]:
    """All descendants; none once it has ended."""
    try:
        return set(psutil.Process(process_id).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) if process.is_running() else ""
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return ""


def _consumed(ledger: Path) -> int:
    """Groups trained so far, also those whose training was lost again."""
    if not ledger.exists():
        return 0
    with reading(ledger) as books:
        ((count,),) = books.execute("SELECT count(*) FROM events WHERE kind = 'consumed'").fetchall()
    return int(count)


def report(run: Run) -> dict[str, Any]:
    """Effects of the kills, from the ledger."""
    directory = RunDirectory(run.folder)
    stage = next(stage for stage in reversed(run.recipe.stages) if isinstance(stage, RlStage))
    problems = load_problems(directory.problems("train"))
    sampler = ProblemSampler(len(problems), purpose_seed(run.recipe.seed, stage.name))
    found = audit(
        directory.ledger,
        stage.name,
        groups_per_step=stage.groups_per_step,
        problem_at=lambda group: problems[sampler.problem_at(group)].id,
    )
    return {
        "kills": run.kills.total(),
        "by_kind": dict(sorted(run.kills.items())),
        "starts": run.starts,
        "orphans": len(run.orphans),
        "lost": len(found.lost),
        "duplicated": len(found.duplicated),
        "out_of_order": len(found.out_of_order),
        "wrong_steps": len(found.wrong_steps),
        "disputed": len(found.disputed),
        "restarts": found.restarts,
        "rollbacks": found.rollbacks,
        "steps": found.consumed // stage.groups_per_step,
        "planned_steps": stage.steps,
    }


def main() -> int:
    """Run the test. -> exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path, help="recipe with an rl stage")
    parser.add_argument("--run", type=Path, required=True, help="run directory, new")
    parser.add_argument("--kills", type=int, default=20, help="number of kills (default 20)")
    parser.add_argument("--pause", type=float, default=2.0, help="mean seconds between a step and a burst")
    parser.add_argument(
        "--bursts", type=int, nargs="+", default=(1, 3, 4, 5), metavar="N",
        help="processes to kill at once, one of these at random (default 1 3 4 5)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed for the choice of victims and moments")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in braid train")
    given = parser.parse_args()
    recipe = load_recipe(given.recipe, given.set)
    command = [sys.executable, "-m", "rl.cli", "train", str(given.recipe), "--run", str(given.run)]
    run = Run(
        recipe=recipe,
        folder=given.run.absolute(),
        command=[*command, *(f"--set={change}" for change in given.set)],
        rng=random.Random(given.seed),
        most=given.kills,
        pause=given.pause,
        bursts=given.bursts,
    )
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    code = run.to_the_end()
    figures = report(run)
    print(json.dumps(figures, indent=2))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    for orphan in run.orphans:
        print(f"left behind: {orphan}", file=sys.stderr)
    faults = ("orphans", "lost", "duplicated", "out_of_order", "wrong_steps", "disputed")
    clean = code == 0 and not any(figures[name] for name in faults)
    if figures["kills"] < given.kills:
        print(f"the run ended after {figures['kills']} kills: give it more steps", file=sys.stderr)
        return 1
    return 0 if clean and figures["steps"] == figures["planned_steps"] else 1


if __name__ == "__main__":
    sys.exit(main())
