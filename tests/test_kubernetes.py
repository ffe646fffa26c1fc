"""The launch files for Kubernetes: they are what KubeRay reads, and what this project is."""

import copy
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from rl.cli import build_parser
from rl.config import load_recipe
from rl.runtime.demand import Node, demand_of, engines_beside, ranks_fit_here

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "scripts" / "kubernetes"
SCHEMA = json.loads((ROOT / "tests" / "support" / "rayjob.schema.json").read_text())
CHECK = Draft202012Validator(SCHEMA)
CLAIM, JOB = yaml.safe_load_all((FOLDER / "rayjob.yaml").read_text())
CLUSTER = JOB["spec"]["rayClusterSpec"]
HEAD, WORKER = CLUSTER["headGroupSpec"], CLUSTER["workerGroupSpecs"][0]
PODS = {
    "head": HEAD["template"]["spec"],
    "worker": WORKER["template"]["spec"],
    "submitter": JOB["spec"]["submitterPodTemplate"]["spec"],
}


def keys(value: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """The path of every key of a nested value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if isinstance(key, str):
            yield (*path, key)
        yield from keys(inner, *path, key)


def misspelt(value: Any, path: tuple[str | int, ...]) -> Any:
    """The same value with one key misspelt."""
    found = copy.deepcopy(value)
    place = found
    for key in path[:-1]:
        place = place[key]
    place[f"{path[-1]}x"] = place.pop(path[-1])
    return found


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_both_documents_are_as_kuberay_and_kubernetes_read_them() -> None:
    for document in (CLAIM, JOB):
        CHECK.validate(document)


def test_no_key_of_them_can_be_misspelt() -> None:
    paths = [(document, path) for document in (CLAIM, JOB) for path in keys(document)]
    assert len(paths) > 80
    assert [path for document, path in paths if CHECK.is_valid(misspelt(document, path))] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "backoffLimit"), "10"),
        (("spec", "submissionMode"), "K8SJobMode"),
        (("spec", "shutdownAfterJobFinishes"), "true"),
        (("spec", "rayClusterSpec", "rayVersion"), 2.6),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams"), {"num-cpus": 8}),
        (("spec", "rayClusterSpec", "workerGroupSpecs"), {}),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "replicas"), -1),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "on"),
    ],
)
def test_wrong_values_are_refused(path: tuple[str | int, ...], value: Any) -> None:
    document = copy.deepcopy(JOB)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not CHECK.is_valid(document)


def test_the_command_is_one_of_ours_and_its_recipe_is_in_the_image() -> None:
    program, *arguments = shlex.split(JOB["spec"]["entrypoint"])
    assert program == "braid"
    parsed = build_parser().parse_args(arguments)
    assert (parsed.command, parsed.address) == ("train", "auto")
    assert (ROOT / parsed.recipe.relative_to("/opt/braid")).is_file()
    copied = re.findall(r"^COPY (.+) \S+$", (FOLDER / "Dockerfile").read_text(), flags=re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert parsed.recipe.parts[3] in sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_run_directory_is_on_the_volume_and_only_the_head_mounts_it() -> None:
    _, *arguments = shlex.split(JOB["spec"]["entrypoint"])
    run = build_parser().parse_args(arguments).run
    claims = {
        name: [
            mount["mountPath"]
            for volume in pod.get("volumes", [])
            if volume.get("persistentVolumeClaim", {}).get("claimName") == CLAIM["metadata"]["name"]
            for mount in pod["containers"][0]["volumeMounts"]
            if mount["name"] == volume["name"]
        ]
        for name, pod in PODS.items()
    }
    assert claims == {"head": ["/runs"], "worker": [], "submitter": []}
    assert run.is_relative_to("/runs")
    assert CLAIM["spec"]["accessModes"] == ["ReadWriteOnce"]


@pytest.mark.parametrize("name", PODS)
def test_every_mount_has_its_volume(name: str) -> None:
    pod = PODS[name]
    mounts = {mount["name"] for mount in pod["containers"][0].get("volumeMounts", [])}
    assert mounts == {volume["name"] for volume in pod.get("volumes", [])}


def test_the_recipe_finds_its_places() -> None:
    """The learner on the head, where the run directory is, and every engine a GPU."""

    def node(spec: Any, *, here: bool) -> Node:
        limits = spec["containers"][0]["resources"]["limits"]
        return Node(
            host="", cpus=float(limits["cpu"]), gpus=float(limits.get("nvidia.com/gpu", 0)), here=here
        )

    nodes = [node(PODS["head"], here=True), *[node(PODS["worker"], here=False)] * WORKER["replicas"]]
    _, *arguments = shlex.split(JOB["spec"]["entrypoint"])
    parsed = build_parser().parse_args(arguments)
    recipe = load_recipe(ROOT / parsed.recipe.relative_to("/opt/braid"))
    demand = demand_of(recipe, recipe.stages, nodes, own=False)
    assert demand.engine.gpus == 1.0
    assert ranks_fit_here(demand, nodes)
    assert engines_beside(demand, nodes) == demand.engines


def test_one_image_and_the_pinned_ray() -> None:
    assert len({pod["containers"][0]["image"] for pod in PODS.values()}) == 1
    text = (FOLDER / "rayjob.yaml").read_text()
    assert text.count("# IMAGE") == len(PODS)
    pin = re.search(r"^ray==(\S+)$", (ROOT / "requirements" / "cpu.txt").read_text(), flags=re.MULTILINE)
    assert pin is not None
    assert CLUSTER["rayVersion"] == pin[1]
