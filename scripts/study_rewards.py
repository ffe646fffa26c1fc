"""A study of process rewards on Countdown, where every line's truth is known: labels, search, and RL.

    python scripts/study_rewards.py --out runs/study --json FILE                      all of it, three seeds
    python scripts/study_rewards.py --out runs/study --parts labels search --seeds 0  a part of it
    python scripts/study_rewards.py --out runs/study --only-report --json FILE        what there is so far

labels   how far labels by 1, 2, 4, 8 completions (and those on which two labellings agree) are from the
         truth, and what that costs a reward model that is trained on them: F1 of the first wrong step and AUC
         against the exact labels, on problems that it has not seen
search   accuracy against total cost, the scorer's tokens included, beside a majority vote at equal cost; the
         forking policy by itself among them, when part rl has an arm of it
rl       rewards of the outcome alone, with what the reward model says of the steps beside it (by each
         aggregation), and in place of it; what held-out accuracy became, where the scorer was hacked, and
         where the alarm was given (`rl.evaluation.hacked_point`)

Every run is a `braid train` of a recipe written to OUT/NAME/recipe.yaml; all begin with the supervised model
and the reward models of OUT/labels-FAMILY-seedK. Stop at any time: the same command goes on.

Exit codes are those of `braid`: 0 done, 1 a run failed, 2 the input is invalid, 130 stopped.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data.errors import BraidError, ConfigError
from data.whole_file import write_json, write_text
from rl.commands.arguments import positive
from rl.commands.child import INTERRUPTED, run_braid
from rl.config import load_recipe
from rl.evaluation.reward_study import label_rows, rl_rows, search_rows, table
from rl.storage.run_directory import RunDirectory

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
PARTS = ("labels", "search", "rl")
COMPLETIONS = (1, 2, 4, 8)
FAMILIES = {"line": "prm_cpu.yaml", "fork": "countdown_cpu.yaml"}
"""Kinds of policy -> the recipe whose protocol and supervised stage it has."""
CORRECT: dict[str, Any] = {"name": "correct", "correct": 1.0, "wrong": -0.5, "none": 0.0}
ASKED: dict[str, Any] = {"name": "process", "source": "scorer", "aggregate": "mean", "weight": 1e-6}
"""Hardly a reward: the scorer is asked, so that its opinion stands beside the accuracy."""
WEIGHTS = {"last": 0.5, "min": 0.5, "mean": 0.5, "prod": 0.5, "each": 0.1, "difference": 0.2, "pure": 0.2}
SEARCHES = ("majority", "weighted_vote", "best_of_n", "beam", "dvts", "rebase", "early_rejection")
WIDTHS = (4, 8, 16)
VOTES = (1, 2, *WIDTHS)
"""Widths of the majority vote: also those that cost as little as one episode of the forking policy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One run of the study."""

    part: str
    name: str
    seed: int
    recipe: dict[str, Any]

    def folder(self, out: Path) -> Path:
        """Folder of its recipe and its run."""
        return out / self.name

    def run(self, out: Path) -> Path:
        """The run directory of `braid train`."""
        return self.folder(out) / "run"


def _scored(aggregate: str, weight: float) -> dict[str, Any]:
    return {"name": "process", "source": "scorer", "aggregate": aggregate, "weight": weight}


ARMS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "outcome": ("line", [CORRECT, ASKED]),
    **{name: ("line", [CORRECT, _scored(name, weight)]) for name, weight in WEIGHTS.items()},
    **{f"only_{name}": ("line", [_scored(name, WEIGHTS[name])]) for name in ("last", "mean", "each")},
    "fork_outcome": ("fork", [CORRECT, ASKED]),
    "fork_join": ("fork", [CORRECT, _scored("join", 0.2)]),
}
"""Arm -> the policy it begins with, and its rewards."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study. -> process exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of all runs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), metavar="N", help="default: 0 1 2")
    parser.add_argument(
        "--arms", nargs="+", choices=ARMS, default=tuple(ARMS), help="of part rl; default: all"
    )
    parser.add_argument(
        "--steps", type=positive, default=40, metavar="N", help="steps of part rl; default: 40"
    )
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE",
        help="change every recipe that has the stage, the section, or (of `model`) the key",
    )  # fmt: skip
    parser.add_argument("--only-report", action="store_true", help="train nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    arguments = parser.parse_args(argv)
    try:
        planned = plan(arguments)
        if not arguments.only_report:
            for each in planned:
                code = train(each, arguments.out, arguments.changes)
                if code:
                    return code
        found = report(arguments.out, planned)
    except BraidError as error:
        print(f"study_rewards: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print("\nstudy_rewards: stopped; what is finished is kept, the same command goes on", file=sys.stderr)
        return INTERRUPTED
    text = table(found)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out / "table.md", text)
    if arguments.json is not None:
        write_json(arguments.json, found)
    return 0


def plan(arguments: argparse.Namespace) -> list[Planned]:
    """All runs, seed by seed, those first on which others rest."""
    arms = {name: ARMS[name] for name in arguments.arms} if "rl" in arguments.parts else {}
    families = {family for family, _ in arms.values()} | {"line"}
    found = []
    for seed in dict.fromkeys(arguments.seeds):
        for family in sorted(families, reverse=True):
            labels = COMPLETIONS if family == "line" and "labels" in arguments.parts else (8,)
            found.append(_labels(family, seed, labels))
        if "search" in arguments.parts:
            found.append(_search(arguments.out, seed))
        found += [_rl(arguments, name, seed) for name in arms]
    return found


def _stage(recipe: str, name: str) -> dict[str, Any]:
    stages = yaml.safe_load((RECIPES / recipe).read_text())["stages"]
    found: dict[str, Any] = next(stage for stage in stages if stage["name"] == name)
    return found


def _recipe(family: str, name: str, seed: int, stages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    whole: dict[str, Any] = yaml.safe_load((RECIPES / "countdown_cpu.yaml").read_text())
    return {**whole, "name": name, "seed": seed, "protocol": _protocol(family), "stages": stages, **more}


def _protocol(family: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((RECIPES / FAMILIES[family]).read_text())["protocol"]
    return found


def _labels(family: str, seed: int, completions: Sequence[int]) -> Planned:
    """Supervised model, its samples, labels of them, and a reward model for each labelling."""
    labels, prm = _stage("prm_cpu.yaml", "labels"), _stage("prm_cpu.yaml", "prm")
    ways = {f"mc_{count}": {**labels["by"], "completions": count} for count in completions}
    if len(completions) > 1:
        ways["again"] = {**labels["by"], "completions": 8}
        ways["agreed"] = {"kind": "consensus", "stages": ["mc_8", "again"]}
    stages = [_stage("countdown_cpu.yaml", "sft"), _stage("prm_cpu.yaml", "sample")]
    for name, by in ways.items():
        source = {} if name == "agreed" else {"source": labels["source"]}
        stages.append({"name": name, "kind": "label_steps", **source, "by": by})
    stages += [{**prm, "name": f"prm_{name}", "labels": name} for name in ways if name != "again"]
    if len(completions) > 1:
        exact = {key: value for key, value in prm.items() if key != "labels"}
        stages.append({**exact, "name": "prm_exact", "source": labels["source"], "label": "reachable"})
    chains = {"name": "chains", "kind": "eval", "checkpoints": ["sft"], "split": "test", "problems": 200}
    stages.append({**chains, "samples": 4, "greedy": False, "keep_episodes": None})
    name = f"labels-{family}-seed{seed}"
    return Planned(part="labels", name=name, seed=seed, recipe=_recipe(family, name, seed, stages))


def _begin(out: Path, family: str, seed: int) -> dict[str, Any]:
    """Sections of a recipe that begins with the models of a labels run: the supervised one and a scorer."""
    models = (out / f"labels-{family}-seed{seed}" / "run" / "stages").resolve()
    return {
        "model": {"kind": "pretrained", "path": str(models / "sft" / "model"), "max_length": 1024},
        "scorer": {"path": str(models / "prm_mc_8" / "model")},
    }


def _search(out: Path, seed: int) -> Planned:
    shared = {"kind": "eval", "checkpoints": ["start"], "split": "test", "problems": 200, "greedy": False}
    tree, line = _stage("prm_cpu.yaml", "beam")["protocol"], _protocol("line")
    stages = []
    for width in VOTES:
        chains = {"chains": width, "chain_tokens": 440, "budgets": {"width": width}}
        ask = {"name": "best_of_n", "scorer": "reward_model", **chains}
        grown = {**tree, "width": width, "budgets": {"width": width}}
        shares = {key: value for key, value in grown.items() if key != "expand"}
        early = {"tau": 16, "keep": 0.5, "width": width, "chain_tokens": 440, "budgets": {"width": width}}
        vote = {"name": "self_consistency", **chains} if width > 1 else line
        protocols: dict[str, dict[str, Any]] = {
            "majority": vote,
            "weighted_vote": {**ask, "pick": "vote"},
            "best_of_n": {**ask, "pick": "best"},
            "beam": grown,
            "dvts": {**grown, "name": "dvts"},
            "rebase": {**shares, "name": "rebase"},
            "early_rejection": {"name": "early_rejection", **early},
        }
        stages += [
            {**shared, "name": f"{name}_{width}", "protocol": protocol}
            for name, protocol in protocols.items()
            if name == "majority" or width in WIDTHS
        ]
    name = f"search-seed{seed}"
    return Planned(
        part="search", name=name, seed=seed,
        recipe=_recipe("line", name, seed, stages, **_begin(out, "line", seed)),
    )  # fmt: skip


def _rl(arguments: argparse.Namespace, arm: str, seed: int) -> Planned:
    family, rewards = ARMS[arm]
    stage = {key: value for key, value in _stage("prm_cpu.yaml", "outcome").items() if key != "start"}
    stage |= {"name": "rl", "steps": arguments.steps, "rewards": rewards, "threads": 1, "validate_every": 0}
    stage |= {"health": {"action": "warn"}, "warmup_steps": min(3, arguments.steps - 1)}
    exam = {"name": "eval", "kind": "eval", "checkpoints": ["start", "rl"], "split": "test", "problems": 512}
    name = f"rl-{arm}-seed{seed}"
    stages = [stage, {**exam, "samples": 2, "greedy": False}]
    return Planned(
        part="rl", name=name, seed=seed,
        recipe=_recipe(family, name, seed, stages, **_begin(arguments.out, family, seed)),
    )  # fmt: skip


def train(each: Planned, out: Path, changes: Sequence[str]) -> int:
    """`braid train` of a run that is not finished. -> exit code."""
    path, run = each.folder(out) / "recipe.yaml", each.run(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump(each.recipe, sort_keys=False))
    overrides = [change for change in changes if _applies(each.recipe, change)]
    recipe = load_recipe(path, overrides)
    if _is_finished(run, [stage.name for stage in recipe.stages]):
        return 0
    print(f"study_rewards: {run}", flush=True)
    code = run_braid(("train", str(path), "--run", str(run), *(f"--set={change}" for change in overrides)))
    if code:
        print(f"study_rewards: {run} ended with exit code {code}; see above", file=sys.stderr)
    return code


def _applies(recipe: Mapping[str, Any], change: str) -> bool:
    """Whether a recipe has what a change names; stages by their names, a kind of model by its keys."""
    first, _, rest = change.partition("=")[0].partition(".")
    if first == "model" and rest:
        return rest in recipe["model"]
    names = {stage["name"] for stage in recipe["stages"]}
    return first in names or first in ("task", "model", "engine", "scorer", "rewards", "seed")


def report(out: Path, planned: Sequence[Planned]) -> dict[str, list[dict[str, Any]]]:
    """The figures of all finished runs, by part."""
    rows: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    finished = {
        each.name: each.run(out)
        for each in planned
        if _is_finished(each.run(out), [stage["name"] for stage in each.recipe["stages"]])
    }
    for each in planned:
        if each.name in finished:
            found = _rows(each, finished)
            rows[each.part] += [{"run": each.name, "seed": each.seed, **row} for row in found]
    return rows


def _rows(each: Planned, finished: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    run = finished[each.name]
    if each.part == "labels":
        return label_rows(run)
    if each.part == "rl":
        return rl_rows(run)
    return search_rows(run, finished.get(f"labels-fork-seed{each.seed}"))


def _is_finished(run: Path, stages: Sequence[str]) -> bool:
    return all(RunDirectory(run).done(name) is not None for name in stages)


if __name__ == "__main__":
    sys.exit(main())
