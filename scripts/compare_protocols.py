"""Compare protocols on Countdown at equal mean cost: one table for total tokens, one for critical tokens.

    python scripts/compare_protocols.py --json FILE                  trains, evaluates, writes
    python scripts/compare_protocols.py --json FILE --rl-steps 75    after reinforcement learning too

Each format has its own model, trained from the same start with the same updates (sft stage of `--recipe`);
protocols with the same format share a model. Every protocol is evaluated in several settings on the
same held-out problems, and compared where their mean costs meet (rl.evaluation.equal_cost). The command may
be stopped at any time and resumes where it stopped.

Exit codes are those of `braid`: 0 done, 1 a run failed, 2 the input is invalid, 130 stopped.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.errors import BraidError, ConfigError
from rl.config import Recipe, load_recipe

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "countdown_cpu.yaml"
Settings = tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """A protocol, the format its model learned, and the settings it is measured in, cheap to dear."""

    name: str
    learned: str
    settings: Settings


LEARNED: dict[str, dict[str, Any]] = {
    "sequential": {"name": "sequential", "max_tokens": 600},
    "spawn_join": {"name": "spawn_join", "parent_tokens": 96, "child_tokens": 88, "budgets": {"width": 10}},
    "outlined_threads": {
        "name": "outlined_threads", "main_tokens": 160, "thread_tokens": 88, "budgets": {"width": 10},
    },
    "rounds": {"name": "rounds", "widths": [4], "draft_tokens": 300, "final_tokens": 300},
}  # fmt: skip
"""What a model is taught; an episode's settings may differ from it."""
ARMS: tuple[Arm, ...] = (
    Arm(
        name="sequential",
        learned="sequential",
        settings=({"max_tokens": 40}, {"max_tokens": 80}, {"max_tokens": 160}, {"max_tokens": 600}),
    ),
    Arm(
        name="self_consistency",
        learned="sequential",
        settings=tuple({"chains": chains, "chain_tokens": 300} for chains in (1, 2, 4, 8)),
    ),
    Arm(
        name="spawn_join",
        learned="spawn_join",
        settings=tuple({"budgets": {"width": width}} for width in (1, 2, 4, 10)),
    ),
    Arm(
        name="outlined_threads",
        learned="outlined_threads",
        settings=tuple({"budgets": {"width": width}} for width in (1, 2, 4, 10)),
    ),
    Arm(
        name="rounds",
        learned="rounds",
        settings=({"widths": [1]}, {"widths": [2]}, {"widths": [4]}, {"widths": [4, 4]}),
    ),
)
STAGES_OF_TRAINING = ("sft", "rl")


