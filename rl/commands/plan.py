"""`braid plan`: simulate an rl stage under many choices."""

import argparse
from pathlib import Path

from rl.commands.arguments import (
    Commands,
    above_zero,
    add_command,
    add_recipe_arguments,
    amount,
    at_least_one,
    ensure_run,
    natural,
    positive,
    share,
)


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "plan", "simulate an rl stage under many choices: throughput, idle shares, staleness",
        "braid plan recipes/countdown_cpu.yaml --from runs/demo --staleness 0 1 2 4 --groups-per-step 16 32",
    )  # fmt: skip
    add_recipe_arguments(parser)
    parser.add_argument("--stage", metavar="STAGE", help="rl stage; default: the last one")
    parser.add_argument("--from", dest="run", type=Path, metavar="RUN", help="finished run to measure")
    choices = parser.add_argument_group("choices; every combination is simulated")
    choices.add_argument(
        "--staleness", type=natural, nargs="+", metavar="S", help="default: 0 1 2 4 and the recipe's"
    )
    choices.add_argument(
        "--nodes", type=positive, nargs="+", metavar="N",
        help="nodes for engines, apart from the learner's; default: one, shared with it as in the run",
    )  # fmt: skip
    choices.add_argument("--engines-per-node", type=positive, metavar="K", help="default: the recipe's")
    choices.add_argument(
        "--groups-per-step", type=positive, nargs="+", metavar="B", help="default: the recipe's"
    )
    choices.add_argument("--steps", type=positive, metavar="N", help="steps to simulate; default: all")
    rates = parser.add_argument_group("rates that differ from the run's; without a run, all of them")
    rates.add_argument(
        "--learner-ranks", type=positive, metavar="N",
        help="processes that share the learner's tokens evenly; default: the recipe's",
    )  # fmt: skip
    rates.add_argument(
        "--decode-ms", type=amount, nargs=2, metavar=("STEP", "CALL"),
        help="a decode step with n live calls takes STEP + CALL * n milliseconds",
    )  # fmt: skip
    rates.add_argument(
        "--learner-tokens-per-s", type=above_zero, metavar="R", help="sampled tokens, all ranks together"
    )
    rates.add_argument("--learner-s", type=amount, metavar="S", help="fixed seconds per step")
    rates.add_argument("--publish-s", type=amount, metavar="S", help="seconds to publish weights")
    rates.add_argument(
        "--contention", type=at_least_one, nargs=2, metavar=("ENGINE", "LEARNER"),
        help="slowdown of engine and learner while the other works; 1 1: they share nothing",
    )  # fmt: skip
    rates.add_argument(
        "--episode", dest="episodes", type=above_zero, nargs=2, action="append", default=[],
        metavar=("TOTAL", "CRITICAL"),
        help="tokens of an episode, and of its longest path; may be repeated",
    )  # fmt: skip
    rates.add_argument("--filtered", type=share, metavar="X", help="share of groups without signal")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table to this file")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Simulate an rl stage under many choices and return the exit code."""
    from rl.config import load_recipe
    from rl.preflight.precision import with_precision
    from rl.simulation.command import plan
    from rl.simulation.question import Question

    recipe = with_precision(load_recipe(arguments.recipe, arguments.overrides))
    if arguments.run is not None:
        ensure_run(arguments.run)
    asked = {name: value for name, value in vars(arguments).items() if name in Question.__slots__}
    return plan(recipe, Question(**asked))
