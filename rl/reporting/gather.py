"""Gathers what a report says of a run from its directory, which may still be written to."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import BraidError, ConfigError
from data.ledger.queries import Mishap, mishaps
from rl.config.tree import leaves
from rl.evaluation.document import read_summary
from rl.reporting.choice import choose
from rl.reporting.comparing import compare_checkpoints
from rl.reporting.contents import Difference, Fact, RunPart, Shown, StagePart, Told
from rl.reporting.facts import run_facts
from rl.reporting.gaps import Gaps
from rl.reporting.recorded import place_of, read_shown, record_files
from rl.reporting.rl_part import gather_rl
from rl.reporting.telling import Teller, open_teller
from rl.storage.files import read_json
from rl.storage.identity import RECIPE_FILE
from rl.storage.run_directory import RunDirectory
from rl.tracking.metrics import METRICS_FILE, read_metrics

RUN = "run"
"""Name under which the ledger keeps the faults of no particular stage (`rl.run`)."""


def gather_run(path: Path, label: str) -> RunPart:
    """Everything that a report says of a run; parts that cannot be read are named in its `gaps`.

    Raises ConfigError when the directory is not a run, or its recipe is not one.
    """
    recipe = read_recipe(path)
    gaps = Gaps()
    directory = RunDirectory(path)
    teller = open_teller(directory, gaps)
    records = _records(directory.path / METRICS_FILE, gaps)
    parts = tuple(_stage(stage, records, teller, gaps) for stage in recipe["stages"])
    summary = directory.path / "summary.json"
    return RunPart(
        label=label,
        path=str(path),
        recipe=recipe,
        facts=run_facts(directory.path, recipe, parts),
        changed=_mishaps(directory.ledger, RUN, gaps),
        settings=_settings(recipe, teller),
        stages=parts,
        summary=gaps.attempt(lambda: read_summary(summary), None) if summary.exists() else None,
        comparisons=compare_checkpoints(recipe["stages"], teller, gaps),
        gaps=tuple(gaps.found),
    )


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe of a run as JSON values, of any version of Braid. Raises ConfigError where there is none."""
    file = path / RECIPE_FILE
    if not file.is_file():
        raise ConfigError(
            f"{path}: is not a run directory (no {RECIPE_FILE})\n  fix: name the --run of a `braid train`"
        )
    recipe = read_json(file)
    stages = recipe.get("stages") if isinstance(recipe, dict) else None
    if not isinstance(stages, list) or not all(map(_is_stage, stages)):
        raise ConfigError(f"{file}: is not the recipe of a run\n  fix: restore the file")
    found: dict[str, Any] = recipe
    return found


def _is_stage(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("name", "kind"))


def differences(runs: Sequence[RunPart]) -> tuple[Difference, ...]:
    """Keys whose value is not the same in all runs, in the order of the first run that has them."""
    flat = [dict(leaves(run.recipe)) for run in runs]
    keys = dict.fromkeys(key for recipe in flat for key in recipe)
    rows = [
        Difference(
            key=key.removeprefix("stages."),
            values=tuple(as_text(recipe[key]) if key in recipe else "" for recipe in flat),
        )
        for key in keys
    ]
    return tuple(row for row in rows if len(set(row.values)) > 1)


def as_text(value: Any) -> str:
    """A recipe's value as its YAML would have it, on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _settings(recipe: Mapping[str, Any], teller: Teller) -> tuple[Fact, ...]:
    """Keys that are not at their default; all keys where this version of Braid does not know the recipe."""
    chosen = recipe
    if teller.recipe is not None:
        chosen = teller.recipe.model_dump(mode="json", exclude_defaults=True)
    return tuple(
        Fact(name=key.removeprefix("stages."), value=as_text(value)) for key, value in leaves(chosen)
    )


def _records(path: Path, gaps: Gaps) -> dict[str, list[dict[str, Any]]]:
    """Records of `metrics.jsonl` by stage, up to the first damaged line."""
    found: dict[str, list[dict[str, Any]]] = {}
    if not path.exists():
        return found
    try:
        for record in read_metrics(path):
            found.setdefault(record["stage"], []).append(record)
    except (BraidError, OSError) as error:
        gaps.note(str(error))
    return found


def _stage(
    stage: Mapping[str, Any], records: Mapping[str, list[dict[str, Any]]], teller: Teller, gaps: Gaps
) -> StagePart:
    """One stage, whatever its kind."""
    name, kind, path = str(stage["name"]), str(stage["kind"]), teller.directory.path
    own = records.get(name, [])
    folder, ledger = path / "stages" / name, teller.directory.ledger
    done = gaps.attempt(lambda: teller.directory.done(name), None)
    begun = bool(own) or folder.is_dir()
    told, chosen_from = _chosen(name, folder, teller, gaps) if begun else ((), "")
    return StagePart(
        name=name,
        kind=kind,
        state="done" if done is not None else "running or stopped" if begun else "not begun",
        steps=max((record["step"] for record in own), default=0),
        records=tuple(own),
        rl=gather_rl(teller, stage, own, done, gaps) if kind == "rl" and begun else None,
        mishaps=_mishaps(ledger, name, gaps),
        told=told,
        chosen_from=chosen_from,
    )


def _mishaps(ledger: Path, stage: str, gaps: Gaps) -> tuple[Mishap, ...]:
    """Resumes, restarts and faults; none where the run has no ledger yet."""
    return tuple(gaps.attempt(lambda: mishaps(ledger, stage), [])) if ledger.exists() else ()


def _chosen(name: str, folder: Path, teller: Teller, gaps: Gaps) -> tuple[tuple[Told, ...], str]:
    """-> chosen episodes of the newest readable record of a stage, and which record that is."""
    for file in _newest_first(folder):
        found: list[Shown] = gaps.attempt(lambda: list(read_shown(file)), [])  # noqa: B023
        if found:
            told = tuple(teller.tell(name, why, shown) for why, shown in choose(found))
            return told, f"{len(found)} episodes of {place_of(file)}"
    return (), ""


def _newest_first(folder: Path) -> list[Path]:
    """Files of episodes, the last training step first; sampled evaluations before greedy ones."""
    files = sorted(record_files(folder), key=lambda file: (file.parent == folder, "greedy" not in file.name))
    return files[::-1]
