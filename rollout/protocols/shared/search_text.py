"""How a solver's search is written as text in demonstrations."""

from collections.abc import Iterator

from data.tasks.search_tree import SearchNode, SearchTree
from rollout.protocols.shared.answers import AnswerFormat, ResultFormat


def solo_words(tree: SearchTree, end: AnswerFormat | ResultFormat) -> Iterator[str]:
    """A whole search as one line of thought, up to and including its answer."""
    said: list[str] = []
    for child in tree.children:
        said += ["<try>", child.move, *trace_words(child)]
        if child.solution is not None and not tree.every:
            break
    if tree.conclusion:
        said.append(tree.conclusion)
    yield from said
    yield from end.words(tree.solution, said)


def trace_words(node: SearchNode) -> Iterator[str]:
    """Texts written while visiting a node, depth-first, stopping at the first solution."""
    yield node.trace
    for child in node.children:
        yield from trace_words(child)
        if child.solution is not None:
            return


def needed_words(node: SearchNode, siblings: tuple[SearchNode, ...], result: ResultFormat) -> Iterator[str]:
    """Solutions that a part needs, for a reader who has seen none of them."""
    for key in node.needs:
        yield from result.words(siblings[key].solution)
