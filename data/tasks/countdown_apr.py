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
A sub search that finds nothing ends with "No solution found."
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data.tasks.countdown_arithmetic import Move, apply, moves
from data.tasks.search_tree import SearchNode, SearchTree

_OPERATION = re.compile(r"([1-9][0-9]{0,8})([-+*/])([1-9][0-9]{0,8})=([1-9][0-9]{0,8})")
Choose = Callable[[Sequence[int], int], list[Move]]
"""Moves from a state, at most so many, in the order in which they are tried."""


def state_text(node: str, target: int, numbers: Sequence[int], operations: Sequence[str]) -> str:
    """The two lines that begin the visit of a node. `node`: its path, for example "0,2"."""
    return f"Moving to Node #{node}\nCurrent State: {target}:{list(numbers)}, Operations: {list(operations)}"


def triples(answer: str, cap: int) -> list[str]:
    """Words of an answer, "9*4=36, 36+2=38" as 9 * 4 36 + 2; [] for another text or an untrue equation."""
    words: list[str] = []
    for part in answer.split(","):
        found = _OPERATION.fullmatch(part.strip())
        if found is None or apply(int(found[1]), found[2], int(found[3]), cap) != int(found[4]):
            return []
        words += found.group(1, 2, 3)
    return words


@dataclass(frozen=True, kw_only=True, slots=True)
class AprSearch:
    """One search: its target, how moves are chosen, and how many in every state below the first."""

    target: int
    cap: int
    choose: Choose
    breadth: int

    def solve(self, numbers: Sequence[int], first: int) -> SearchTree:
        """The tree of a search whose first state tries `first` moves, each in a sub search of its own."""
        children = [
            self._sub_search(move, f"0,{place}") for place, move in enumerate(self.choose(numbers, first))
        ]
        solution = next((child.solution for child in children if child.solution is not None), None)
        return SearchTree(children=tuple(children), solution=solution)

    def _sub_search(self, move: Move, node: str) -> SearchNode:
        operations = (_operation(move),)
        if not move.rest:
            lines = [self._verdict(move)]
            solution = ", ".join(operations) if move.result == self.target else None
        else:
            lines, solution = self._explore(_numbers(move), operations, node)
        if solution is None:
            lines.append("No solution found.")
        return SearchNode(
            move="\n".join(self._generated(move, node)),
            message=state_text(node, self.target, _numbers(move), operations),
            trace="\n".join(lines),
            solution=solution,
        )

    def _explore(
        self, numbers: Sequence[int], operations: tuple[str, ...], node: str
    ) -> tuple[list[str], str | None]:
        """Lines of a state, first of all its moves and then of the states below, and the answer if any."""
        lines: list[str] = []
        last = len(numbers) == 2
        tried = moves(numbers, self.cap) if last else self.choose(numbers, self.breadth)
        for place, move in enumerate(tried):
            lines += self._generated(move, f"{node},{place}")
            if last:
                lines.append(self._verdict(move))
                if move.result == self.target:
                    return lines, ", ".join((*operations, _operation(move)))
        for place, move in enumerate(() if last else tried):
            below, done = f"{node},{place}", (*operations, _operation(move))
            lines.append(state_text(below, self.target, _numbers(move), done))
            further, solution = self._explore(_numbers(move), done, below)
            lines += further
            if solution is not None:
                return lines, solution
        return lines, None

    def _generated(self, move: Move, node: str) -> list[str]:
        """Lines of a move that is looked at; one that leaves a single number makes no node."""
        operation, numbers = _operation(move), list(_numbers(move))
        explored = f"Exploring Operation: {operation}, Resulting Numbers: {numbers}"
        if not move.rest:
            return [explored]
        return [explored, f"Generated Node #{node}: {self.target}:{numbers} Operation: {operation}"]

    def _verdict(self, move: Move) -> str:
        """What the trace says of a last number."""
        if move.result == self.target:
            return f"{move.result},{self.target} equal: Goal Reached"
        return f"{move.result},{self.target} unequal: No Solution"


def _numbers(move: Move) -> tuple[int, ...]:
    """Numbers after a move, the result last as in APR's own code."""
    return (*move.rest, move.result)


def _operation(move: Move) -> str:
    return f"{move.a}{move.op}{move.b}={move.result}"
