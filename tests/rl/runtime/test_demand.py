"""What a run asks of a cluster, on clusters that the test makes up."""

from pathlib import Path

import pytest
from recipe_lab import SMALL, write

from rl.config import Recipe, load_recipe
from rl.runtime.demand import Demand, Node, Share, demand_of, engines_beside, no_room, ranks_fit_here

HEAD = Node(host="10.0.0.1", cpus=4, gpus=2, here=True)
OTHER = Node(host="10.0.0.2", cpus=8, gpus=8)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return load_recipe(write(tmp_path, SMALL), ("sft.num_ranks=4", "rl.num_ranks=2", "engine.num_engines=4"))


def test_the_largest_stage_that_is_left_counts(recipe: Recipe) -> None:
    def processes(*names: str) -> tuple[int, int]:
        found = demand_of(recipe, [recipe.stage(name) for name in names], [HEAD], own=False)
        return found.ranks, found.engines

    assert processes("sft", "rl", "eval", "export") == (4, 4)
    assert processes("rl", "eval") == (2, 4)
    assert processes("sft") == (4, 0)
    assert processes("eval") == (0, 4)
    assert processes("export") == (0, 0)


def test_gpus_are_asked_for_where_engines_use_them(recipe: Recipe, tmp_path: Path) -> None:
    without = [Node(host="10.0.0.1", cpus=4, here=True)]

    def share(device: str, nodes: list[Node], *, own: bool = False) -> float:
        found = load_recipe(
            write(tmp_path, SMALL), (f"engine.device={device}", "engine.num_engines=4", "rl.num_ranks=2")
        )
        demand = demand_of(found, found.stages, nodes, own=own)
        assert demand.rank == demand.engine
        return demand.engine.gpus

    assert share("cpu", [HEAD, OTHER]) == 0.0
    assert share("auto", without) == 0.0
    assert share("cuda", without) == 1.0, "a node that is not there yet may have it"
    # Six processes, two GPUs. More nodes may join a cluster, but not a machine of one's own.
    assert share("auto", [HEAD]) == 1.0
    assert share("auto", [HEAD], own=True) == 0.5
    assert share("auto", [HEAD, OTHER], own=True) == 1.0


def test_an_engine_of_several_ranks_asks_for_all_of_them_on_one_node(tmp_path: Path) -> None:
    def demand(device: str, *, own: bool = False) -> Demand:
        given = (f"engine.device={device}", "engine.num_engines=2", "engine.tensor_parallel=2")
        recipe = load_recipe(write(tmp_path, SMALL), given)
        return demand_of(recipe, recipe.stages, [HEAD], own=own)

    assert demand("cpu").engine == Share(cpus=2.0) and demand("cpu").rank == Share()
    assert demand("cuda").engine == Share(cpus=2.0, gpus=2.0)
    assert demand("cuda", own=True).rank == Share(gpus=1.0), "split engines share no GPU"
    assert engines_beside(demand("cpu"), [HEAD]) == 1, "four cores, one rank"


def test_how_many_processes_a_node_holds() -> None:
    assert Share(cpus=1.0).capacity(HEAD) == 4
    assert Share(cpus=3.0).capacity(HEAD) == 1
    # The scarcer of the two.
    assert Share(cpus=1.0, gpus=1.0).capacity(HEAD) == 2
    assert Share(cpus=1.0, gpus=0.5).capacity(HEAD) == 4
    assert Share(cpus=1.0, gpus=1.0).capacity(Node(host="a", cpus=9)) == 0


def test_ranks_fit_here_only_when_the_drivers_own_node_holds_them_all() -> None:
    gpu = Share(gpus=1.0)
    assert ranks_fit_here(Demand(ranks=2, engines=9, rank=gpu), [HEAD, OTHER])
    assert not ranks_fit_here(Demand(ranks=3, engines=0, rank=gpu), [HEAD, OTHER])
    assert ranks_fit_here(Demand(ranks=0, engines=1), [Node(host="a", cpus=0, here=True)])


def test_engines_beside_the_ranks() -> None:
    gpu = Share(gpus=1.0)
    # One rank here leaves 1 GPU here and 8 there.
    assert engines_beside(Demand(ranks=1, engines=1, rank=gpu, engine=gpu), [OTHER, HEAD]) == 9
    # Three ranks: two here, one there.
    assert engines_beside(Demand(ranks=3, engines=1, rank=gpu, engine=gpu), [OTHER, HEAD]) == 7
    assert engines_beside(Demand(ranks=10, engines=1, rank=gpu, engine=gpu), [OTHER, HEAD]) == 0
    assert engines_beside(Demand(ranks=11, engines=1, rank=gpu, engine=gpu), [OTHER, HEAD]) is None
    # By CPUs alone: 4 + 8 - 2.
    assert engines_beside(Demand(ranks=2, engines=1), [OTHER, HEAD]) == 10


def test_the_message_says_what_is_needed_what_there_is_and_what_to_do() -> None:
    demand = Demand(ranks=1, engines=12, rank=Share(gpus=1.0), engine=Share(gpus=1.0))
    message = no_room(demand, [HEAD, OTHER], free="3 CPU, 2 GPU", waited_s=300.0)
    assert message.splitlines() == [
        "the cluster had no room for this run within 300 s. Needed: 1 learner rank (1 CPU, 1 GPU each) "
        "and 12 engines (1 CPU, 1 GPU each). There are:",
        "    10.0.0.1 (here): 4 CPU, 2 GPU",
        "    10.0.0.2: 8 CPU, 8 GPU",
        "    free now: 3 CPU, 2 GPU",
        "  fix: add nodes, or lower engine.num_engines to 9",
    ]


@pytest.mark.parametrize(
    ("demand", "words"),
    [
        (Demand(ranks=13, engines=1), "lower num_ranks"),
        (Demand(ranks=12, engines=1), "none for an engine"),
        (Demand(ranks=4, engines=8), "wait for other jobs"),
    ],
)
def test_the_remedy_fits_the_reason(demand: Demand, words: str) -> None:
    assert words in no_room(demand, [HEAD, OTHER], free="0 CPU", waited_s=1.0)
