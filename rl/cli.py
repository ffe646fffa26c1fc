"""The `braid` command: parses arguments, calls one function, turns errors into one message and an exit code.

Exit codes: 0 done; 1 something failed at run time; 2 the input cannot work; 130 or 143 stopped by a signal.
Handlers import what they need: `braid --help` and every refusal come without torch, Ray or vLLM.
"""

import argparse
import asyncio
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from data.errors import BraidError, ConfigError
from rl.runtime.address import ensure_answers
from rl.runtime.environment import set_driver_environment

if TYPE_CHECKING:
    from rl.config import Recipe

_INTERRUPTED, _TERMINATED = 130, 143

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Argparse has no public name for what add_subparsers returns."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. -> process exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parsed = build_parser().parse_args(arguments)
    set_driver_environment()
    try:
        return int(parsed.handler(parsed))
    except ConfigError as error:
        return _refuse(error, 2)
    except BraidError as error:
        return _refuse(error, 1)
    except KeyboardInterrupt:
        return _stopped(parsed.command, arguments, _INTERRUPTED)
    except asyncio.CancelledError:
        return _stopped(parsed.command, arguments, _TERMINATED)


def _refuse(error: BraidError, code: int) -> int:
    # Ray hands on a worker's error as an instance of the same class, with the original in `cause`.
    print(f"braid: {getattr(error, 'cause', error)}", file=sys.stderr)
    return code


def _stopped(command: str, arguments: Sequence[str], code: int) -> int:
    hint = "; what is finished is kept. Resume with the same command:" if command == "train" else ""
    print(f"\nbraid: stopped{hint}", file=sys.stderr)
    if hint:
        print(f"  {shlex.join(['braid', *arguments])}", file=sys.stderr)
    return code


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = argparse.ArgumentParser(
        prog="braid",
        description="Train language models to think in parallel: fork, search concurrently, join.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_eval(commands)
    _add_export(commands)
    _add_replay(commands)
    _add_plan(commands)
    _add_check(commands)
    _add_doctor(commands)
    return parser


def _command(commands: Commands, name: str, text: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _recipe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML file, see recipes/")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="change one key, e.g. rl.steps=3 (a stage's name comes first); may be repeated",
    )  # fmt: skip


def _address_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address", metavar="HOST:PORT",
        help="join this Ray cluster, from one of its nodes (auto: the one it is in); else one is started",
    )  # fmt: skip


def _add_train(commands: Commands) -> None:
    parser = _command(
        commands, "train", "run all stages of a recipe, or resume them",
        "braid train recipes/countdown_cpu.yaml --run runs/demo --set rl.steps=20",
    )  # fmt: skip
    _recipe_arguments(parser)
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="run directory; made, or resumed"
    )
    _address_argument(parser)
    parser.add_argument(
        "--simulate", choices=("learner", "rollout"),
        help="play this side of rl stages from another run's record, to measure the other one alone",
    )  # fmt: skip
    parser.add_argument("--simulate-from", type=Path, metavar="RUN", help="finished run to play it from")
    parser.set_defaults(handler=_train)


def _train(arguments: argparse.Namespace) -> int:
    from rl.config import fingerprint, load_recipe, resolved
    from rl.preflight.check import ensure_runnable
    from rl.storage.run_directory import RunDirectory

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    ensure_runnable(recipe, remote=arguments.address is not None)
    ensure_answers(arguments.address)
    mark = fingerprint(recipe)
    if (arguments.simulate is None) != (arguments.simulate_from is None):
        raise ConfigError("--simulate and --simulate-from belong together: which side, and from which run")
    if arguments.simulate is not None:
        _ensure_run(arguments.simulate_from)
        _ensure_no_validation(recipe, arguments.simulate)
        # The run works in its own directory.
        source = arguments.simulate_from.absolute()
        mark = f"{mark}, simulated {arguments.simulate} from {source}"
    RunDirectory(arguments.run).open(resolved(recipe), mark)
    from rl.run import run
    from rl.simulation.simulated import Simulated

    simulated = None
    if arguments.simulate is not None:
        simulated = Simulated(side=arguments.simulate, source=source)
    return run(recipe, arguments.run, arguments.address, simulated)


def _ensure_no_validation(recipe: "Recipe", side: str) -> None:
    for stage in recipe.stages:
        if side == "rollout" and stage.kind == "rl" and stage.validate_every:
            raise ConfigError(
                f"{stage.name}.validate_every = {stage.validate_every}: played engines cannot sample "
                f"validation problems\n  fix: --set {stage.name}.validate_every=0"
            )


def _add_eval(commands: Commands) -> None:
    parser = _command(
        commands, "eval", "measure a trained stage of a run again",
        "braid eval runs/demo --checkpoint rl --samples 4 --split test",
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--checkpoint", metavar="STAGE", help="sft or rl stage; default: the last one")
    parser.add_argument(
        "--samples", type=_positive, default=1, metavar="N", help="episodes per problem; default 1"
    )
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="default: test")
    parser.add_argument("--protocol", metavar="NAME", help="think by this protocol; default: the recipe's")
    _address_argument(parser)
    parser.set_defaults(handler=_eval)


def _eval(arguments: argparse.Namespace) -> int:
    _ensure_run(arguments.run)
    ensure_answers(arguments.address)
    from rl.run import evaluate

    return evaluate(
        arguments.run,
        arguments.checkpoint,
        samples=arguments.samples,
        split=arguments.split,
        protocol=arguments.protocol,
        address=arguments.address,
    )


