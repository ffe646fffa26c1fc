"""`braid serve`: an export behind the OpenAI API."""

import argparse
import os
from pathlib import Path

from data.errors import ConfigError
from rl.commands.arguments import Commands, above_zero, add_command, amount, natural, positive

KEY_VARIABLE = "BRAID_API_KEY"


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "serve", "answer requests of OpenAI clients with an export's protocol",
        "braid serve runs/demo/export --port 8000",
    )  # fmt: skip
    parser.add_argument("export", type=Path, metavar="EXPORT", help="directory that `braid export` wrote")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: 127.0.0.1")
    parser.add_argument("--port", type=natural, default=8000, help="0 takes a free one; default: 8000")
    parser.add_argument("--name", help="model name in the API; default: that of the folder")
    parser.add_argument(
        "--api-key-file", type=Path, metavar="FILE",
        help=f"one API key on each line; a single one may be in {KEY_VARIABLE} instead",
    )  # fmt: skip
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="number format of the engine; default: the export's"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    parser.add_argument(
        "--kv-cache-gb", type=above_zero, default=0.25, metavar="GB",
        help="key-value cache of the engine; default: 0.25",
    )  # fmt: skip
    parser.add_argument(
        "--max-live-calls", type=positive, default=256, metavar="N",
        help="calls that the engine decodes at once; default: 256",
    )  # fmt: skip
    parser.add_argument(
        "--tensor-parallel", type=positive, default=1, metavar="N",
        help="cores or GPUs that the model is split over; default: 1",
    )  # fmt: skip
    parser.add_argument(
        "--max-episodes", type=positive, default=512, metavar="N",
        help="episodes in progress, waiting ones included; further requests get 429; default: 512",
    )  # fmt: skip
    parser.add_argument(
        "--max-body-mb", type=above_zero, default=4.0, metavar="MB", help="largest request; default: 4"
    )
    parser.add_argument(
        "--drain-seconds", type=amount, default=30.0, metavar="S",
        help="time that requests in progress have after the first signal to stop; default: 30",
    )  # fmt: skip
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve an export and return the exit code."""
    keys = _keys(arguments.api_key_file)
    if arguments.name is not None and (":" in arguments.name or not arguments.name.strip()):
        raise ConfigError(f"--name {arguments.name!r}: a colon separates name and protocol, so give another")
    from rl.serving.server import ServeSettings, serve

    return serve(
        ServeSettings(
            export=arguments.export,
            name=arguments.name,
            host=arguments.host,
            port=arguments.port,
            keys=keys,
            dtype=arguments.dtype,
            device=arguments.device,
            kv_cache_gb=arguments.kv_cache_gb,
            max_live_calls=arguments.max_live_calls,
            tensor_parallel=arguments.tensor_parallel,
            most_episodes=arguments.max_episodes,
            body_bytes=int(arguments.max_body_mb * 1024 * 1024),
            drain_seconds=arguments.drain_seconds,
        ),
        on_ready=lambda line: print(line, flush=True),
    )


def _keys(file: Path | None) -> tuple[str, ...]:
    """Raises ConfigError for a file that cannot be read or holds no key."""
    keys = [os.environ[KEY_VARIABLE]] if os.environ.get(KEY_VARIABLE) else []
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(f"--api-key-file {file}: cannot be read ({error})") from error
        found = [line.strip() for line in lines if line.strip()]
        if not found:
            raise ConfigError(f"--api-key-file {file}: holds no key; write one on each line")
        keys += found
    return tuple(keys)
