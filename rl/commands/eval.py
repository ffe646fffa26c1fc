"""`braid eval`: evaluate a run's stage, an export, any model directory or an endpoint; compare strategies."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import ConfigError
from rl.commands.arguments import (
    Commands,
    above_zero,
    add_address_argument,
    add_command,
    ensure_run,
    natural,
    positive,
)
from rl.runtime.address import ensure_answers

if TYPE_CHECKING:
    from rl.harness.exam import Exam

_HARNESS = (
    "strategies", "rows", "recipe", "problems", "model", "settings", "json", "out", "max_length", "layout",
    "verifier", "temperature", "seed",
)  # fmt: skip
"""Options with which a run's stage is evaluated in this process, without Ray, and outside the run."""


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "eval", "evaluate a stage of a run, a model directory or an endpoint",
        "braid eval runs/demo --checkpoint rl --samples 4 --split test",
    )  # fmt: skip
    parser.add_argument(
        "target", metavar="TARGET", help="run, export, Hugging Face directory, or http address"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="STAGE",
        help="sft or rl stage, or start (the initial model); default: the last stage",
    )
    parser.add_argument(
        "--samples", type=positive, default=1, metavar="N", help="episodes per problem; default 1"
    )
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="default: test")
    parser.add_argument("--protocol", metavar="NAME", help="use this protocol; default: the target's own")
    group = parser.add_argument_group("outside a run (no Ray)")
    group.add_argument("--recipe", type=Path, metavar="RECIPE", help="ask the problems of this recipe's task")
    group.add_argument("--rows", metavar="FILE", help="ask these rows (formats and layouts of braid data)")
    group.add_argument("--layout", metavar="NAME", help="layout of the rows; default: recognised")
    group.add_argument("--verifier", metavar="NAME", help="verifier of the rows; default: their usual one")
    group.add_argument("--problems", type=positive, metavar="N", help="ask the first N; default: all")
    group.add_argument(
        "--strategies", action="store_true",
        help="also run protocols that steer their sampling, and compare all at equal cost",
    )  # fmt: skip
    group.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE",
        help="change a key of the protocol, e.g. max_tokens=256 or answer.kind=boxed; may be repeated",
    )  # fmt: skip
    group.add_argument("--model", metavar="NAME", help="name of the endpoint's model")
    group.add_argument(
        "--max-length", type=positive, metavar="T", help="longest context and output of a call, in tokens"
    )
    group.add_argument("--temperature", type=above_zero, metavar="T", help="default: 1")
    group.add_argument("--seed", type=natural, metavar="N", help="seed of the samples; default: 0")
    group.add_argument("--out", type=Path, metavar="DIR", help="folder of results; default: eval_TARGET")
    group.add_argument("--json", type=Path, metavar="FILE", help="write the document here, too")
    add_address_argument(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and return the exit code."""
    path = Path(arguments.target)
    if (path / "recipe.json").is_file() and not _is_outside(arguments):
        ensure_run(path)
        ensure_answers(arguments.address)
        from rl.evaluate import evaluate

        return evaluate(
            path,
            arguments.checkpoint,
            samples=arguments.samples,
            split=arguments.split,
            protocol=arguments.protocol,
            address=arguments.address,
        )
    if arguments.address is not None:
        raise ConfigError("--address: only the stage of a run is evaluated on a cluster\n  fix: leave it out")
    return _outside(arguments, path)


def _is_outside(arguments: argparse.Namespace) -> bool:
    return any(getattr(arguments, name) not in (None, False, []) for name in _HARNESS)


def _outside(arguments: argparse.Namespace, path: Path) -> int:
    from data.whole_file import write_json
    from rl.harness.run import Request, run
    from rl.harness.target import find_target

    target = find_target(
        arguments.target,
        checkpoint=arguments.checkpoint,
        model=arguments.model,
        max_length=arguments.max_length,
    )
    name = "".join(letter if letter.isalnum() else "_" for letter in target.name)
    found = run(
        Request(
            target=target,
            exam=_exam(arguments, path),
            protocol=arguments.protocol,
            settings=_settings(arguments.settings),
            samples=arguments.samples,
            temperature=1.0 if arguments.temperature is None else arguments.temperature,
            strategies=arguments.strategies,
            seed=arguments.seed or 0,
            out=arguments.out or Path(f"eval_{name}"),
        )
    )
    if arguments.json is not None:
        write_json(arguments.json, found, sort_keys=False)
    return 0


def _exam(arguments: argparse.Namespace, path: Path) -> "Exam":
    from rl.harness.exam import of_recipe, of_rows, of_run

    most = arguments.problems
    if arguments.rows is not None and arguments.recipe is not None:
        raise ConfigError("--rows and --recipe both say what is asked\n  fix: give one of them")
    if arguments.rows is not None:
        return of_rows(arguments.rows, layout=arguments.layout, verifier=arguments.verifier, most=most)
    if arguments.layout is not None or arguments.verifier is not None:
        raise ConfigError(
            "--layout and --verifier are about rows\n  fix: give --rows FILE, or leave them out"
        )
    if arguments.recipe is not None:
        return of_recipe(arguments.recipe, [], arguments.split, most)
    for run in (path, path.parent):
        if (run / "recipe.json").is_file():
            return of_run(run, arguments.split, most)
    raise ConfigError(f"{arguments.target}: what is asked?\n  fix: add --rows FILE or --recipe RECIPE")


def _settings(pairs: list[str]) -> dict[str, Any]:
    import yaml

    from rl.config.yaml_file import parse_value, problem_of

    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {pair}: is not KEY=VALUE\n  fix: write for instance max_tokens=256")
        try:
            found[key] = parse_value(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {pair}: {problem_of(error)}\n  fix: write a YAML value") from error
    return found
