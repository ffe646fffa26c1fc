"""What a solver yields: a search, told without saying who walks it.

A protocol turns the tree into a demonstration: `sequential` writes it as one line of thought, `spawn_join`
gives every child of the root to a thread of its own. The tree therefore carries each piece of text once.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchTree:
    """A whole search. `children` do not depend on each other: walk them in any order, or at once."""

    children: tuple[SearchNode, ...]
    solution: str | None
    """The answer the search arrives at (that of its first solved child), else None."""


def walk(node: SearchNode) -> Iterator[SearchNode]:
    """Depth-first, parents before children."""
    yield node
    for child in node.children:
        yield from walk(child)
