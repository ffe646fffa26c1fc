"""Facts on the top of a run's report: what was trained, on which machine, and what it cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import ConfigError
from rl.reporting.contents import Fact, StagePart
from rl.storage.files import read_json
from rl.tracking.terminal import clock


def run_facts(run: Path, recipe: Mapping[str, Any], stages: Sequence[StagePart]) -> tuple[Fact, ...]:
    """The facts of a run, from its recipe and its accounting."""
    states = ", ".join(f"{stage.name} ({stage.kind}): {stage.state}" for stage in stages)
    facts = {
        "recipe": f"{recipe.get('name', 'without a name')}, seed {recipe.get('seed', 'unknown')}",
        "task": _name(recipe, "task"),
        "protocol": _name(recipe, "protocol"),
        "model": _model(recipe.get("model")),
        "stages": states,
        "engines": _engines(recipe.get("engine")),
        **_cost(run),
    }
    return tuple(Fact(name=name, value=value) for name, value in facts.items() if value)


def _name(recipe: Mapping[str, Any], section: str) -> str:
    found = recipe.get(section)
    return str(found.get("name", "")) if isinstance(found, dict) else ""


def _model(model: Any) -> str:
    """One line on the model: a pretrained one's folder, or the sizes of one made from scratch."""
    if not isinstance(model, dict):
        return ""
    if "path" in model:
        return Path(str(model["path"])).name
    sizes = f"{model.get('num_layers')} layers, width {model.get('hidden_size')}"
    return f"{model.get('architecture', 'model')} from random weights, {sizes}"


def _engines(engine: Any) -> str:
    if not isinstance(engine, dict):
        return ""
    number = engine.get("num_engines", 1)
    parts = ["1 engine" if number == 1 else f"{number} engines", f"device {engine.get('device')}"]
    if engine.get("tensor_parallel", 1) != 1:
        parts.append(f"{engine['tensor_parallel']} devices each")
    return ", ".join([*parts, str(engine.get("dtype", ""))])


def _cost(run: Path) -> dict[str, str]:
    """Time and memory over all starts; what a run that goes on has not written yet is said so."""
    path = run / "accounting.json"
    if not path.exists():
        return {"time": "not known before the run ends or is stopped"}
    try:
        found = read_json(path)
        facts = {
            "time": clock(float(found["seconds"])) + " over all starts",
            "peak memory": f"{float(found['peak_memory_gb']):.2f} GB",
        }
    except (ConfigError, KeyError, TypeError, ValueError):
        return {"time": "unknown: accounting.json is damaged"}
    machine = found.get("machine")
    return facts | ({"machine": machine} if isinstance(machine, str) else {})
