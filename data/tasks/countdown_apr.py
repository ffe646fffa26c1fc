"""Countdown in the words of APR's search traces (arXiv 2504.15466), for pretrained tokenizers.

The lines are the published ones. What stands between a parent and its sub searches (`<Calling Sub Searches>`
and so on) is the protocol's, and the moves are chosen by this project's solver. For 9 4 2 and the target 38:
    prompt    Moving to Node #0
              Current State: 38:[9, 4, 2], Operations: []
    move      Exploring Operation: 9*4=36, Resulting Numbers: [2, 36]
              Generated Node #0,0: 38:[2, 36] Operation: 9*4=36
    message   Moving to Node #0,0
              Current State: 38:[2, 36], Operations: ['9*4=36']
    trace     Exploring Operation: 36+2=38, Resulting Numbers: [38]
              38,38 equal: Goal Reached
    solution  9*4=36, 36+2=38
    way       the message, the lines of the moves that lead to the target, and "38,38 equal: Goal Reached"
A sub search that finds nothing ends with "No solution found." An answer is a solution or a way.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data.tasks.countdown_arithmetic import Move, apply, moves
from data.tasks.search_tree import SearchNode, SearchTree

_OPERATION = re.compile(r"([1-9][0-9]{0,8})([-+*/])([1-9][0-9]{0,8})=([1-9][0-9]{0,8})")
_EXPLORED = re.compile(r"^Exploring Operation: ([^,\n]*),", re.MULTILINE)
Choose = Callable[[Sequence[int], int], list[Move]]
"""Moves from a state, at most so many, in the order in which they are tried."""


def state_text(node: str, target: int, numbers: Sequence[int], operations: Sequence[str]) -> str:
    """The two lines that begin the visit of a node. `node`: its path, for example "0,2"."""
    return f"Moving to Node #{node}\nCurrent State: {target}:{list(numbers)}, Operations: {list(operations)}"


def triples(answer: str, cap: int) -> list[str]:
    """Words of an answer, "9*4=36, 36+2=38" or a way with these moves, as 9 * 4 36 + 2; [] for another text
    or an untrue equation.
    """
    words: list[str] = []
    for part in _EXPLORED.findall(answer) or answer.split(","):
        found = _OPERATION.fullmatch(part.strip())
        if found is None or apply(int(found[1]), found[2], int(found[3]), cap) != int(found[4]):
            return []
        words += found.group(1, 2, 3)
    return words


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """Operations that lead to the target, and the lines that tell them."""

    operations: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AprSearch:
    """One search: its target, how moves are chosen, and how many in every state below the first."""

    target: int
    cap: int
    choose: Choose
    breadth: int

    def solve(self, numbers: Sequence[int], first: int) -> SearchTree:
        """The tree of a search whose first state tries `first` moves, each in a sub search of its own."""
        children = tuple(
            self._sub_search(move, f"0,{place}") for place, move in enumerate(self.choose(numbers, first))
        )
        best = next((child for child in children if child.solution is not None), None)
        if best is None:
            return SearchTree(children=children, solution=None)
        way = "\n".join((state_text("0", self.target, numbers, ()), best.move, best.way))
        return SearchTree(children=children, solution=best.solution, way=way)

    def _sub_search(self, move: Move, node: str) -> SearchNode:
        operations = (_operation(move),)
        message = state_text(node, self.target, _numbers(move), operations)
        if move.rest:
            lines, found = self._explore(_numbers(move), operations, node)
        else:
            lines = [self._verdict(move)]
            found = _Found(operations=operations, lines=tuple(lines)) if self._hits(move) else None
        if found is None:
            lines.append("No solution found.")
        return SearchNode(
            move="\n".join(self._generated(move, node)),
            message=message,
            trace="\n".join(lines),
            solution=None if found is None else ", ".join(found.operations),
            way="" if found is None else "\n".join((message, *found.lines)),
        )

    def _explore(
        self, numbers: Sequence[int], operations: tuple[str, ...], node: str
    ) -> tuple[list[str], _Found | None]:
        """Lines of a state, first of all its moves and then of the states below, and what was found."""
        lines: list[str] = []
        last = len(numbers) == 2
        tried = moves(numbers, self.cap) if last else self.choose(numbers, self.breadth)
        for place, move in enumerate(tried):
            generated = self._generated(move, f"{node},{place}")
            lines += generated
            if last:
                lines.append(self._verdict(move))
                if self._hits(move):
                    done = (*operations, _operation(move))
                    return lines, _Found(operations=done, lines=(*generated, lines[-1]))
        for place, move in enumerate(() if last else tried):
            below, done = f"{node},{place}", (*operations, _operation(move))
            arrival = state_text(below, self.target, _numbers(move), done)
            further, found = self._explore(_numbers(move), done, below)
            lines += [arrival, *further]
            if found is not None:
                told = (*self._generated(move, below), arrival, *found.lines)
                return lines, _Found(operations=found.operations, lines=told)
        return lines, None

    def _generated(self, move: Move, node: str) -> list[str]:
        """Lines of a move that is looked at; one that leaves a single number makes no node."""
        operation, numbers = _operation(move), list(_numbers(move))
        explored = f"Exploring Operation: {operation}, Resulting Numbers: {numbers}"
        if not move.rest:
            return [explored]
        return [explored, f"Generated Node #{node}: {self.target}:{numbers} Operation: {operation}"]

    def _hits(self, move: Move) -> bool:
        return not move.rest and move.result == self.target

    def _verdict(self, move: Move) -> str:
        """What the trace says of a last number."""
        if self._hits(move):
            return f"{move.result},{self.target} equal: Goal Reached"
        return f"{move.result},{self.target} unequal: No Solution"


def _numbers(move: Move) -> tuple[int, ...]:
    """Numbers after a move, the result last as in APR's own code."""
    return (*move.rest, move.result)


def _operation(move: Move) -> str:
    return f"{move.a}{move.op}{move.b}={move.result}"
