"""Multi-part arithmetic as questions for a chat model, with texts worked out by hand."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.tasks.parts import Parts, PartsParams
from data.tasks.parts_arithmetic import OPERATIONS, running
from data.tasks.parts_text import bracketed, worked
from data.tasks.problem import Problem
from data.tasks.search_tree import SearchNode, SearchTree

P = Problem("p", "parts", {"parts": ["7 + 12", "2 + 3 * 4"]})
"""19 and 20: 39 together."""


def test_questions_written_out() -> None:
    task = Parts(PartsParams(text="questions", skip=0))
    assert task.prompt(P).text == "What is 7 + 12?\nWhat is (2 + 3) * 4?\nWhat is the sum of these answers?"
    first, second = "What is 7 + 12?", "What is (2 + 3) * 4?"
    assert task.search(P, random.Random(0)) == SearchTree(
        children=(
            SearchNode(move=first, message=first, trace="7 + 12 = 19", solution="19"),
            SearchNode(move=second, message=second, trace="2 + 3 = 5, 5 * 4 = 20", solution="20"),
        ),
        solution="39",
        every=True,
        conclusion="19 + 20 = 39",
    )
    assert task.check(P, "39") and not task.check(P, "38")
    terse = Parts(PartsParams(text="questions", skip=1)).search(P, random.Random(0))
    assert terse.children[1].trace == "(2 + 3) * 4 = 20"


def test_working_in_questions() -> None:
    values, operations = (3, 4, 5, 2), ("*", "-", "*")
    assert worked(values, operations, (True, True, True), "questions") == (
        "3 * 4 = 12, 12 - 5 = 7, 7 * 2 = 14"
    )
    assert worked(values, operations, (False, True, True), "questions") == "3 * 4 - 5 = 7, 7 * 2 = 14"
    assert worked(values, operations, (True, False, True), "questions") == "3 * 4 = 12, (12 - 5) * 2 = 14"
    assert worked((7, 11, 11), ("+", "+"), (True, True), "questions") == "7 + 11 = 18, 18 + 11 = 29"


@given(st.lists(st.tuples(st.sampled_from(list(OPERATIONS)), st.integers(1, 99)), min_size=1, max_size=6))
def test_brackets_say_the_same_as_reading_from_the_left(steps: list[tuple[str, int]]) -> None:
    operations, values = [op for op, _ in steps], [5, *(value for _, value in steps)]
    assert eval(bracketed(values, operations)) == running(values, operations)[-1]


def test_the_smallest_recipe_of_sums_and_differences() -> None:
    """Sums and differences of two numbers from 1 to 19: what a chat model of 135M nearly knows."""
    params = PartsParams(
        text="questions", steps_high=1, high=19, cap=120, operations=("+", "-"), parts_low=3, parts_high=3
    )
    task = Parts(params)
    rows = task.problems("train", 300, 0)
    longest = task.longest_prompt()
    for number, problem in enumerate(rows):
        *lines, last = task.prompt(problem).text.split("\n")
        assert last == "What is the sum of these answers?" and len(lines) == 3
        total = 0
        for line in lines:
            asked = re.fullmatch(r"What is ([0-9]+) ([+-]) ([0-9]+)\?", line)
            assert asked is not None
            a, op, b = int(asked[1]), asked[2], int(asked[3])
            assert 1 <= a <= 19 and 1 <= b <= 19
            total += a + b if op == "+" else a - b
        assert task.check(problem, str(total))
        assert len(task.prompt(problem).text) <= len(longest)
        tree = task.search(problem, random.Random(number))
        assert tree.solution == str(total)
        assert [child.message for child in tree.children] == lines
    assert not task.words_only and task.words() == []


@pytest.mark.parametrize("operations", [("*",), ("+",), ("-", "*"), ("*", "+", "-")])
def test_only_the_operations_asked_for_are_drawn(operations: tuple[str, ...]) -> None:
    task = Parts(PartsParams.model_validate({"operations": operations, "text": "questions"}))
    texts = [text for row in task.problems("train", 200, 0) for text in row.fields["parts"]]
    assert {word for text in texts for word in text.split() if not word.isdigit()} == set(operations)
    longest = task.longest_prompt()
    assert all(len(task.prompt(row).text) <= len(longest) for row in task.problems("train", 200, 0))
