"""`braid check`: validate a recipe against this machine."""

import argparse

from data.text.printable import printable
from rl.commands.arguments import Commands, add_command, add_recipe_arguments


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "check", "validate a recipe against this machine, without starting anything",
        "braid check recipes/countdown_cpu.yaml --set engine.num_engines=2",
    )  # fmt: skip
    add_recipe_arguments(parser)
    parser.add_argument(
        "--deep", action="store_true",
        help="also try the recipe's protocols, tasks, terms and verifiers as Braid's own are tested",
    )  # fmt: skip
    parser.add_argument(
        "--shapes", action="store_true",
        help="without weights and machine: a model directory of config.json and tokenizer is enough, and "
        "the memory of each device is printed",
    )  # fmt: skip
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Check a recipe, print the results, return the exit code."""
    from rl.config import load_recipe
    from rl.preflight.check import ensure_runnable, ensure_shapes, render
    from rl.preflight.precision import with_precision

    recipe = with_precision(load_recipe(arguments.recipe, arguments.overrides))
    findings = ensure_shapes(recipe) if arguments.shapes else ensure_runnable(recipe)
    if arguments.deep:
        from rl.preflight.deep_check import check_deeply

        findings += check_deeply(recipe)
    print(printable(render(recipe, findings, shapes=arguments.shapes), keep="\n"))
    return 0
