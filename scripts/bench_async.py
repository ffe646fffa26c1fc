"""What sampling ahead gains, and how fast a step is compared with TRL: one run, one recipe, the same seeds.

    python scripts/bench_async.py --json FILE                      trains the supervised checkpoint first
    python scripts/bench_async.py --json FILE --from runs/seq      begins with that of a run

staleness   The rl stage of `--recipe` at each S of `--staleness`, each a `braid train` of its own, from one
            supervised checkpoint. Steps per hour are those of the whole stage, from the start of its first
            group to its last publication: pipelines that fill and drain, validations and checkpoints count.
            Idle is the share of that time in which the learner neither trained nor published, and in which
            the engines sampled nothing. Staleness is counted by token. Accuracy is that of `--problems` held-
            out problems at the end, and on the validation problems over the tokens sampled so far.
simulated   The same stages with a learner that only takes the time it took there (`--simulate learner`).
trl         The stage at the recipe's own S against TRL's GRPOTrainer (settings: scripts/trl_grpo.py
            settings) on the same prompts, for the same number of steps: samples per second. Braid's are those
            of its whole stage; TRL's first `--warmup` steps are left out. TRL runs with each of `--threads`
            and its best counts. Its colocate mode is tried as it is, once; if that fails, the error is in the
            file, and it runs with weights of vLLM's CPU layers kept updatable.

The sides take turns in `--rounds` rounds, each with a seed of its own; figures are medians over rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import BraidError, ConfigError
from data.ledger.queries import staleness_histogram
from rl.config import Recipe, load_recipe
from rl.config.stages import RlStage, SftStage
from rl.evaluation.pace import Pace, pace_of
from rl.storage.files import read_json
from rl.storage.run_directory import RunDirectory
from rl.tracking.metrics import METRICS_FILE, read_metrics

SCRIPTS = Path(__file__).resolve().parent
RECIPE = SCRIPTS.parent / "recipes" / "countdown_sequential_cpu.yaml"
REQUIRED = {"over_trl_default": 3.0, "over_trl_colocate": 1.3}
"""What the project promises."""
HELD_OUT = "held_out"
PARTS = ("staleness", "simulated", "trl")


class RunFailed(BraidError, RuntimeError):
    """A program that was started ended with an error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What all measurements share."""

    arguments: argparse.Namespace
    recipe: Recipe
    folder: Path
    model: Path
    """Path of the supervised checkpoint."""

    @property
    def stage(self) -> RlStage:
        """The recipe's rl stage."""
        return next(stage for stage in self.recipe.stages if isinstance(stage, RlStage))

    def seed(self, number: int) -> int:
        """Seed of a round."""
        return self.recipe.seed + number

    def train(
        self,
        name: str,
        number: int,
        changes: dict[str, Any],
        *,
        problems: int = 0,
        options: Sequence[str] = (),
    ) -> Path:
        """`braid train` of the rl stage, and with `problems` of an evaluation. -> its run directory."""
        stages = [self.stage.model_dump(mode="json") | changes]
        if problems:
            stages.append(
                {
                    "kind": "eval", "name": HELD_OUT, "checkpoints": [self.stage.name], "split": "test",
                    "problems": problems, "greedy": False,
                }
            )  # fmt: skip
        length = self.recipe.model.max_length
        model = {"kind": "pretrained", "path": str(self.model), "max_length": length}
        overrides = {"model": model, "stages": stages, "seed": self.seed(number)}
        return braid_train(self.arguments, self.folder / f"{name}-{number}", overrides, options)


def braid_train(
    arguments: argparse.Namespace, run: Path, overrides: dict[str, Any], options: Sequence[str] = ()
) -> Path:
    """-> the run directory, all its stages finished. Raises RunFailed."""
    sets = [*arguments.overrides, *(f"{key}={json.dumps(value)}" for key, value in overrides.items())]
    command = [sys.executable, "-m", "rl.cli", "train", str(arguments.recipe), "--run", str(run)]
    call([*command, *options, *(f"--set={change}" for change in sets)], run.with_suffix(".log"), {})
    return run


def call(command: Sequence[str], log: Path, variables: dict[str, str]) -> None:
    """Run a program with its output in a file. Raises RunFailed with its last lines."""
    print(f"bench_async: {log.stem}", flush=True)
    with log.open("wb") as stream:
        code = subprocess.run(
            command, env={**os.environ, **variables}, stdin=subprocess.DEVNULL, stdout=stream,
            stderr=subprocess.STDOUT, check=False,
        ).returncode  # fmt: skip
    if code:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        said = [line for line in lines if "Error" in line][-1:] or lines[-2:]
        raise RunFailed(f"{log.stem}: ended with exit code {code}: {' '.join(map(str.strip, said))}")


