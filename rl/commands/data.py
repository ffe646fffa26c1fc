"""`braid data`: look at a file of rows, or a data set on the hub, before training on it."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import ConfigError
from data.text.printable import printable
from rl.commands.arguments import Commands, add_command

if TYPE_CHECKING:
    from data.tasks.dataset.params import DatasetParams
    from rewards.verifiers.base import VerifierParams


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "data", "look at rows of your own: layout, lengths, duplicates, gold answers, first prompt",
        "braid data mine.jsonl --model models/SmolLM2-135M-Instruct --verifier gsm8k",
    )  # fmt: skip
    parser.add_argument("source", metavar="FILE|HUB", help="jsonl, json, csv, parquet, arrow; or a hub name")
    parser.add_argument("--config", metavar="NAME", help="configuration of a hub name")
    parser.add_argument("--split", metavar="NAME", help="split of a hub name; default: train")
    parser.add_argument("--test", type=Path, metavar="FILE", help="held-out rows, to look for overlap")
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="measure in this model's tokens, through its chat template"
    )
    parser.add_argument("--layout", metavar="NAME", help="layout of the rows; default: recognised")
    parser.add_argument(
        "--columns", nargs="+", default=[], metavar="KEY=COLUMN",
        help="prompt, messages, answer, id: where they are, e.g. prompt=question answer=extra.gold",
    )  # fmt: skip
    parser.add_argument(
        "--verifier",
        metavar="NAME",
        help="try gold answers on themselves; default: the layout's usual one",
    )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report and return the exit code; gold answers that do not verify end with a ConfigError."""
    from rl.preflight.data_report import describe

    params = _params(arguments)
    sheet = describe(params, arguments.model, _verifier(arguments.verifier))
    print(printable("\n".join(sheet.lines), keep="\n"))
    if sheet.problem is not None:
        raise sheet.problem
    return 0


def _params(arguments: argparse.Namespace) -> "DatasetParams":
    from pydantic import ValidationError

    from data.tasks.dataset.params import DatasetParams

    pairs = dict(pair.partition("=")[::2] for pair in arguments.columns)
    values: dict[str, Any] = {
        "train": _source(arguments),
        "layout": arguments.layout,
        "columns": pairs,
        "overlap": "drop",
    }
    if arguments.test is not None:
        values["test"] = {"file": arguments.test}
    try:
        return DatasetParams.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        said = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"braid data: {key}: {said}\n  fix: see braid data --help") from error


def _source(arguments: argparse.Namespace) -> dict[str, Any]:
    from data.tasks.rows import file_format

    path = Path(arguments.source)
    if file_format(path) is not None or path.is_file() or any(letter in str(path) for letter in "*?["):
        return {"file": path, "config": arguments.config, "split": arguments.split}
    return {"hub": arguments.source, "config": arguments.config, "split": arguments.split}


def _verifier(name: str | None) -> "VerifierParams | None":
    if name is None:
        return None
    from pydantic import TypeAdapter, ValidationError

    from rewards.verifiers.registry import VERIFIERS, VerifierConfig, from_shorthand

    try:
        adapter: TypeAdapter[VerifierParams] = TypeAdapter(VerifierConfig)
        params = adapter.validate_json(json.dumps(from_shorthand(name)))
    except ValidationError as error:
        known = ", ".join(sorted(VERIFIERS))
        raise ConfigError(f"--verifier {name}: is not a verifier\n  fix: use one of {known}") from error
    return params
