"""Countdown in APR's words: texts worked out by hand, searches that are true."""

import random
import re

import pytest

from data.tasks.countdown import Countdown, CountdownParams
from data.tasks.problem import Problem
from data.tasks.search_tree import SearchNode

P = Problem("p", "countdown", {"numbers": [9, 4, 2], "target": 38})

LAST = "Exploring Operation: 36+2=38, Resulting Numbers: [38]\n38,38 equal: Goal Reached"


def test_a_search_written_out() -> None:
    # As in words (test_countdown_solver): by APR's distance 9 * 4 comes first.
    task = Countdown(CountdownParams(text="apr", max_first=1, max_second=1, order="heuristic"))
    assert task.prompt(P).text == "Moving to Node #0\nCurrent State: 38:[9, 4, 2], Operations: []"
    tree = task.search(P, random.Random(0))
    assert tree.children == (
        SearchNode(
            move=(
                "Exploring Operation: 9*4=36, Resulting Numbers: [2, 36]\n"
                "Generated Node #0,0: 38:[2, 36] Operation: 9*4=36"
            ),
            message="Moving to Node #0,0\nCurrent State: 38:[2, 36], Operations: ['9*4=36']",
            trace="Exploring Operation: 36+2=38, Resulting Numbers: [38]\n38,38 equal: Goal Reached",
            solution="9*4=36, 36+2=38",
            way=f"Moving to Node #0,0\nCurrent State: 38:[2, 36], Operations: ['9*4=36']\n{LAST}",
        ),
    )
    assert tree.solution == "9*4=36, 36+2=38"
    start = "Moving to Node #0\nCurrent State: 38:[9, 4, 2], Operations: []"
    assert tree.way == "\n".join((start, tree.children[0].move, tree.children[0].way))
    assert task.check(P, tree.way) and not task.check(P, tree.way.replace("36+2=38,", "36+2=39,"))
    assert not task.words_only and task.words() == []


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("9*4=36, 36+2=38", True),
        (" 9*4=36,36+2=38\n", True),
        ("4*9=36, 2+36=38", True),
        ("9*4=36, 36+2=39", False),  # untrue
        ("9*4=38, 38+2=38", False),
        ("9*4=36, 36+4=40, 40-2=38", False),  # 4 twice
        ("9*4=36", False),
        ("9 * 4 36 + 2", False),
        ("9*4=36, __import__('os')", False),
        ("", False),
    ],
)
def test_check(answer: str, right: bool) -> None:
    assert Countdown(CountdownParams(text="apr")).check(P, answer) is right


@pytest.mark.parametrize("operands", [2, 3, 4, 5])
def test_every_line_is_true(operands: int) -> None:
    task = Countdown(CountdownParams(text="apr", operands=operands))
    solved = 0
    for number, problem in enumerate(task.problems("train", 40, 0)):
        tree = task.search(problem, random.Random(number))
        assert len(task.prompt(problem).text) <= len(task.longest_prompt())
        for child in tree.children:
            text = "\n".join((child.move, child.message, child.trace))
            for a, op, b, result in re.findall(r"Exploring Operation: (\d+)(.)(\d+)=(\d+)", text):
                left, right = int(a), int(b)
                value = {"+": left + right, "-": left - right, "*": left * right}.get(op, left // right)
                assert value == int(result)
            nodes = re.findall(r"Moving to Node #(\S+)", text)
            assert len(set(nodes)) == len(nodes)
            assert operands == 2 or all(f"Generated Node #{node}:" in text for node in nodes)
            ending = "equal: Goal Reached" if child.solution else "No solution found."
            assert child.trace.endswith(ending)
            assert child.solution is None or task.check(problem, child.solution)
            assert child.solution is None or task.check(problem, child.solution)
            assert bool(child.way) == (child.solution is not None)
        assert tree.solution is None or task.check(problem, tree.way)
        solved += tree.solution is not None
    assert 3 < solved < 40 or operands == 2
