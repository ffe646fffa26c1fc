"""`braid train`: run all stages of a recipe, or resume them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import ConfigError
from rl.commands.arguments import (
    Commands,
    add_address_argument,
    add_command,
    add_recipe_arguments,
    ensure_run,
)
from rl.runtime.address import ensure_answers

if TYPE_CHECKING:
    from rl.config import Recipe


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "train", "run all stages of a recipe, or resume them",
        "braid train recipes/countdown_cpu.yaml --run runs/demo --set rl.steps=20",
    )  # fmt: skip
    add_recipe_arguments(parser)
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="run directory, new or to resume"
    )
    add_address_argument(parser)
    parser.add_argument(
        "--simulate", choices=("learner", "rollout"),
        help="replay this side of rl stages from another run's record, to measure the other side alone",
    )  # fmt: skip
    parser.add_argument(
        "--simulate-from", type=Path, metavar="RUN", help="finished run whose record is replayed"
    )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Run or resume a recipe's stages and return the exit code."""
    from rl.config import load_recipe
    from rl.preflight.check import ensure_runnable
    from rl.preflight.precision import with_precision
    from rl.storage.run_directory import RunDirectory

    recipe = with_precision(load_recipe(arguments.recipe, arguments.overrides))
    ensure_runnable(recipe, remote=arguments.address is not None)
    ensure_answers(arguments.address)
    if (arguments.simulate is None) != (arguments.simulate_from is None):
        raise ConfigError(
            "--simulate and --simulate-from belong together: which side, and from which run\n"
            "  fix: give both, or neither"
        )
    mark = ""
    if arguments.simulate is not None:
        ensure_run(arguments.simulate_from)
        _ensure_no_validation(recipe, arguments.simulate)
        # The run changes its working directory to the run directory.
        source = arguments.simulate_from.absolute()
        mark = f"{arguments.simulate} from {source}"
    changes = RunDirectory(arguments.run).open(recipe, mark)
    from rl.run import run as run_recipe

    if arguments.simulate is None:
        return run_recipe(recipe, arguments.run, arguments.address, changes=changes)
    from rl.simulation.simulated import simulated_side

    # A simulated side learns or samples nothing that is worth evaluating.
    factories = simulated_side(arguments.simulate, source)
    return run_recipe(
        recipe, arguments.run, arguments.address, changes=changes, factories=factories, training_only=True
    )


def _ensure_no_validation(recipe: "Recipe", side: str) -> None:
    for stage in recipe.stages:
        if side == "rollout" and stage.kind == "rl" and stage.validate_every:
            raise ConfigError(
                f"{stage.name}.validate_every = {stage.validate_every}: simulated engines cannot sample "
                f"validation problems\n  fix: --set {stage.name}.validate_every=0"
            )
