"""Resources that a run needs, and the message when a cluster lacks them. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rl.config.recipe import Recipe
from rl.config.stages import StageConfig, TrainingStage, samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """Total resources of one node of the cluster, free or not."""

    host: str
    cpus: float
    gpus: float = 0.0
    here: bool = False
    """Whether it is the driver's node, where the run directory is."""

    def __str__(self) -> str:
        return f"{self.host}{' (here)' if self.here else ''}: {amount(self.cpus, self.gpus)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Resources of one process."""

    cpus: float = 1.0
    gpus: float = 0.0

    def bundle(self) -> dict[str, float]:
        """As a bundle of a Ray placement group."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    def capacity(self, node: Node) -> int:
        """Number of such processes that an empty node has room for."""
        rooms = [node.cpus / self.cpus] + ([node.gpus / self.gpus] if self.gpus else [])
        return int(min(rooms))


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """Numbers of processes that compute at the same time, and the resources of each."""

    ranks: int
    engines: int
    rank: Share = Share()
    engine: Share = Share()

    def __str__(self) -> str:
        kinds = (("learner rank", self.ranks, self.rank), ("engine", self.engines, self.engine))
        return " and ".join(
            f"{count} {name}{'s' if count > 1 else ''} ({amount(share.cpus, share.gpus)} each)"
            for name, count, share in kinds
            if count
        )


def demand_of(recipe: Recipe, stages: Sequence[StageConfig], nodes: Sequence[Node], *, own: bool) -> Demand:
    """The demand of the stages that are not done yet. `own`: a cluster for this run alone, which never grows.

    An engine gets a core for each of its ranks (`engine.tensor_parallel`). With GPUs it gets one for each of
    them, and every learner rank gets one. On an own machine with fewer GPUs than processes, two processes
    share one, unless engines are split; a joined cluster may still get more nodes.
    """
    ranks = max((stage.num_ranks for stage in stages if isinstance(stage, TrainingStage)), default=0)
    sampled = any(map(samples, stages))
    engines = recipe.engine.num_engines if sampled else 0
    gpus, device = sum(node.gpus for node in nodes), recipe.engine.device
    split = recipe.engine.tensor_parallel
    if device == "cpu" or (device == "auto" and not gpus):
        return Demand(ranks=ranks, engines=engines, engine=Share(cpus=float(split)))
    share = Share(gpus=0.5 if own and split == 1 and gpus < ranks + engines else 1.0)
    engine = Share(cpus=float(split), gpus=share.gpus * split)
    return Demand(ranks=ranks, engines=engines, rank=share, engine=engine)


def ranks_fit_here(demand: Demand, nodes: Sequence[Node]) -> bool:
    """Whether the driver's node has room for all ranks."""
    return any(node.here and demand.rank.capacity(node) >= demand.ranks for node in nodes)


def engines_beside(demand: Demand, nodes: Sequence[Node]) -> int | None:
    """Number of engines that fit on empty nodes together with the ranks; None if the ranks do not fit."""
    left, engines = demand.ranks, 0
    for node in sorted(nodes, key=lambda node: (not node.here, -demand.rank.capacity(node))):
        taken = min(left, demand.rank.capacity(node))
        left -= taken
        rest = replace(
            node, cpus=node.cpus - taken * demand.rank.cpus, gpus=node.gpus - taken * demand.rank.gpus
        )
        engines += demand.engine.capacity(rest)
    return None if left else engines


def no_room(demand: Demand, nodes: Sequence[Node], *, free: str, waited_s: float) -> str:
    """Message: what is needed, what the cluster has, and the fix. `free`: the free resources as text."""
    engines = engines_beside(demand, nodes)
    if engines is None:
        remedy = "add nodes, or lower num_ranks of the stages"
    elif engines < demand.engines:
        remedy = f"add nodes, or lower engine.num_engines to {engines}"
        if not engines:
            remedy = "add nodes: there is none for an engine beside the learner"
    else:
        remedy = "wait for other jobs on the cluster to end, or stop them; without them there is room"
    rows = "".join(f"\n    {node}" for node in nodes)
    return (
        f"the cluster had no room for this run within {waited_s:.0f} s. Needed: {demand}. "
        f"There are:{rows}\n    free now: {free}\n  fix: {remedy}"
    )


def amount(cpus: float, gpus: float) -> str:
    """Resources as text: `2 CPU, 0.5 GPU`, or `2 CPU` without GPUs."""
    return f"{cpus:g} CPU" + (f", {gpus:g} GPU" if gpus else "")
