"""What a run asks of a cluster: its processes, what each takes, and in words what is lacking. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rl.config.recipe import Recipe
from rl.config.stages import EvalStage, RlStage, SftStage, StageConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """What one node of the cluster has in all, whoever is using it."""

    host: str
    cpus: float
    gpus: float = 0.0
    here: bool = False
    """The driver's own: the run directory is there."""

    def __str__(self) -> str:
        return f"{self.host}{' (here)' if self.here else ''}: {amount(self.cpus, self.gpus)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What one process takes of a node."""

    cpus: float = 1.0
    gpus: float = 0.0

    def bundle(self) -> dict[str, float]:
        """As Ray writes it."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    def capacity(self, node: Node) -> int:
        """How many such processes an empty node holds."""
        rooms = [node.cpus / self.cpus] + ([node.gpus / self.gpus] if self.gpus else [])
        return int(min(rooms))


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """The processes that compute at once in some stage, and what each of them takes."""

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
    """Of the stages that are still to be done. `own`: the cluster is this run's, and is all there will be.

    Where engines use GPUs, every engine and every rank gets one. Only a machine of one's own with fewer GPUs
    than processes has two of them share each: on a cluster that was joined, more nodes may still come.
    """
    ranks = max((stage.num_ranks for stage in stages if isinstance(stage, SftStage | RlStage)), default=0)
    sampled = any(isinstance(stage, RlStage | EvalStage) for stage in stages)
    engines = recipe.engine.num_engines if sampled else 0
    gpus, device = sum(node.gpus for node in nodes), recipe.engine.device
    if device == "cpu" or (device == "auto" and not gpus):
        return Demand(ranks=ranks, engines=engines)
    share = Share(gpus=0.5 if own and gpus < ranks + engines else 1.0)
    return Demand(ranks=ranks, engines=engines, rank=share, engine=share)


def ranks_fit_here(demand: Demand, nodes: Sequence[Node]) -> bool:
    """The driver's node holds all ranks."""
    return any(node.here and demand.rank.capacity(node) >= demand.ranks for node in nodes)


def engines_beside(demand: Demand, nodes: Sequence[Node]) -> int | None:
    """How many engines the nodes hold beside the ranks, were nobody else there; None: not even the ranks."""
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
    """What is lacking, what the cluster has, and what to do. `free`: what nobody uses now, in words."""
    engines = engines_beside(demand, nodes)
    if engines is None:
        remedy = "add nodes, or lower num_ranks of the stages"
    elif engines < demand.engines:
        remedy = f"add nodes, or lower engine.num_engines to {engines}"
        if not engines:
            remedy = "add nodes: there is none for an engine beside the learner"
    else:
        remedy = "wait until what else runs on the cluster has ended, or stop it; there is room without it"
    rows = "".join(f"\n    {node}" for node in nodes)
    return (
        f"the cluster had no room for this run within {waited_s:.0f} s. Needed: {demand}. "
        f"There are:{rows}\n    free now: {free}\n  fix: {remedy}"
    )


def amount(cpus: float, gpus: float) -> str:
    """`2 CPU, 0.5 GPU`; without GPUs only the first."""
    return f"{cpus:g} CPU" + (f", {gpus:g} GPU" if gpus else "")
