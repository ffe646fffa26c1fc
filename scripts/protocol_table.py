"""Write docs/protocols.md, the table of all protocols, from the protocols' own `facts`.

python scripts/protocol_table.py             writes the page
python scripts/protocol_table.py --check     exit code 1 when the page is not what the code says
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rollout.protocols import PROTOCOLS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "protocols.md"
COLUMNS = ("protocol", "source", "a child sees", "the join", "exact?", "trained tokens", "barrier")
HEAD = """# Protocols

One file each in `rollout/protocols/`, whose docstring has the rules and a worked example; the same object
builds demonstrations, drives rollouts and evaluation, and says what is trained. "Exact" means: equal to the
published method on an unmodified engine, every call being one causal token list. This page is written by
`scripts/protocol_table.py`.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """-> process exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare only")
    arguments = parser.parse_args(argv)
    page = render()
    if arguments.check:
        if not PAGE.exists() or PAGE.read_text() != page:
            print(
                f"{PAGE} is not what the code says\n  fix: python scripts/protocol_table.py", file=sys.stderr
            )
            return 1
        return 0
    PAGE.write_text(page)
    print(f"wrote {PAGE}")
    return 0


def render() -> str:
    """Text of the whole page."""
    rows = [
        (f"`{name}`", f.source, f.child_context, f.join, f.exact, f.trained, f.barrier)
        for name, f in ((name, protocol.card) for name, protocol in PROTOCOLS.items())
    ]
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{HEAD}\n{table}\n"


if __name__ == "__main__":
    sys.exit(main())
