"""Simulate a grid of settings and choose the best of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from rl.simulation.load import coarse
from rl.simulation.plan import Plan, Workload
from rl.simulation.report import Report
from rl.simulation.simulator import simulate

MOST_PIECES = 300_000
"""Most pieces of work in one simulation (some seconds). A larger plan is made coarser, then shorter."""
FEWEST_STEPS = 20
AS_FAST = 0.97
"""Share of the highest throughput that still counts as the highest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One line of the table."""

    staleness: int
    engines: int
    groups_per_step: int
    report: Report


def simulate_choices(
    plan: Plan, *, staleness: Sequence[int], engines: Sequence[int], groups_per_step: Sequence[int]
) -> Iterator[Choice]:
    """Simulate every combination, one after the other; everything else as in `plan`."""
    for size, number, bound in product(groups_per_step, engines, staleness):
        chosen = affordable(replace(plan, staleness=bound, engines=number, groups_per_step=size))
        yield Choice(staleness=bound, engines=number, groups_per_step=size, report=simulate(chosen))


def best_of(choices: Sequence[Choice]) -> Choice:
    """Among the choices with (nearly) the most trained tokens per second, the one with the fewest engines,
    then the lowest S, then the smallest batch.
    """
    enough = AS_FAST * max(choice.report.tokens_per_s for choice in choices)
    fast = [choice for choice in choices if choice.report.tokens_per_s >= enough]
    return min(fast, key=lambda choice: (choice.engines, choice.staleness, choice.groups_per_step))


def affordable(plan: Plan) -> Plan:
    """The plan, cheap enough to simulate: call by call where it is small, else with coarse groups, else with
    fewer steps too, spread over the whole training.
    """
    if _pieces(plan) <= MOST_PIECES:
        return plan
    slots = float(plan.max_live_calls)
    parts = tuple(tuple(coarse(load, most_slots=slots) for load in part) for part in plan.workload.parts)
    plan = replace(plan, workload=Workload(parts=parts))
    steps = int(plan.steps * MOST_PIECES / _pieces(plan))
    fewest = max(FEWEST_STEPS, 4 * (plan.staleness + 1))
    return replace(plan, steps=min(plan.steps, max(fewest, steps)))


def _pieces(plan: Plan) -> float:
    """Estimated number of pieces of work, canaries included."""
    loads = [load for part in plan.workload.parts for load in part]
    mean = sum(len(load.pieces) for load in loads) / len(loads)
    return plan.steps * (plan.groups_per_step * mean / (1 - plan.filtered_share) + plan.engines)


def table(choices: Sequence[Choice], best: Choice) -> str:
    """The choices as a table for the terminal."""
    heads = ("S", "engines", "groups", "steps/h", "tokens/s", "engines idle", "learner idle", "staleness")
    lines = ["  ".join([*heads, "waits for"])]
    for choice in choices:
        report = choice.report
        cells = (
            str(choice.staleness),
            str(choice.engines),
            str(choice.groups_per_step),
            f"{report.steps_per_hour:.1f}",
            f"{report.tokens_per_s:.0f}",
            f"{report.engine_idle:.0%}",
            f"{report.learner_idle:.0%}",
            f"{report.mean_staleness:.2f}",
        )
        row = [cell.rjust(len(head)) for cell, head in zip(cells, heads, strict=True)]
        share = f"{report.waits_for} {report.waits[report.waits_for]:.0%}"
        lines.append("  ".join([*row, f"{share:<14}"]) + ("  <- best" if choice is best else ""))
    return "\n".join(line.rstrip() for line in lines)


def document(choice: Choice, best: Choice) -> dict[str, Any]:
    """A choice as JSON."""
    report = choice.report
    return {
        "staleness": choice.staleness,
        "engines": choice.engines,
        "groups_per_step": choice.groups_per_step,
        "steps": report.steps,
        "steps_per_hour": report.steps_per_hour,
        "tokens_per_s": report.tokens_per_s,
        "engine_idle": report.engine_idle,
        "learner_idle": report.learner_idle,
        "token_staleness": {str(lag): share for lag, share in report.staleness.items()},
        "waits": report.waits,
        "waits_for": report.waits_for,
        "best": choice is best,
    }
