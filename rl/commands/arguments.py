"""Options, option types and checks that several commands share."""

import argparse
from pathlib import Path
from typing import TypeAlias

from data.errors import ConfigError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Argparse has no public name for what add_subparsers returns."""


def add_command(commands: Commands, name: str, text: str, example: str) -> argparse.ArgumentParser:
    """Add a command's parser: `text` is its help, `example` is printed at the end of the help."""
    return commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments RECIPE and --set."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML file, see recipes/")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="change one key, e.g. rl.steps=3 (a stage's name comes first); may be repeated",
    )  # fmt: skip


def add_address_argument(parser: argparse.ArgumentParser) -> None:
    """The option --address of commands that use Ray."""
    parser.add_argument(
        "--address", metavar="HOST:PORT",
        help="join this Ray cluster, from one of its nodes (auto: this node's); default: start one here",
    )  # fmt: skip


def ensure_run(directory: Path) -> None:
    """Raises ConfigError unless `directory` is a run directory."""
    if not (directory / "recipe.json").is_file():
        raise ConfigError(
            f"{directory}: is not a run directory (no recipe.json)\n  fix: name the --run of a `braid train`"
        )


def positive(text: str) -> int:
    """An option's whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def natural(text: str) -> int:
    """An option's whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be at least 0")
    return value


def _number(text: str, lowest: float, *, above: bool = False) -> float:
    value = float(text)
    if not lowest <= value < float("inf") or (above and value == lowest):
        raise argparse.ArgumentTypeError(f"must be {'above' if above else 'at least'} {lowest:g}")
    return value


def amount(text: str) -> float:
    """An option's finite number of at least 0."""
    return _number(text, 0)


def above_zero(text: str) -> float:
    """An option's finite number above 0."""
    return _number(text, 0, above=True)


def at_least_one(text: str) -> float:
    """An option's finite number of at least 1."""
    return _number(text, 1)


def share(text: str) -> float:
    """An option's share between 0 and 0.95."""
    value = _number(text, 0)
    if value > 0.95:
        raise argparse.ArgumentTypeError("must be at most 0.95")
    return value
