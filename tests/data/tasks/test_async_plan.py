"""Asynchronous planning: plans, checker, solver, with values worked out by hand."""

import random

import pytest
from pydantic import ValidationError

from data.errors import ConfigError
from data.tasks.async_plan.plan import Step, ends, fingerprint, parse_step
from data.tasks.async_plan.task import AsyncPlan, AsyncPlanParams
from data.tasks.problem import Problem
from data.tasks.search_tree import SearchNode, SearchTree


def row(*steps: object) -> Problem:
    return Problem("p", "async_plan", {"steps": list(steps)})


# A ends at 3, B at 5, C at 5 + 2 = 7, D at 3 + 1 = 4: all are done at 7.
P = row("3", "5", "2 after A B", "1 after A")


def test_a_search_in_words() -> None:
    task = AsyncPlan(AsyncPlanParams(skip=0))
    assert task.prompt(P).text == "A = 3 B = 5 C = 2 after A B D = 1 after A"
    assert task.search(P, random.Random(0)) == SearchTree(
        children=(
            SearchNode(move="A", message="A = 3", trace="3", solution="A ends 3"),
            SearchNode(move="B", message="B = 5", trace="5", solution="B ends 5"),
            SearchNode(
                move="C",
                message="C = 2 after A B",
                trace="max 3 5 = 5 + 2 = 7",
                solution="C ends 7",
                needs=(0, 1),
            ),
            SearchNode(move="D", message="D = 1 after A", trace="3 + 1 = 4", solution="D ends 4", needs=(0,)),
        ),
        solution="7",
        every=True,
        conclusion="max 3 5 7 4 = 7",
    )
    terse = AsyncPlan(AsyncPlanParams(skip=1)).search(P, random.Random(0))
    assert [child.trace for child in terse.children] == ["3", "5", "7", "4"]


def test_a_story() -> None:
    task = AsyncPlan(AsyncPlanParams(skip=0, text="story"))
    assert task.prompt(P).text.split("\n") == [
        "Any number of steps can run at the same time, unless one has to wait for another.",
        "Step A takes 3 minutes.",
        "Step B takes 5 minutes.",
        "Step C takes 2 minutes and starts when steps A and B are done.",
        "Step D takes 1 minute and starts when step A is done.",
        "After how many minutes are all steps done, if every step starts as early as it can?",
    ]
    tree = task.search(P, random.Random(0))
    assert tree.children[2].trace == "max(3, 5) = 5, 5 + 2 = 7"
    assert tree.children[2].solution == "Step C is done after 7 minutes."
    assert (tree.conclusion, tree.solution) == ("max(3, 5, 7, 4) = 7", "7")
    assert not task.words_only and task.words() == []


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("7", True),
        (" 7 ", True),
        ("11", False),
        ("07", False),
        ("7 minutes", False),
        ("", False),
        ("٧", False),
    ],
)
def test_check(answer: str, right: bool) -> None:
    assert AsyncPlan().check(P, answer) is right


def brute_force(steps: list[Step]) -> int:
    """Minutes by simulation: in every minute, each step whose needs are done works on."""
    left = [step.minutes for step in steps]
    minute = 0
    while any(left):
        ready = [
            place
            for place, step in enumerate(steps)
            if left[place] and not any(left[need] for need in step.needs)
        ]
        for place in ready:
            left[place] -= 1
        minute += 1
    return minute


@pytest.mark.parametrize("linked", [0.0, 0.7, 1.0])
def test_plans_and_searches_keep_their_promises(linked: float) -> None:
    task = AsyncPlan(AsyncPlanParams(linked=linked, steps_high=8, waits=3))
    rows = task.problems("train", 150, 0)
    assert len({task.key(problem) for problem in rows}) == 150
    longest = task.longest_prompt()
    words = {*task.words(), *map(str, range(1, task.largest_number + 1))}
    needed = 0
    for number, problem in enumerate(rows):
        task.validate(problem)
        steps = [parse_step(text, place) for place, text in enumerate(problem.fields["steps"])]
        tree = task.search(problem, random.Random(number))
        assert tree.solution == str(brute_force(steps)) and task.check(problem, tree.solution)
        assert [child.needs for child in tree.children] == [step.needs for step in steps]
        assert [child.solution.split()[-1] for child in tree.children if child.solution] == [
            str(end) for end in ends(steps)
        ]
        needed += sum(bool(child.needs) for child in tree.children)
        prompt = task.prompt(problem).text
        assert len(prompt) <= len(longest)
        text = " ".join(f"{c.move} {c.message} {c.trace} {c.solution}" for c in tree.children)
        assert set(f"{prompt} {text} {tree.conclusion}".split()) <= words
    assert task.has_needs == (linked > 0) == (needed > 0)


def test_equal_plans_have_one_key_whatever_the_order_and_names() -> None:
    task = AsyncPlan()
    assert task.key(P) == task.key(row("5", "3", "1 after B", "2 after A B"))
    assert task.key(P) != task.key(row("3", "5", "2 after A B", "1 after B"))
    assert fingerprint([Step(minutes=2, needs=())]) != fingerprint([Step(minutes=3, needs=())])


@pytest.mark.medium
def test_splits_are_disjoint_whatever_the_seeds() -> None:
    task = AsyncPlan(AsyncPlanParams(steps_high=3, minutes_high=3, validation_percent=30, test_percent=30))
    keys = [
        {task.key(problem) for problem in task.problems(split, 30, seed)}
        for split, seed in (("train", 3), ("validation", 4), ("test", 3))
    ]
    assert len(set.union(*keys)) == 90
    assert task.problems("test", 20, 0)[:5] == task.problems("test", 5, 0)
    with pytest.raises(ConfigError, match="were asked for; raise test_percent"):
        task.problems("test", 500, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps_low": 7}, "steps_low .7. must not exceed steps_high"),
        ({"steps_high": 11}, "less than or equal to 10"),
        ({"minutes_low": 10}, "minutes_low .10. must not exceed"),
        ({"linked": 1.5}, "less than or equal to 1"),
        ({"validation_percent": 50, "test_percent": 50}, "leave something to train on"),
    ],
)
def test_parameters_are_checked(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AsyncPlanParams.model_validate(change)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (row("3"), "must be 2 to 10 texts"),
        (row("3", 4), "must be 2 to 10 texts"),
        (row("3", "0"), "step B .'0'. does not begin with its minutes"),
        (row("3", "2 after"), "is not `minutes`"),
        (row("3", "2 behind A"), "is not `minutes`"),
        (row("3", "2 after B"), "waits for 'B', which is not an earlier step"),
        (row("3", "2 after A A"), "waits for one step twice"),
        (row("90", "2 after A"), "takes 92 minutes, above"),
        (Problem("p", "parts", {"steps": ["1", "1"]}), "belongs to task 'parts'"),
    ],
)
def test_a_broken_plan_is_an_error(problem: Problem, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AsyncPlan().validate(problem)
