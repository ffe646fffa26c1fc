"""Placement of a run on a Ray cluster: resources for all processes, reserved before any of them starts.

A run has one placement group, which gets all its bundles or none. So two runs that start together cannot
deadlock, each holding what the other waits for.

Learner ranks are on the driver's node, where the run directory is. When that node is too small for them they
are packed onto as few others as possible, since they exchange gradients at every update, and the directory
has to be visible there. Engines are spread over nodes: they exchange nothing with each other, and a
node that dies takes few of them along. Ray then moves their bundles to other nodes.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from data.errors import ConfigError
from rl.config.recipe import Recipe
from rl.config.stages import StageConfig
from rl.runtime.demand import Demand, Node, Share, amount, demand_of, no_room, ranks_fit_here

WAIT_S = 300.0
"""Longest wait for nodes that are still starting or that an autoscaler adds. Ray would wait forever."""
_QUIET_S = 5.0
_NODE_LABEL = "ray.io/node-id"


class Placement:
    """The reserved resources of a run, as Ray options for each process."""

    def __init__(
        self, group: PlacementGroup | None, demand: Demand, driver_node: str, *, beside_the_driver: bool
    ) -> None:
        self._group, self._demand, self._driver_node = group, demand, driver_node
        self.beside_the_driver = beside_the_driver
        """Whether all ranks are on the driver's node. Otherwise they share only the run directory with it."""

    def rank(self, index: int) -> dict[str, Any]:
        """Ray options of a learner rank or supervised rank."""
        assert index < self._demand.ranks
        return self._options(self._demand.rank, index)

    def engine(self, index: int) -> dict[str, Any]:
        """Ray options of an engine, also of a replacement: after a node's death Ray moves the bundle, and the
        new engine waits until another node has room.
        """
        assert index < self._demand.engines
        return self._options(self._demand.engine, self._demand.ranks + index)

    def here(self) -> dict[str, Any]:
        """Ray options of a light process that reads or writes the run directory: on the driver's node."""
        strategy = NodeAffinitySchedulingStrategy(node_id=self._driver_node, soft=False)
        return {"num_cpus": 0, "scheduling_strategy": strategy}

    def ensure_visible(self, path: Path) -> None:
        """Raises ConfigError when a rank's node does not see the path that the driver sees."""
        sees = [
            ray.remote(_sees).options(num_cpus=0, scheduling_strategy=self.rank(index)["scheduling_strategy"])
            for index in range(self._demand.ranks)
        ]
        for index, (host, seen) in enumerate(ray.get([task.remote(path) for task in sees])):
            if not seen:
                raise ConfigError(
                    f"{path}: is not visible on {host}, where learner rank {index} was placed\n"
                    f"  fix: run the command on a node with room for {self._demand.ranks} rank(s), lower "
                    "num_ranks, or use a run directory that all nodes share"
                )

    def _options(self, share: Share, bundle: int) -> dict[str, Any]:
        strategy = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=bundle)
        return {"num_cpus": share.cpus, "num_gpus": share.gpus, "scheduling_strategy": strategy}


def reserve(
    recipe: Recipe, stages: Sequence[StageConfig], run_dir: Path, *, own: bool, wait_s: float = WAIT_S
) -> Placement:
    """Reserve room for the stages that are not done yet; Ray frees it when the driver ends.

    Raises ConfigError when the cluster has no room within `wait_s`, or when a rank was placed on a node
    that does not see the run directory.
    """
    driver = str(ray.get_runtime_context().get_node_id())
    nodes = _nodes(driver)
    demand = demand_of(recipe, stages, nodes, own=own)
    bundles = [demand.rank.bundle()] * demand.ranks + [demand.engine.bundle()] * demand.engines
    if not bundles:
        return Placement(None, demand, driver, beside_the_driver=True)
    pinned = ranks_fit_here(demand, nodes)
    group = placement_group(
        bundles,
        strategy="SPREAD" if pinned else "PACK",
        bundle_label_selector=[
            {_NODE_LABEL: driver} if pinned and index < demand.ranks else {} for index in range(len(bundles))
        ],
    )
    if not _ready(group, demand, wait_s):
        remove_placement_group(group)
        free = ray.available_resources()
        text = amount(free.get("CPU", 0.0), free.get("GPU", 0.0))
        raise ConfigError(no_room(demand, _nodes(driver), free=text, waited_s=wait_s))
    placement = Placement(group, demand, driver, beside_the_driver=pinned)
    if not pinned:
        placement.ensure_visible(run_dir)
    return placement


def _ready(group: PlacementGroup, demand: Demand, wait_s: float) -> bool:
    """Whether the group is placed in time. Waits in short steps, because Ctrl-C is only seen between them."""
    began, warned = time.monotonic(), False
    while not group.wait(min(1.0, wait_s)):
        waited = time.monotonic() - began
        if waited >= wait_s:
            return False
        if waited > _QUIET_S and not warned:
            print(f"waiting up to {wait_s:.0f} s for room in the cluster: {demand}", flush=True)
            warned = True
    return True


def _nodes(driver: str) -> list[Node]:
    """The nodes that are alive, the driver's first."""
    nodes = [
        Node(
            host=str(found["NodeManagerAddress"]),
            cpus=float(found["Resources"].get("CPU", 0.0)),
            gpus=float(found["Resources"].get("GPU", 0.0)),
            here=found["NodeID"] == driver,
        )
        for found in ray.nodes()
        if found["Alive"]
    ]
    return sorted(nodes, key=lambda node: (not node.here, node.host))


def _sees(path: Path) -> tuple[str, bool]:
    """-> (this node's address, whether it has the run directory)."""
    return str(ray.util.get_node_ip_address()), (path / "recipe.json").exists()
