"""An imperfect solver for Countdown: it tries some first moves, and below each some continuations.

What it writes (words; R = result, r = an untouched number, T = target):
    first move    move "a op b r r", message "T a op b r r", trace "R"
    then          trace "a op b R d SUM DIFF PROD QUOT T V" once two numbers R and d are left: what each last
                  operation makes of them (X: not allowed), the target, and V = the operation that hits or "."
With more than four numbers, moves in between have the trace "a op b R r r ...". With three, the trace of a
first move is "R d SUM DIFF PROD QUOT T V"; with two it is "R T V", V being the first move's own operation.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from data.params import Params
from data.tasks.countdown_apr import AprSearch
from data.tasks.countdown_arithmetic import OPERATIONS, Move, finals, moves
from data.tasks.search_tree import SearchNode, SearchTree

FORBIDDEN = "X"
MISS = "."


class SolverParams(Params):
    """Effort of the demonstrating solver. A weak one leaves room for reinforcement learning."""

    max_first: int = Field(default=6, ge=1, le=256)
    """First moves tried: uniform on 1..max_first, one draw per problem."""
    max_second: int = Field(default=4, ge=1, le=256)
    """Continuations tried in every later state: uniform on 1..max_second, one draw per problem."""
    order: Literal["random", "heuristic"] = "random"
    """`random`: a random subset in canonical order. `heuristic`: the best by APR's distance, best first."""
    keep_failed: float = Field(default=0.3, ge=0, le=1)
    """Probability with which a search that found nothing is still shown."""
    text: Literal["words", "apr"] = "words"
    """`words`: single words, for models from random weights. `apr`: the lines of APR's published traces, for
    pretrained models.
    """


def distance(values: Sequence[int], target: int) -> int:
    """APR's heuristic: h(values, T) = sum over n of min over factors f >= 2 of T of |n - f|; 0 is best.

    Source: arXiv 2504.15466, as in its code. Example: distance((5, 9), 12) == |5 - 6| + |9 - 6| == 4.
    """
    factors = [f for f in range(2, target + 1) if target % f == 0]
    return sum(min(abs(value - f) for f in factors) for value in values)


def solve(
    numbers: Sequence[int], target: int, cap: int, params: SolverParams, rng: random.Random
) -> SearchTree:
    """One search. `numbers` in prompt order, at least two; `target` at least 2."""
    first = rng.randint(1, params.max_first)
    walk = _Walk(
        target=target, cap=cap, order=params.order, breadth=rng.randint(1, params.max_second), rng=rng
    )
    if params.text == "apr":
        search = AprSearch(target=target, cap=cap, choose=walk.choose, breadth=walk.breadth)
        return search.solve(numbers, first)
    children = tuple(walk.first_visit(move) for move in walk.choose(numbers, first))
    solution = next((child.solution for child in children if child.solution is not None), None)
    return SearchTree(children=children, solution=solution)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Walk:
    """Settings and target of one search."""

    target: int
    cap: int
    order: str
    breadth: int
    rng: random.Random

    def choose(self, values: Sequence[int], count: int) -> list[Move]:
        """At most `count` moves from a state, in the order in which they are tried."""
        options = moves(values, self.cap)
        if self.order == "heuristic":
            return sorted(options, key=lambda move: distance(move.state, self.target))[:count]
        return [options[i] for i in sorted(self.rng.sample(range(len(options)), min(count, len(options))))]

    def first_visit(self, move: Move) -> SearchNode:
        """The state after a first move: a thread of its own may start here with nothing but the message."""
        done = _words(move.a, move.op, move.b)
        if len(move.state) == 1:
            hit = move.result == self.target
            trace = _words(move.result, self.target, move.op if hit else MISS)
            return self._node(move, trace, (), done if hit else None)
        if len(move.state) == 2:
            line, solution = self._last_step(move.state, done)
            return self._node(move, line, (), solution)
        children, solution = self._continue(move.state, done)
        return self._node(move, str(move.result), children, solution)

    def _continue(self, values: Sequence[int], done: str) -> tuple[tuple[SearchNode, ...], str | None]:
        """Visits below a state, up to and including the first that finds the target."""
        visited: list[SearchNode] = []
        for move in self.choose(values, self.breadth):
            visited.append(self._visit(move, done))
            if visited[-1].solution is not None:
                return tuple(visited), visited[-1].solution
        return tuple(visited), None

    def _visit(self, move: Move, before: str) -> SearchNode:
        step = _words(move.a, move.op, move.b)
        done = _words(before, step)
        if len(move.state) == 2:
            line, solution = self._last_step(move.state, done)
            return self._node(move, _words(step, line), (), solution, before)
        children, solution = self._continue(move.state, done)
        return self._node(move, _words(step, *move.state), children, solution, before)

    def _last_step(self, state: tuple[int, ...], done: str) -> tuple[str, str | None]:
        """Two numbers are left: the line that looks at all four operations, and the answer when one hits."""
        c, d = state
        values = finals(c, d, self.cap)
        hit = OPERATIONS[values.index(self.target)] if self.target in values else None
        shown = (FORBIDDEN if value is None else value for value in values)
        line = _words(c, d, *shown, self.target, hit or MISS)
        return line, None if hit is None else _words(done, c, hit, d)

    def _node(
        self, move: Move, trace: str, children: tuple[SearchNode, ...], solution: str | None, before: str = ""
    ) -> SearchNode:
        text = _words(move.a, move.op, move.b, *move.rest)
        return SearchNode(
            move=text,
            message=_words(self.target, text),
            trace=trace,
            children=children,
            solution=solution,
            prefix=before,
        )


def _words(*parts: int | str) -> str:
    return " ".join(str(part) for part in parts)
