"""Ray clusters of several nodes, real ones, on this machine."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_cluster import RayCluster

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

run_dir, address, *overrides = sys.argv[1:]
recipe = load_recipe(Path({recipe!r}), ["engine.device=cpu", *overrides])
Path(run_dir, "recipe.json").touch()


def address_of(options):
    return ray.remote(ray.util.get_node_ip_address).options(**options).remote()


with Runtime(Path(run_dir), address=address):
    found = place(recipe, recipe.stages, Path(run_dir), own=False, wait_s=3.0)
    ranks, engines = max(stage.num_ranks for stage in recipe.trained_stages()), recipe.engine.num_engines
    places = [*map(found.rank, range(ranks)), *map(found.engine, range(engines)), found.here()]
    print(*ray.get([address_of(options) for options in places]))
"""


@pytest.fixture
def cluster(no_leftovers: None) -> Iterator[RayCluster]:
    with RayCluster() as made:
        yield made


def places(cluster: RayCluster, run_dir: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    """Where a run would have its ranks, its engines and what is light, as last octets."""
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
    first, second, *engines, light = found.stdout.split()
    assert (first, second, light) == ("127.0.0.2",) * 3
    assert sorted(engines) == ["127.0.0.3", "127.0.0.4"]

    # No node holds three ranks: two of them together, and the run directory is everywhere on this machine.
    found = places(cluster, run_dir, *RANKS, "rl.num_ranks=3", "engine.num_engines=1")
    assert found.returncode == 0, found.stderr
    *ranks, _, light = found.stdout.split()
    assert len(set(ranks)) == 2
    assert light == "127.0.0.2"

    found = places(cluster, run_dir, *RANKS, "rl.num_ranks=2", "engine.num_engines=4")
    assert found.returncode != 0
    # All nodes hold five, two of them are the learner's.
    assert "lower engine.num_engines to 3" in found.stderr
    assert "127.0.0.2 (here): 2 CPU" in found.stderr
    assert "free now: 5 CPU" in found.stderr