def supervised(arguments: argparse.Namespace, recipe: Recipe, folder: Path) -> Path:
    """The checkpoint that everything begins with. Raises ConfigError when --from has none."""
    stage = next((stage for stage in recipe.stages if isinstance(stage, SftStage)), None)
    if stage is None:
        raise ConfigError(f"{recipe.source}: stages: there is no sft stage\n  fix: add one")
    run = arguments.start
    if run is None:
        run = braid_train(arguments, folder / "supervised", {"stages": [stage.model_dump(mode="json")]})
    return RunDirectory(run).model(stage.name)


def accuracy(run: Path, stage: str) -> dict[str, Any]:
    """Held-out accuracy at the end, and (tokens sampled so far, accuracy) of each validation."""
    tokens, curve = 0.0, []
    for row in read_metrics(run / METRICS_FILE, stage):
        tokens += row.get("tokens/sampled", 0.0)
        if "validation/accuracy" in row:
            curve.append((int(tokens), row["validation/accuracy"]))
    (arm,) = read_json(run / "summary.json")["arms"].values()
    return {"held_out": arm[stage]["accuracy"], "interval": arm[stage]["interval"], "validation": curve}


def staleness_runs(bench: Bench, number: int) -> dict[str, dict[str, Any]]:
    """One round: S -> what its run showed."""
    arguments, name, found = bench.arguments, bench.stage.name, {}
    for bound in arguments.staleness:
        changes = {
            "staleness": bound, "steps": arguments.steps, "validate_every": max(1, arguments.steps // 2),
        }  # fmt: skip
        run = bench.train(f"s{bound}", number, changes, problems=arguments.problems)
        found[str(bound)] = {
            "run": run,
            "pace": pace_of(run, name),
            "staleness": staleness_histogram(RunDirectory(run).ledger, name),
            "accuracy": accuracy(run, name),
        }
    return found


def simulated_runs(bench: Bench, number: int, source: Path) -> dict[str, Pace]:
    """One round: S -> the pace with a learner that takes the time it took in `source`, and no core."""
    found = {}
    for bound in bench.arguments.staleness:
        changes = {"staleness": bound, "steps": bench.arguments.steps, "validate_every": 0}
        options = ("--simulate", "learner", "--simulate-from", str(source))
        run = bench.train(f"simulated-s{bound}", number, changes, options=options)
        found[str(bound)] = pace_of(run, bench.stage.name)
    return found


def simulated_figures(rounds: Sequence[dict[str, Pace]]) -> dict[str, Any]:
    """The document's keys, each by S."""

    def median(bound: str, name: str) -> float:
        return statistics.median(float(getattr(found[bound], name)) for found in rounds)

    rates = {bound: median(bound, "steps_per_hour") for bound in rounds[0]}
    idle = {b: {"learner": median(b, "learner_idle"), "engine": median(b, "engine_idle")} for b in rounds[0]}
    return {"simulated_learner": {"steps_per_hour": rates, "idle": idle}}


def staleness_figures(rounds: Sequence[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """The document's keys, each by S."""
    document: dict[str, Any] = {"steps_per_hour": {}, "idle": {}, "staleness": {}, "accuracy": {}}
    for bound in rounds[0]:
        runs = [found[bound] for found in rounds]
        document["steps_per_hour"][bound] = statistics.median(run["pace"].steps_per_hour for run in runs)
        document["idle"][bound] = {
            "learner": statistics.median(run["pace"].learner_idle for run in runs),
            "engine": statistics.median(run["pace"].engine_idle for run in runs),
            "waits": {
                name: statistics.median(run["pace"].waits[name] for run in runs)
                for name in runs[0]["pace"].waits
            },
        }
        tokens: Counter[int] = Counter()
        for run in runs:
            tokens.update(run["staleness"])
        document["staleness"][bound] = {str(lag): count for lag, count in sorted(tokens.items())}
        document["accuracy"][bound] = {
            "held_out": statistics.mean(run["accuracy"]["held_out"] for run in runs),
            "rounds": [run["accuracy"] for run in runs],
        }
    return document


def trl_run(bench: Bench, run: Path, name: str, threads: int, options: Sequence[str]) -> dict[str, float]:
    """-> samples and tokens per second of TRL's trainer, on what `run` trained. Raises RunFailed."""
    arguments, label = bench.arguments, f"{run.name}-{name}-{threads}"
    file = bench.folder / f"{label}.json"
    script = [sys.executable, str(SCRIPTS / "trl_grpo.py"), str(run), "--json", str(file)]
    variables = {
        "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore",
        "VLLM_LOGGING_LEVEL": "ERROR", "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    steps = ("--steps", str(arguments.trl_steps))
    call([*script, *steps, *options], bench.folder / f"{label}.log", variables)
    found, warm = read_json(file), arguments.warmup
    seconds = found["finished_s"][-1] - found["finished_s"][warm - 1]
    counted = len(found["finished_s"]) - warm
    samples, tokens = counted * found["samples_per_step"], sum(found["tokens"][warm:])
    return {"samples_per_s": samples / seconds, "tokens_per_sample": tokens / samples}


def against_trl(bench: Bench, number: int, shipped: list[str]) -> dict[str, Any]:
    """One round. `shipped`: the error of colocate mode as it is, once that is known ("" for none)."""
    stage, arguments = bench.stage, bench.arguments
    steps = arguments.trl_steps
    run = bench.train("braid", number, {"steps": steps, "validate_every": 0})
    samples = steps * stage.groups_per_step * stage.samples_per_group
    sampled = sum(staleness_histogram(RunDirectory(run).ledger, stage.name).values())
    found: dict[str, Any] = {
        "braid": {
            "samples_per_s": samples / pace_of(run, stage.name).seconds,
            "tokens_per_sample": sampled / samples,
        }
    }
    found["default"] = {str(t): trl_run(bench, run, "default", t, ()) for t in arguments.threads}
    if not arguments.colocate:
        return found
    colocate = ("--generation", "colocate")
    if not shipped:
        try:
            trl_run(bench, run, "shipped", arguments.threads[0], colocate)
            shipped.append("")
        except RunFailed as error:
            shipped.append(str(error))
    options = (*colocate, "--plain-gemm") if shipped[0] else colocate
    found["colocate"] = {str(t): trl_run(bench, run, "colocate", t, options) for t in arguments.threads}
    return found


def trl_figures(rounds: Sequence[dict[str, Any]], shipped: Sequence[str]) -> dict[str, Any]:
    """Keys of the JSON document that compare with TRL."""
    own = statistics.median(found["braid"]["samples_per_s"] for found in rounds)
    rates, document = {"braid": own}, {}
    for mode in [mode for mode in ("default", "colocate") if mode in rounds[0]]:
        best = max(
            statistics.median(found[mode][threads]["samples_per_s"] for found in rounds)
            for threads in rounds[0][mode]
        )
        rates[f"trl_{mode}"], document[f"over_trl_{mode}"] = best, own / best
    return document | {
        "samples_per_s": rates,
        "trl": {"rounds": list(rounds), "colocate_as_shipped": shipped[0] if shipped else None},
    }


def measure(bench: Bench) -> dict[str, Any]:
    """The rounds. -> the document."""
    arguments = bench.arguments
    ahead: list[dict[str, dict[str, Any]]] = []
    simulated: list[dict[str, Pace]] = []
    trl: list[dict[str, Any]] = []
    shipped: list[str] = []
    for number in range(arguments.rounds):
        if "staleness" in arguments.parts:
            ahead.append(staleness_runs(bench, number))
        if "simulated" in arguments.parts:
            source = ahead[-1][str(arguments.staleness[0])]["run"]
            simulated.append(simulated_runs(bench, number, source))
        if "trl" in arguments.parts:
            trl.append(against_trl(bench, number, shipped))
    return {
        "recipe": bench.recipe.source, "cores": os.cpu_count(), "rounds": arguments.rounds,
        "steps": arguments.steps, "trl_steps": arguments.trl_steps,
        **(staleness_figures(ahead) if ahead else {}),
        **(simulated_figures(simulated) if simulated else {}),
        **(trl_figures(trl, shipped) if trl else {}),
    }  # fmt: skip


def show(document: dict[str, Any]) -> None:
    """The figures in the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=100)
    if "steps_per_hour" in document:
        table = Table("S", "steps/h", "learner idle", "engine idle", "tokens by staleness", "held-out")
        for bound, rate in document["steps_per_hour"].items():
            idle, tokens = document["idle"][bound], document["staleness"][bound]
            shares = ", ".join(f"{lag}: {count / sum(tokens.values()):.0%}" for lag, count in tokens.items())
            table.add_row(
                bound, f"{rate:,.0f}", f"{idle['learner']:.0%}", f"{idle['engine']:.0%}", shares,
                f"{document['accuracy'][bound]['held_out']:.3f}",
            )  # fmt: skip
        console.print(table)
    if "simulated_learner" in document:
        table = Table("S, learner simulated", "steps/h", "over the first", "learner idle", "engine idle")
        rates = document["simulated_learner"]["steps_per_hour"]
        for bound, rate in rates.items():
            idle = document["simulated_learner"]["idle"][bound]
            over = rate / next(iter(rates.values()))
            table.add_row(
                bound, f"{rate:,.0f}", f"{over:.2f}", f"{idle['learner']:.0%}", f"{idle['engine']:.0%}"
            )
        console.print(table)
    if "samples_per_s" in document:
        table = Table("trainer", "samples/s", "Braid over it", "promised")
        for name, rate in document["samples_per_s"].items():
            key = f"over_{name}"
            over = (f"{document[key]:.2f}", f"{REQUIRED[key]:.1f}") if key in document else ("", "")
            table.add_row(name, f"{rate:.1f}", *over)
        console.print(table)
        if document["trl"]["colocate_as_shipped"]:
            console.print(f"colocate as it is: {document['trl']['colocate_as_shipped']}", markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark. -> process exit code: 0 measured, 2 the input cannot work, 1 something failed."""
    arguments = _parser().parse_args(argv)
    output, arguments.recipe = arguments.json.absolute(), arguments.recipe.absolute()
    try:
        recipe = load_recipe(arguments.recipe, arguments.overrides)
        check(arguments, recipe)
        with tempfile.TemporaryDirectory(prefix="braid-bench-") as temporary:
            folder = (arguments.out or Path(temporary)).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            model = supervised(arguments, recipe, folder)
            document = measure(Bench(arguments=arguments, recipe=recipe, folder=folder, model=model))
    except BraidError as error:
        print(f"bench_async: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    show(document)
    print(f"bench_async: wrote {output}")
    return 0


def check(arguments: argparse.Namespace, recipe: Recipe) -> None:
    """What would otherwise be found after minutes. Raises ConfigError."""
    if not any(isinstance(stage, RlStage) for stage in recipe.stages):
        raise ConfigError(f"{recipe.source}: stages: there is no rl stage\n  fix: add one")
    if "trl" in arguments.parts and recipe.protocol.name != "sequential":
        raise ConfigError(
            f"{recipe.source}: protocol.name: is {recipe.protocol.name}, and TRL's trainer samples one call "
            "an episode\n  fix: give a recipe of the protocol sequential, or --parts staleness"
        )
    if "simulated" in arguments.parts and "staleness" not in arguments.parts:
        raise ConfigError("--parts simulated: needs times of the part staleness\n  fix: add that one")
    if not 1 <= arguments.warmup < arguments.trl_steps:
        raise ConfigError(
            f"--warmup {arguments.warmup}: must be at least 1 and leave some of --trl-steps "
            f"{arguments.trl_steps}\n  fix: raise --trl-steps"
        )
    if not arguments.json.absolute().parent.is_dir():
        raise ConfigError(f"--json {arguments.json}: there is no such folder\n  fix: make it")
    if arguments.out is not None and arguments.out.exists() and any(arguments.out.iterdir()):
        raise ConfigError(
            f"--out {arguments.out}: is not empty, and resumed runs cannot be timed\n  fix: name a new folder"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench_async", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json", type=Path, required=True, metavar="FILE", help="file for the figures")
    add("--from", dest="start", type=Path, metavar="RUN", help="a run whose sft stage is finished")
    add("--out", type=Path, metavar="DIR", help="keep the runs there; default: nowhere")
    add("--parts", nargs="+", choices=PARTS, default=PARTS)
    add("--staleness", type=int, nargs="+", default=(0, 1, 2, 4), metavar="S")
    add("--steps", type=int, default=20, metavar="N", help="steps of each staleness run; default 20")
    add("--problems", type=int, default=512, metavar="N", help="held-out problems; default 512")
    add("--trl-steps", type=int, default=8, metavar="N", help="steps of either trainer; default 8")
    add("--warmup", type=int, default=1, metavar="N", help="steps of TRL that do not count; default 1")
    add("--threads", type=int, nargs="+", default=(1, 2), metavar="N", help="TRL's, each tried")
    add("--no-colocate", dest="colocate", action="store_false", help="leave TRL's colocate mode out")
    add("--rounds", type=int, default=1, metavar="N", help="turns; default 1")
    add("--recipe", type=Path, default=RECIPE, help="default: the demo's sequential baseline")
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as in braid train")
    return parser


if __name__ == "__main__":
    sys.exit(main())
