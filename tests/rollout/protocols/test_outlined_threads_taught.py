"""What an imitator of outlined_threads is shown, from the search of a solver."""

from protocol_lab import build, text

from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.demonstrate import demonstrate


def node(move: str, solution: str | None = None, **rest: object) -> SearchNode:
    return SearchNode(move=move, message=move, trace=f"{move} 40", solution=solution, **rest)  # type: ignore[arg-type]


def taught(tree: SearchTree, **params: object) -> list[str]:
    episode = demonstrate(
        build("outlined_threads", **params), Prompt("1 2"), tree, id="0", problem_id="p", max_length=500
    )
    assert episode is not None
    return [text(call.output) for call in episode.calls]


def test_an_imitator_opens_no_further_block_after_a_success() -> None:
    tree = SearchTree(children=(node("4"), node("5", "5 9"), node("6", "6 9")), solution="5 9")
    assert taught(tree, budgets={"width": 1}) == [
        "<Parallel> <Outlines> <Outline> 1 : 4 </Outline> </Outlines>",
        "4 40 <nothing> </Thread>",
        "</Parallel> <Parallel> <Outlines> <Outline> 1 : 5 </Outline> </Outlines>",
        "5 40 <found> 5 9 </Thread>",
        "</Parallel> </think> <answer> 5 9 <eos>",
    ]


def test_an_imitator_works_out_parts_as_soon_as_what_they_need_is_known() -> None:
    tree = SearchTree(
        children=(
            node("4", "10"),
            node("5", "11", needs=(0,)),
            node("6", "12"),
            node("7", "13", needs=(1, 2)),
        ),
        solution="46",
        every=True,
        conclusion="10 11 12 13 46",
    )
    assert taught(tree, dialect="npr") == [
        "<guideline> <plan> 1 : 4 </plan> <plan> 2 : 6 </plan> </guideline>",
        "4 40 <found> 10 </step>",
        "6 40 <found> 12 </step>",
        "</takeaway> <guideline> <plan> 1 : 5 </plan> </guideline>",
        "5 40 <found> 11 </step>",
        "</takeaway> <guideline> <plan> 1 : 7 </plan> </guideline>",
        "7 40 <found> 13 </step>",
        "10 11 12 13 46 </takeaway> <answer> 46 <eos>",
    ]
    weaver = taught(tree)
    assert weaver[-1] == "</Parallel> 10 11 12 13 46 </think> <answer> 46 <eos>"
    # Parts are subtasks, alternatives are trials.
    assert taught(tree, dialect="parason")[0].count("<Subtask>") == 2
    other = SearchTree(children=(node("4"), node("5")), solution=None)
    assert taught(other, dialect="parason")[0].count("<Trial>") == 2


def test_an_imitator_nests_where_dialect_and_budget_let_it() -> None:
    inner = node("4", "4 9", children=(node("5"), node("6", "4 9")))
    tree = SearchTree(children=(inner, node("7")), solution="4 9")
    said = taught(tree, dialect="multiverse", budgets={"depth": 2})
    assert (
        "4 40 <Parallel> <Goal> <Outline> 1 . 1 : 5 </Outline> <Outline> 1 . 2 : 6 </Outline> </Goal>" in said
    )
    assert "<found> 4 9 </Conclusion> </Parallel> <found> 4 9 </Path>" in said
    flat = taught(tree, budgets={"depth": 2})
    assert "4 40 5 40 6 40 <found> 4 9 </Thread>" in flat


def test_no_children_is_no_block() -> None:
    assert taught(SearchTree(children=(), solution=None)) == ["</think> <giveup> <eos>"]
