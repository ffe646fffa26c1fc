"""An imperfect solver for multi-part arithmetic: it is never wrong, but leaves out some intermediate values.

What it writes in words (data.tasks.parts_text has the questions) for "A = 3 * 4 - 5 B = 2 + 9 C = A + 4":
    move        "A"                       enough for a reader who has the problem
    message     "A = 3 * 4 - 5"           enough for one who has not
    trace       "3 * 4 = 12 - 5 = 7"      names are replaced by their values: C is "7 + 4 = 11"
    solution    "A = 7"
    conclusion  "7 + 11 = 18 + 11 = 29"   all results, added up; the search's solution is "29"

C needs A: its message is complete only together with A's solution "A = 7".

Where a value is left out ("3 * 4 - 5 = 7"), an imitating model must do several steps at once, which it learns
far worse than single steps: reinforcement learning has to find out that writing every step pays.
"""

import random
from collections.abc import Sequence

from pydantic import Field

from data.params import Params
from data.tasks.parts_arithmetic import NAMES, Chain, as_numbers, running
from data.tasks.parts_text import TextStyle, part_solution, part_text, worked
from data.tasks.search_tree import SearchNode, SearchTree


class SolverParams(Params):
    """Settings of the solver. The more it leaves out, the more room there is for reinforcement learning."""

    skip: float = Field(default=0.5, ge=0, le=1)
    """Probability that an intermediate value is not written; results always are."""
    text: TextStyle = "words"
    """`words`: single words, for models from random weights. `questions`: "What is 7 + 12?", for pretrained
    models.
    """


def solve(chains: Sequence[Chain], params: SolverParams, rng: random.Random) -> SearchTree:
    """One search: every part, then their sum. `chains` as checked by the task, at least two."""
    results: list[int] = []
    children: list[SearchNode] = []
    for place, chain in enumerate(chains):
        values = as_numbers(chain.operands, results)
        results.append(running(values, chain.operations)[-1])
        message = part_text(chain, place, params.text)
        children.append(
            SearchNode(
                move=NAMES[place] if params.text == "words" else message,
                message=message,
                trace=_worked(values, chain.operations, params, rng),
                solution=part_solution(place, results[-1], params.text),
                needs=chain.needs,
            )
        )
    conclusion = _worked(results, ("+",) * (len(results) - 1), params, rng)
    return SearchTree(children=tuple(children), solution=str(sum(results)), every=True, conclusion=conclusion)


def _worked(
    values: Sequence[int], operations: Sequence[str], params: SolverParams, rng: random.Random
) -> str:
    return worked(values, operations, [rng.random() >= params.skip for _ in operations], params.text)
