"""Search trees of solvers, independent of the protocol that shows them.

A protocol turns the tree into a demonstration: `sequential` writes it as one line of thought, `spawn_join`
gives every child of the root its own thread. The tree therefore carries each piece of text once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchNode:
    """One state that the solver visited.

    Example (Countdown, numbers 10 9 4 2, target 37):
        SearchNode(move="9 * 4 10 2", message="37 9 * 4 10 2", trace="36", children=(...), solution=None)
    """

    move: str
    """How the search got here, for a reader who has seen everything before it."""
    message: str
    """The same for a reader who sees nothing else: all that a fresh thread needs."""
    trace: str
    """What is written on arrival: the result of the move, or the whole visit when there are no children."""
    children: tuple["SearchNode", ...] = field(default=())
    """States visited from here, in order."""
    solution: str | None = None
    """Full answer found at this node or below, else None."""
    prefix: str = ""
    """The part of `solution` that was known before this node and is not in `message`."""
    needs: tuple[int, ...] = ()
    """Indices of earlier siblings whose solutions must be known before this node can be visited: only
    together with those solutions is `message` all that a fresh thread needs.
    """
    way: str = ""
    """How to get from here to the solution, told again from this node on; empty when nothing was found or the
    text of the task does not tell it.
    """

    @property
    def own_solution(self) -> str | None:
        """The part of `solution` that can be known from `message` alone."""
        return None if self.solution is None else self.solution.removeprefix(self.prefix).strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchTree:
    """A whole search, in one of two kinds.

    Alternatives (`every` is false): the first child with a solution has the answer. Parts (`every` is true):
    each child's solution is a part of the work, and `conclusion` makes the answer of them. Children without
    `needs` do not depend on each other: walk them in any order, or at once.
    """

    children: tuple[SearchNode, ...]
    solution: str | None
    """The answer the search arrives at, else None."""
    every: bool = False
    """Whether the children are parts, all of them needed."""
    conclusion: str = ""
    """What is written between the parts' solutions and the answer."""
    way: str = ""
    """How to get to the solution, told again from the start; as for `SearchNode`."""


def rotated(tree: SearchTree, by: int) -> SearchTree:
    """The same alternatives, begun at another one: an independent attempt tries them in another order.

    Parts stay in their order, since later ones may need earlier ones.
    """
    if tree.every or not tree.children:
        return tree
    start = by % len(tree.children)
    children = tree.children[start:] + tree.children[:start]
    solution = next((child.solution for child in children if child.solution is not None), None)
    return SearchTree(children=children, solution=solution)


def walk(node: SearchNode) -> Iterator[SearchNode]:
    """Depth-first, parents before children."""
    yield node
    for child in node.children:
        yield from walk(child)
