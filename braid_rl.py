"""The entry point of `braid`: makes sure that the packages `data`, `rewards`, `rollout` and `rl` are ours.

Another package of such a name on PYTHONPATH would be imported instead; this module's own name is unique.
"""

import importlib.util
import sys
from pathlib import Path

_PACKAGES = ("data", "rewards", "rollout", "rl")


def main() -> int:
    """Runs the command line. -> process exit code."""
    foreign = _foreign()
    if foreign:
        print(f"braid: {foreign}", file=sys.stderr)
        return 2
    try:
        from rl.cli import main as run

        return run()
    except KeyboardInterrupt:  # while it was still importing
        return 130


def _foreign() -> str:
    """Which package would come from elsewhere, and what to do; empty when all are ours."""
    ours = Path(__file__).resolve().parent
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        found = None if spec is None or spec.origin is None else Path(spec.origin).resolve().parent
        if found != ours / name:
            return (
                f"the package {name!r} would be imported from {found or 'nowhere'}, not from {ours / name}\n"
                "  fix: unset PYTHONPATH (env -u PYTHONPATH braid ...), or rename the other package"
            )
    return ""


if __name__ == "__main__":
    sys.exit(main())