def main(argv: Sequence[str] | None = None) -> int:
    """-> process exit code."""
    arguments = _parser().parse_args(argv)
    # A run changes the working directory.
    arguments.out, arguments.json = arguments.out.resolve(), arguments.json.resolve()
    try:
        recipes = {learned: recipe_of(learned, arguments) for learned in LEARNED}
        for learned, recipe in recipes.items():
            code = train(recipe, arguments.out / learned)
            if code:
                return code
        document = compare(recipes, arguments)
    except BraidError as error:
        print(f"compare_protocols: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print("\ncompare_protocols: stopped; the same command resumes", file=sys.stderr)
        return 130
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    for kind in ("total", "critical"):
        print(f"\nAccuracy at equal mean {kind} tokens\n\n{table(document[kind])}")
    print(f"\nwrote {arguments.json}")
    return 0


def recipe_of(learned: str, arguments: argparse.Namespace) -> Recipe:
    """Training of one format, then an evaluation for each setting of each arm with that format."""
    base = load_recipe(arguments.recipe, arguments.overrides).model_dump(mode="json")
    kinds = [stage for stage in base["stages"] if stage["kind"] in STAGES_OF_TRAINING]
    stages = [stage | {"protocol": None} for stage in kinds if stage["kind"] == "sft" or arguments.rl_steps]
    for stage in stages:
        if stage["kind"] == "rl":
            stage["steps"] = arguments.rl_steps
    for name, protocol in evaluations(learned):
        stages.append(
            {
                "kind": "eval", "name": name, "checkpoints": [last(stages)], "split": "test",
                "problems": arguments.problems, "greedy": False, "protocol": protocol,
            }
        )  # fmt: skip
    changes = {"protocol": LEARNED[learned], "stages": stages, "name": f"protocols_{learned}"}
    return load_recipe(
        arguments.recipe,
        [*arguments.overrides, *(f"{key}={json.dumps(value)}" for key, value in changes.items())],
    )


def last(stages: Sequence[dict[str, Any]]) -> str:
    """Name of the last stage that trains."""
    return str([stage["name"] for stage in stages if stage["kind"] in STAGES_OF_TRAINING][-1])


def evaluations(learned: str) -> list[tuple[str, dict[str, Any]]]:
    """(stage name, protocol section) of all settings that use a model which learned this format."""
    found = []
    for arm in ARMS:
        if arm.learned != learned:
            continue
        shared = LEARNED[learned] if arm.name == learned else {"name": arm.name}
        for number, setting in enumerate(arm.settings):
            found.append((f"{arm.name}_{number}", {**shared, **setting}))
    return found


def train(recipe: Recipe, directory: Path) -> int:
    """All stages that are not finished yet. -> exit code."""
    from rl.preflight.check import ensure_runnable
    from rl.run import run
    from rl.storage.run_directory import RunDirectory

    ensure_runnable(recipe)
    RunDirectory(directory).open(recipe)
    print(f"compare_protocols: {directory}", flush=True)
    return run(recipe, directory)


def compare(recipes: dict[str, Recipe], arguments: argparse.Namespace) -> dict[str, Any]:
    """The document: points of every arm, and accuracies where costs are equal."""
    from rl.evaluation.equal_cost import equal_cost
    from rl.evaluation.outcome_file import load_outcomes

    document: dict[str, Any] = {"problems": arguments.problems, "points": {}, "total": {}, "critical": {}}
    for arm in ARMS:
        recipe = recipes[arm.learned]
        folder = arguments.out / arm.learned / "stages"
        trained = recipe.policy_stages()[-1].name
        outcomes = [
            load_outcomes(folder / f"{arm.name}_{number}" / f"{trained}.sampled.jsonl")
            for number in range(len(arm.settings))
        ]
        document["points"][arm.name] = [
            {"setting": setting, **means(found)}
            for setting, found in zip(arm.settings, outcomes, strict=True)
        ]
        for kind, costs in (("total", arguments.total), ("critical", arguments.critical)):
            settings = [by_problem(found, f"{kind}_tokens") for found in outcomes]
            at = equal_cost(settings, costs, samples=arguments.bootstrap_samples, seed=0)
            document[kind][arm.name] = {
                str(cost): None if found is None else asdict(found)
                for cost, found in zip(costs, at, strict=True)
            }
    return document


def by_problem(outcomes: Sequence[Any], cost: str) -> Any:
    """Outcomes as per-problem means, in the order of the problems' ids."""
    import numpy as np

    from rl.evaluation.equal_cost import Setting

    problems = sorted({outcome.problem_id for outcome in outcomes})
    place = {problem: number for number, problem in enumerate(problems)}
    sums = np.zeros((len(problems), 3))
    for outcome in outcomes:
        if outcome.correct is not None:
            sums[place[outcome.problem_id]] += (getattr(outcome, cost), outcome.correct, 1)
    sums = sums[sums[:, 2] > 0]
    return Setting(cost=sums[:, 0] / sums[:, 2], correct=sums[:, 1] / sums[:, 2])


def means(outcomes: Sequence[Any]) -> dict[str, float]:
    """What one setting costs and solves."""
    count = len(outcomes)
    return {
        "accuracy": sum(bool(outcome.correct) for outcome in outcomes) / count,
        "total_tokens": sum(outcome.total_tokens for outcome in outcomes) / count,
        "critical_tokens": sum(outcome.critical_tokens for outcome in outcomes) / count,
        "critical_seconds": sum(outcome.critical_seconds for outcome in outcomes) / count,
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown: protocols by costs."""
    costs = list(next(iter(rows.values())))
    lines = [["protocol", *costs], ["---"] * (len(costs) + 1)]
    for name, found in rows.items():
        lines.append([name, *(_cell(found[cost]) for cost in costs)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    low, high = found["interval"]
    return f"{found['accuracy']:.3f} [{low:.3f}, {high:.3f}]"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file for the results")
    parser.add_argument("--out", type=Path, default=Path("runs/protocols"), help="run directories")
    parser.add_argument(
        "--recipe", type=Path, default=RECIPE, help="task, model and training (default: the demo)"
    )
    parser.add_argument("--rl-steps", type=int, default=0, help="steps of its rl stage; 0 compares imitators")
    parser.add_argument("--problems", type=int, default=512, help="held-out problems")
    parser.add_argument("--total", type=float, nargs="+", default=[75, 100, 150, 200, 300], metavar="TOKENS")
    parser.add_argument("--critical", type=float, nargs="+", default=[50, 60, 75, 100, 150], metavar="TOKENS")
    parser.add_argument("--bootstrap-samples", type=int, default=2_000)
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="change the recipe"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
