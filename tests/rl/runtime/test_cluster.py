"""Ray clusters of several nodes, real ones, on this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ray_cluster import RayCluster, can_be_apart
from recipe_lab import SMALL, write

from data.ledger.audit import audit

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "recipes" / "countdown_cpu.yaml"
RANKS = ("sft.num_ranks=1", "rl.groups_per_step=12")
pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(600)]

PLACE = """
import json, sys
from pathlib import Path
import ray
from data.errors import ConfigError
from rl.config import load_recipe
from rl.runtime.placement import reserve
from rl.runtime.ray_session import Runtime
from rl.runtime.rank_worker import RankActor

run_dir, address, questions = sys.argv[1:]
Path(run_dir, "recipe.json").touch()


def address_of(options):
    return ray.remote(ray.util.get_node_ip_address).options(**options).remote()


def answer(recipe):
    found = reserve(recipe, recipe.stages, Path(run_dir), own=False, wait_s=5.0)
    ranks, engines = max(stage.num_ranks for stage in recipe.policy_stages()), recipe.engine.num_engines
    places = [*map(found.rank, range(ranks)), *map(found.engine, range(engines)), found.here()]
    meeting = RankActor.options(**found.rank(0)).remote().address.remote()
    return [ray.get(meeting).split(":")[0], *ray.get([address_of(options) for options in places])]


for overrides in json.loads(questions):
    with Runtime(Path(run_dir), address=address):
        try:
            print(json.dumps(answer(load_recipe(Path({recipe!r}), ["engine.device=cpu", *overrides]))))
        except ConfigError as error:
            print(json.dumps(str(error)))
"""


@pytest.fixture
def cluster(no_leftovers: None) -> Iterator[RayCluster]:
    with RayCluster() as made:
        yield made


def places(cluster: RayCluster, run_dir: Path, *questions: Sequence[str]) -> list[Any]:
    """For each question (overrides of the recipe): where a run's ranks would meet, and where it would have
    ranks, engines, and what is light; or why it cannot.
    """
    asked = (str(run_dir), cluster.address, json.dumps(questions))
    done = subprocess.run(
        [sys.executable, "-c", PLACE.format(recipe=str(RECIPE)), *asked],
        env={**os.environ, **cluster.environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_where_processes_go(cluster: RayCluster, run_dir: Path) -> None:
    for host, cpus in (("127.0.0.2", 2), ("127.0.0.3", 2), ("127.0.0.4", 1)):
        cluster.add(host=host, cpus=cpus)

    together, apart, too_many = places(
        cluster,
        run_dir,
        (*RANKS, "rl.num_ranks=2", "engine.num_engines=2"),
        (*RANKS, "rl.num_ranks=3", "engine.num_engines=1"),
        (*RANKS, "rl.num_ranks=2", "engine.num_engines=4"),
    )

    # The learner beside the driver and the run directory, each engine on another node.
    meeting, first, second, *engines, light = together
    assert (meeting, first, second, light) == ("127.0.0.2",) * 4
    assert sorted(engines) == ["127.0.0.3", "127.0.0.4"]

    # No node holds three ranks: two of them together, and the run directory is everywhere on this machine.
    meeting, *ranks, _, light = apart
    assert len(set(ranks)) == 2
    assert meeting == ranks[0]
    assert light == "127.0.0.2"

    # All nodes hold five, two of them are the learner's.
    assert "lower engine.num_engines to 3" in too_many
    assert "127.0.0.2 (here): 2 CPU" in too_many
    assert "free now: 5 CPU" in too_many


@pytest.mark.skipif(not can_be_apart(), reason="takes root, and a system that lets us make namespaces")
def test_ranks_where_the_run_directory_is_not(cluster: RayCluster, run_dir: Path) -> None:
    """A second machine, as good as real: another network address, and none of our files."""
    near, far = cluster.network([run_dir])
    cluster.add(host=near, cpus=1)
    cluster.add(host=far, cpus=2, apart=True)

    (refusal,) = places(cluster, run_dir, (*RANKS, "rl.num_ranks=2", "engine.num_engines=1"))
    assert f"{run_dir}: is not visible on {far}, where learner rank " in refusal


def train(
    braid: Any, cluster: RayCluster, run_dir: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str
) -> Any:
    """Starts a tiny run on the cluster."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    sets = [f"--set={override}" for override in overrides]
    return braid.start("train", RECIPE, "--run", run_dir, "--address", cluster.address, *sets)


def test_a_machine_without_our_files_takes_part_and_dies_with_nothing_but_its_engine(
    cluster: RayCluster, braid: Any, tiny: tuple[str, ...], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights reach its engine through Ray alone; in the middle of the run it loses power. Where no machine
    can be had that is apart, it is a node with another address.
    """
    apart = can_be_apart()
    here, there = cluster.network([run_dir]) if apart else ("127.0.0.2", "127.0.0.3")
    near, lost = cluster.add(host=here, cpus=2), cluster.add(host=there, cpus=1, apart=apart)
    shorter = ("sft.steps=20", "rl.steps=8", "rl.num_ranks=1", "rl.staleness=1", "engine.num_engines=2")
    command = train(braid, cluster, run_dir, monkeypatch, *tiny, *shorter)
    command.wait_until((run_dir / "stages/rl/step-000002").exists)
    assert near.runs("RankWorker") and near.runs("RolloutWorker") and lost.runs("RolloutWorker")
    lost.kill()
    # What is left holds the learner and one engine.
    printed = braid.complete(command)
    assert "engines: the actor of engine" in printed
    found = audit(run_dir / "ledger.sqlite", "rl", groups_per_step=4)
    assert found.clean and found.consumed == 8 * 4
    assert (run_dir / "export" / "model.safetensors").exists()
    deadline = time.monotonic() + 30
    while any(node.runs("RolloutWorker") or node.runs("EngineCore") for node in cluster.nodes):
        assert time.monotonic() < deadline, "an engine outlived its run"
        time.sleep(0.2)


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
