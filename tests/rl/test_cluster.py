"""Ray clusters of several nodes, real ones, on this machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_cluster import RayCluster, can_be_apart
from recipe_lab import SMALL, write

from data.ledger_audit import audit

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "countdown_cpu.yaml"
RANKS = ("sft.num_ranks=1", "rl.groups_per_step=12")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PLACE = """
import sys
from pathlib import Path
import ray
from rl.config import load_recipe
from rl.placement import place
from rl.runtime import Runtime
from rl.workers import SftActor

run_dir, address, *overrides = sys.argv[1:]
recipe = load_recipe(Path({recipe!r}), ["engine.device=cpu", *overrides])
Path(run_dir, "recipe.json").touch()


def address_of(options):
    return ray.remote(ray.util.get_node_ip_address).options(**options).remote()


with Runtime(Path(run_dir), address=address):
    found = place(recipe, recipe.stages, Path(run_dir), own=False, wait_s=3.0)
    ranks, engines = max(stage.num_ranks for stage in recipe.trained_stages()), recipe.engine.num_engines
    places = [*map(found.rank, range(ranks)), *map(found.engine, range(engines)), found.here()]
    meeting = SftActor.options(**found.rank(0)).remote().address.remote()
    print(ray.get(meeting).split(":")[0], *ray.get([address_of(options) for options in places]))
"""


@pytest.fixture
def cluster(no_leftovers: None) -> Iterator[RayCluster]:
    with RayCluster() as made:
        yield made


def places(cluster: RayCluster, run_dir: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    """Prints where a run's ranks would meet, and where it would have ranks, engines, and what is light."""
    return subprocess.run(
        [
            *(sys.executable, "-c", PLACE.format(recipe=str(RECIPE)), str(run_dir)),
            *(cluster.address, *overrides),
        ],
        env={**os.environ, **cluster.environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_where_processes_go(cluster: RayCluster, run_dir: Path) -> None:
    for host, cpus in (("127.0.0.2", 2), ("127.0.0.3", 2), ("127.0.0.4", 1)):
        cluster.add(host=host, cpus=cpus)

    found = places(cluster, run_dir, *RANKS, "rl.num_ranks=2", "engine.num_engines=2")
    assert found.returncode == 0, found.stderr
    # The learner beside the driver and the run directory, each engine on another node.
    meeting, first, second, *engines, light = found.stdout.split()
    assert (meeting, first, second, light) == ("127.0.0.2",) * 4
    assert sorted(engines) == ["127.0.0.3", "127.0.0.4"]

    # No node holds three ranks: two of them together, and the run directory is everywhere on this machine.
    found = places(cluster, run_dir, *RANKS, "rl.num_ranks=3", "engine.num_engines=1")
    assert found.returncode == 0, found.stderr
    meeting, *ranks, _, light = found.stdout.split()
    assert len(set(ranks)) == 2
    assert meeting == ranks[0]
    assert light == "127.0.0.2"

    found = places(cluster, run_dir, *RANKS, "rl.num_ranks=2", "engine.num_engines=4")
    assert found.returncode != 0
    # All nodes hold five, two of them are the learner's.
    assert "lower engine.num_engines to 3" in found.stderr
    assert "127.0.0.2 (here): 2 CPU" in found.stderr
    assert "free now: 5 CPU" in found.stderr


@pytest.mark.skipif(not can_be_apart(), reason="takes root, and a system that lets us make namespaces")
def test_ranks_where_the_run_directory_is_not(cluster: RayCluster, run_dir: Path) -> None:
    """A second machine, as good as real: another network address, and none of our files."""
    near, far = cluster.network([run_dir])
    cluster.add(host=near, cpus=1)
    cluster.add(host=far, cpus=2, apart=True)

    found = places(cluster, run_dir, *RANKS, "rl.num_ranks=2", "engine.num_engines=1")
    assert found.returncode != 0
    assert f"{run_dir}: is not there on {far}, where learner rank " in found.stderr


def train(
    braid: Any, cluster: RayCluster, run_dir: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str
) -> Any:
    """Starts a tiny run on the cluster."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    sets = [f"--set={override}" for override in overrides]
    return braid.start("train", RECIPE, "--run", run_dir, "--address", cluster.address, *sets)


def test_a_node_that_dies_takes_an_engine_and_nothing_else(
    cluster: RayCluster, braid: Any, tiny: tuple[str, ...], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = cluster.add(host="127.0.0.2", cpus=2)
    lost = cluster.add(host="127.0.0.3", cpus=1)
    shorter = ("sft.steps=20", "rl.steps=8", "rl.num_ranks=1", "rl.staleness=1", "engine.num_engines=2")
    command = train(braid, cluster, run_dir, monkeypatch, *tiny, *shorter)
    command.wait_until((run_dir / "stages/rl/step-000002").exists)
    assert near.runs("LearnerWorker") and near.runs("RolloutWorker") and lost.runs("RolloutWorker")
    lost.kill()
    # What is left holds the learner and one engine.
    printed = braid.complete(command)
    assert "engines: the actor of engine" in printed
    found = audit(run_dir / "ledger.sqlite", "rl", groups_per_step=4)
    assert found.clean and found.consumed == 8 * 4
    deadline = time.monotonic() + 30
    while any(node.runs("RolloutWorker") or node.runs("EngineCore") for node in cluster.nodes):
        assert time.monotonic() < deadline, "an engine outlived its run"
        time.sleep(0.2)


@pytest.mark.skipif(not can_be_apart(), reason="takes root, and a system that lets us make namespaces")
def test_weights_reach_a_node_that_shares_no_files(
    cluster: RayCluster, braid: Any, tiny: tuple[str, ...], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither node holds both: the learner is here, its engine on a machine that sees none of our files."""
    near, far = cluster.network([run_dir])
    cluster.add(host=near, cpus=1)
    other = cluster.add(host=far, cpus=1, apart=True)
    shorter = ("sft.steps=20", "rl.steps=2", "rl.num_ranks=1")
    command = train(braid, cluster, run_dir, monkeypatch, *tiny, *shorter)
    command.wait_until(lambda: other.runs("RolloutWorker"))
    braid.complete(command)
    assert (run_dir / "export" / "model.safetensors").exists()


def test_a_job_that_is_handed_over(cluster: RayCluster, run_dir: Path, tmp_path: Path) -> None:
    """`ray job submit` needs the dashboard; the command runs on the head and finds its cluster by itself."""
    cluster.add("--include-dashboard=true", "--dashboard-port=0", host="127.0.0.2", cpus=1)
    short = {**SMALL["stages"][0], "steps": 2, "warmup_steps": 1, "demonstrations": 20}
    recipe = write(tmp_path, {**SMALL, "stages": [short]})
    submit = (sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", cluster.address)
    braid = (sys.executable, "-m", "rl.cli", "train", str(recipe), "--run", str(run_dir), "--address", "auto")
    done = subprocess.run(
        [*submit, "--", *braid],
        env={**os.environ, **cluster.environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert (run_dir / "stages" / "sft" / "done.json").exists()
