"""How well `braid plan` would have predicted finished runs: rates of one run, steps per hour of others.

    python scripts/check_plan.py --fit runs/s1 --against runs/s0 runs/s1 runs/s2 --json FILE

Rates and episode lengths are taken from the run of `--fit`, only settings from the others. So
they have to be runs of one recipe on one machine, as free of other work in one as in the other.

Exit codes are those of `braid`: 0 done, 2 the input is invalid.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.errors import ConfigError
from rl.simulation.command import measured_steps_per_hour, plan_of
from rl.simulation.measure import measure_rates
from rl.simulation.recorded import read_run
from rl.simulation.simulator import simulate


def main(argv: Sequence[str] | None = None) -> int:
    """-> process exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fit", type=Path, required=True, metavar="RUN", help="finished run to measure")
    parser.add_argument(
        "--against", type=Path, nargs="+", required=True, metavar="RUN", help="finished runs to predict"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the comparison to this file")
    arguments = parser.parse_args(argv)
    try:
        rows = compare(arguments.fit, arguments.against)
    except ConfigError as error:
        print(f"check_plan: {error}", file=sys.stderr)
        return 2
    for row in rows:
        print(
            f"{row['run']}: S {row['staleness']}, {row['groups_per_step']} groups a step: "
            f"{row['measured']:.1f} steps/h measured, {row['simulated']:.1f} simulated ({row['error']:+.1%})"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"fit": str(arguments.fit), "runs": rows}, indent=2) + "\n")
    return 0


def compare(fit: Path, against: Sequence[Path]) -> list[dict[str, Any]]:
    """One row a run. Raises ConfigError for what is no finished run."""
    known = read_run(fit)
    rates = measure_rates(known)
    rows = []
    for path in against:
        run = read_run(path)
        measured = measured_steps_per_hour(run)
        simulated = simulate(plan_of(run.recipe, run.stage, rates, known)).steps_per_hour
        rows.append(
            {
                "run": str(path),
                "staleness": run.stage.staleness,
                "groups_per_step": run.stage.groups_per_step,
                "measured": measured,
                "simulated": simulated,
                "error": simulated / measured - 1,
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
