"""`braid episodes`: write recorded episodes in another program's format."""

import argparse
from pathlib import Path

from data.errors import ConfigError
from rl.commands.arguments import Commands, add_command, ensure_run

_SCHEMES = ("http://", "https://")


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "episodes", "write recorded episodes as Inspect logs or OpenTelemetry spans",
        "braid episodes runs/demo --stage eval --to inspect -o logs",
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--to", choices=("inspect", "otlp"), required=True, help="format")
    parser.add_argument(
        "--stage", metavar="NAME", help="only this stage; default: all that recorded episodes"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="WHERE",
        help="inspect: a folder for .eval files; otlp: a .jsonl file, or the http address of a collector",
    )  # fmt: skip
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write or send the episodes, print how many, return the exit code."""
    ensure_run(arguments.run)
    where, is_address = Path(arguments.output), arguments.output.startswith(_SCHEMES)
    if arguments.to == "inspect" and (is_address or (where.exists() and not where.is_dir())):
        raise ConfigError(f"-o {arguments.output}: is not a folder\n  fix: name one for the .eval files")
    if arguments.to == "otlp" and not is_address and where.suffix != ".jsonl":
        raise ConfigError(
            f"-o {arguments.output}: spans are written as JSON Lines\n"
            "  fix: let its name end in .jsonl, or give an address such as http://127.0.0.1:4318/v1/traces"
        )
    from rl.episode_export.source import sources

    found = sources(arguments.run, arguments.stage)
    if arguments.to == "inspect":
        from rl.episode_export.inspect_log import write_logs

        for path, count in write_logs(found, where):
            print(f"{path}: {count} episodes")
        return 0
    from rl.episode_export.otlp import send_spans, write_spans

    count = send_spans(found, arguments.output) if is_address else write_spans(found, where)
    print(f"{arguments.output}: {count} episodes")
    return 0