def _add_export(commands: Commands) -> None:
    parser = _command(
        commands, "export", "write a trained stage as a plain Hugging Face directory",
        "braid export runs/demo --checkpoint rl --output my-model",
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--checkpoint", metavar="STAGE", help="sft or rl stage; default: the last one")
    parser.add_argument("--output", type=Path, metavar="DIR", required=True, help="where to")
    parser.set_defaults(handler=_export)


def _export(arguments: argparse.Namespace) -> int:
    _ensure_run(arguments.run)
    from rl.run import export

    return export(arguments.run, arguments.checkpoint, arguments.output)


def _add_replay(commands: Commands) -> None:
    parser = _command(
        commands, "replay", "train a finished rl stage again from its record, and compare the weights",
        "braid replay runs/demo --stage rl",
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--stage", metavar="STAGE", help="rl stage; default: the last one")
    parser.set_defaults(handler=_replay)


def _replay(arguments: argparse.Namespace) -> int:
    _ensure_run(arguments.run)
    from rl.learner.replay import replay

    return replay(arguments.run, arguments.stage)


def _add_plan(commands: Commands) -> None:
    parser = _command(
        commands, "plan", "simulate an rl stage: throughput, idle shares and staleness of many choices",
        "braid plan recipes/countdown_cpu.yaml --from runs/demo --staleness 0 1 2 4 --groups-per-step 16 32",
    )  # fmt: skip
    _recipe_arguments(parser)
    parser.add_argument("--stage", metavar="STAGE", help="rl stage; default: the last one")
    parser.add_argument("--from", dest="run", type=Path, metavar="RUN", help="finished run to measure")
    choices = parser.add_argument_group("choices; every combination is simulated")
    choices.add_argument(
        "--staleness", type=_natural, nargs="+", metavar="S", help="default: 0 1 2 4 and the recipe's"
    )
    choices.add_argument(
        "--nodes", type=_positive, nargs="+", metavar="N",
        help="nodes for engines, apart from the learner's; default: one, shared with it as in the run",
    )  # fmt: skip
    choices.add_argument("--engines-per-node", type=_positive, metavar="K", help="default: the recipe's")
    choices.add_argument(
        "--groups-per-step", type=_positive, nargs="+", metavar="B", help="default: the recipe's"
    )
    choices.add_argument("--steps", type=_positive, metavar="N", help="steps to simulate; default: all")
    rates = parser.add_argument_group("what is not as in the run, or there is none")
    rates.add_argument(
        "--learner-ranks", type=_positive, metavar="N",
        help="processes that share the learner's tokens evenly; default: the recipe's",
    )  # fmt: skip
    rates.add_argument(
        "--decode-ms", type=_amount, nargs=2, metavar=("STEP", "CALL"),
        help="a decode step with n live calls takes STEP + CALL * n milliseconds",
    )  # fmt: skip
    rates.add_argument(
        "--learner-tokens-per-s", type=_above_zero, metavar="R", help="sampled tokens, all ranks together"
    )
    rates.add_argument("--learner-s", type=_amount, metavar="S", help="a step's seconds beside its tokens")
    rates.add_argument("--publish-s", type=_amount, metavar="S", help="seconds to publish weights")
    rates.add_argument(
        "--contention", type=_at_least_one, nargs=2, metavar=("ENGINE", "LEARNER"),
        help="how many times as long each takes while the other works; 1 1: they share nothing",
    )  # fmt: skip
    rates.add_argument(
        "--episode", dest="episodes", type=_above_zero, nargs=2, action="append", default=[],
        metavar=("TOTAL", "CRITICAL"),
        help="tokens of an episode, and on its longest path; repeat it for a distribution",
    )  # fmt: skip
    rates.add_argument("--filtered", type=_share, metavar="X", help="share of groups without signal")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there too")
    parser.set_defaults(handler=_plan)


def _plan(arguments: argparse.Namespace) -> int:
    from rl.config import load_recipe
    from rl.simulation.command import Question, plan

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.run is not None:
        _ensure_run(arguments.run)
    asked = {name: value for name, value in vars(arguments).items() if name in Question.__slots__}
    return plan(recipe, Question(**asked))


def _add_check(commands: Commands) -> None:
    parser = _command(
        commands, "check", "validate a recipe against this machine, without starting anything",
        "braid check recipes/countdown_cpu.yaml --set engine.num_engines=2",
    )  # fmt: skip
    _recipe_arguments(parser)
    parser.set_defaults(handler=_check)


def _check(arguments: argparse.Namespace) -> int:
    from rl.config import load_recipe
    from rl.preflight.check import ensure_runnable, render

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    print(render(recipe, ensure_runnable(recipe)))
    return 0


def _add_doctor(commands: Commands) -> None:
    parser = _command(
        commands, "doctor", "say what this machine can run, and why not", "braid doctor --quick"
    )
    parser.add_argument("--quick", action="store_true", help="do not try to import the large packages")
    parser.set_defaults(handler=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from rl.preflight.doctor import report

    return report(try_imports=not arguments.quick)


def _ensure_run(directory: Path) -> None:
    if not (directory / "recipe.json").is_file():
        raise ConfigError(
            f"{directory}: is no run directory (no recipe.json)\n  fix: name the --run of a `braid train`"
        )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be at least 0")
    return value


def _number(text: str, lowest: float, *, above: bool = False) -> float:
    value = float(text)
    if not lowest <= value < float("inf") or (above and value == lowest):
        raise argparse.ArgumentTypeError(f"must be {'above' if above else 'at least'} {lowest:g}")
    return value


def _amount(text: str) -> float:
    return _number(text, 0)


def _above_zero(text: str) -> float:
    return _number(text, 0, above=True)


def _at_least_one(text: str) -> float:
    return _number(text, 1)


def _share(text: str) -> float:
    value = _number(text, 0)
    if value > 0.95:
        raise argparse.ArgumentTypeError("must be at most 0.95")
    return value


if __name__ == "__main__":
    sys.exit(main())
