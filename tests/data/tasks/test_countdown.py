"""Countdown's problems and its checker."""

import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data.errors import ConfigError
from data.tasks.base import split_of
from data.tasks.countdown import Countdown, CountdownParams
from data.tasks.countdown_arithmetic import reachable
from data.tasks.problem import Problem
from data.tasks.registry import TASKS, build_task

APR = CountdownParams(high=99, target_high=100, cap=10_000)
SPLITS = ("train", "validation", "test")


def row(numbers, target):
    return Problem("p", "countdown", {"numbers": numbers, "target": target})


P = row([4, 10, 2, 9], 44)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("9 * 4 10 - 2 36 + 8", True),
        ("4 * 9 2 - 10 8 + 36", True),  # operations do not mind the order
        ("10 - 2 9 * 4 8 + 36", True),  # nor which pair comes first
        ("9 * 4 36 + 10 46 - 2", True),  # a chain
        ("9 * 4 36 + 10 46 + 2", False),  # 48
        ("9 * 4 36 + 8", False),  # 10 and 2 not used
        ("9 * 4 36 + 8 44 + 0", False),
        ("9 * 4 9 - 2 36 + 8", False),  # 9 used twice
        ("9 * 5 45 - 2 43 + 1", False),  # numbers that are not there
        ("9 * 4 36 + 10 46 - 2 44", False),  # one word too many
        ("9 * 4 36 + 10 46 -", False),
        ("9 x 4 36 + 10 46 - 2", False),
        ("9 * 4 036 + 10 46 - 2", False),
        ("9 * 4 36 + 10 46 - -2", False),
        ("+ + + + + + + + +", False),
        ("__import__('os') * 4 36 + 10 46 - 2", False),
        ("9 * 4 36 + 10 46 - " + "9" * 10_000, False),
        ("٩ * 4 36 + 10 46 - 2", False),  # a digit, but not one of ours
        ("10 * 9 90 - 44 46 - 2", False),  # 90 > 60
        ("", False),
    ],
)
def test_check(answer, right):
    assert Countdown().check(P, answer) is right


def test_check_needs_the_result_to_be_carried_on():
    # 4 - 2 = 2 must be used, though another 2 lies there as well.
    task = Countdown()
    assert task.check(row([4, 2, 10], 20), "4 - 2 10 * 2")
    assert not task.check(row([4, 2, 2, 10], 20), "4 - 2 2 - 2 10 * 2")  # 2 - 2 = 0
    assert task.check(row([4, 2, 2, 10], 40), "4 - 2 2 * 2 10 * 4")


EAGER = Countdown(CountdownParams(max_first=24, max_second=12))
SOLVED = [
    (problem, tree.solution)
    for problem in EAGER.problems("train", 200, 0)
    if (tree := EAGER.search(problem, random.Random(problem.id))).solution is not None
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SOLVED), st.integers(0, 8), st.integers(1, 60))
def test_a_mutated_answer_is_wrong(solved, at, number):
    problem, solution = solved
    words = solution.split(" ")
    assert EAGER.check(problem, solution)
    assert not EAGER.check(row(problem.fields["numbers"], problem.fields["target"] + 1), solution)
    assert not EAGER.check(row([*problem.fields["numbers"], 1], problem.fields["target"]), solution)
    assert not EAGER.check(problem, " ".join(words[:-3]))
    assert not EAGER.check(problem, " ".join([*words, *words[-3:]]))
    # Another number uses one that is not there, or leaves one over. (Only x * 1 = x allows a swap:
    # 4 * 1 4 + 7 is as good as 7 * 1 4 + 7.)
    if at % 3 != 1 and str(number) != words[at] and "1" not in words:
        assert not EAGER.check(problem, " ".join([*words[:at], str(number), *words[at + 1 :]]))


@pytest.mark.parametrize(
    "params", [CountdownParams(), APR, CountdownParams(operands=3), CountdownParams(operands=5)]
)
def test_problems_are_solvable_distinct_and_as_configured(params):
    task = Countdown(params)
    rows = task.problems("train", 200, seed=3)
    assert len({task.key(problem) for problem in rows}) == len({problem.id for problem in rows}) == 200
    for problem in rows:
        numbers, target = problem.fields["numbers"], problem.fields["target"]
        assert len(numbers) == params.operands
        assert numbers == sorted(numbers, reverse=True)
        assert params.low <= min(numbers) <= max(numbers) <= params.high
        assert params.target_low <= target <= params.target_high
        assert target not in numbers
        assert target in reachable(tuple(numbers), params.cap)
        assert task.prompt(problem).text == " ".join(map(str, [target, *numbers]))
        task.validate(problem)


@pytest.mark.parametrize("params", [CountdownParams(), APR])
def test_problems_depend_on_split_and_seed_alone_and_grow_at_the_end(params):
    task = Countdown(params)
    first = task.problems("validation", 50, seed=1)
    task.problems("train", 10, seed=5)
    assert task.problems("validation", 20, seed=1) == first[:20]
    assert task.problems("validation", 50, seed=2) != first


@pytest.mark.medium
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_splits_are_disjoint_whatever_the_seeds(seed, other):
    task = Countdown()
    keys = {
        split: {task.key(problem) for problem in task.problems(split, 300, s)}
        for split, s in zip(SPLITS, (seed, other, seed), strict=True)
    }
    assert not keys["train"] & keys["validation"]
    assert not keys["train"] & keys["test"]
    assert not keys["validation"] & keys["test"]


def test_splits_do_not_depend_on_python_s_hash_seed():
    code = (
        "from data.tasks.countdown import Countdown; "
        "print([p.id for p in Countdown().problems('test', 5, 0)])"
    )
    runs = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code]
        runs.add(
            subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        )
    assert len(runs) == 1
    assert runs.pop().decode().strip() == str([problem.id for problem in Countdown().problems("test", 5, 0)])


def test_split_shares():
    found = [split_of(str(i), validation_percent=5, test_percent=10) for i in range(10_000)]
    assert 400 < found.count("validation") < 600
    assert 900 < found.count("test") < 1100


def test_targets_are_as_uniform_as_drawing_one_after_the_other():
    # Two numbers of 1..3, targets 2..9, cap 9: (3, 1) is 2 of 9 draws and reaches 4 and 2, not 3: 4 has
    # weight 1/9. (2, 1) is 2 of 9 draws and reaches only 3, weight 2/9: it comes first twice as often.
    params = CountdownParams(
        operands=2, high=3, target_low=2, target_high=9, cap=9, validation_percent=0, test_percent=0
    )
    first = [Countdown(params).problems("train", 1, seed)[0].id for seed in range(4000)]
    once, twice = first.count("countdown-3-1-to-4"), first.count("countdown-2-1-to-3")
    assert 1.7 < twice / once < 2.3


def test_too_few_problems_says_how_many_there_are():
    with pytest.raises(
        ConfigError, match=r"test split holds 694 problems .* 1024 were asked for; raise test_percent"
    ):
        Countdown().problems("test", 1024, seed=0)
    assert len(Countdown().problems("test", 694, seed=0)) == 694
    assert len(Countdown(CountdownParams(test_percent=10)).problems("test", 1024, seed=0)) == 1024


def test_too_few_problems_in_a_space_too_large_to_list():
    params = CountdownParams(operands=2, low=1, high=200, target_low=390, target_high=391, cap=391)
    with pytest.raises(ConfigError, match=r"train split gave \d+ problems in \d+ draws"):
        Countdown(params).problems("train", 100, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": 11}, "low .11. must not exceed high"),
        ({"target_low": 41}, "target_low .41. must not exceed"),
        ({"cap": 30}, "cap .30. must be at least"),
        ({"validation_percent": 50, "test_percent": 50}, "leave something to train on"),
        ({"operands": 7}, "less than or equal to 6"),
        ({"target_low": 1}, "greater than or equal to 2"),
        ({"keep_failed": 1.5}, "less than or equal to 1"),
        ({"colour": 1}, "Extra inputs"),
        ({"low": "1"}, "valid integer"),
    ],
)
def test_parameters_are_checked(change, message):
    with pytest.raises(ValidationError, match=message):
        CountdownParams(**change)


@pytest.mark.parametrize(
    "problem",
    [
        Problem("p", "sudoku", {"numbers": [1, 2], "target": 3}),
        Problem("p", "countdown", {"target": 3}),
        Problem("p", "countdown", {"numbers": "1 2", "target": 3}),
        Problem("p", "countdown", {"numbers": [1, 2.5], "target": 3}),
        Problem("p", "countdown", {"numbers": [1, True], "target": 3}),
        Problem("p", "countdown", {"numbers": [1], "target": 3}),
        Problem("p", "countdown", {"numbers": [1, 2], "target": "3"}),
        Problem("p", "countdown", {"numbers": [1, 2]}),
    ],
)
def test_a_broken_problem_is_an_error_and_no_wrong_answer(problem):
    task = Countdown()
    for use in (task.validate, task.prompt, task.key, lambda p: task.check(p, "1 + 2")):
        with pytest.raises(ConfigError, match="problem 'p'"):
            use(problem)


def test_validate_refuses_numbers_above_the_cap():
    with pytest.raises(ConfigError, match="above the task's cap of 60"):
        Countdown().validate(row([61, 2], 30))


def test_the_registry_builds_by_parameters():
    task = build_task(APR)
    assert isinstance(task, Countdown)
    assert task.largest_number == 10_000
    assert TASKS["countdown"] is Countdown
    assert task.words() == ["+", "-", "*", "/", "X", "."]
    assert set(task.pivots()) <= set(task.words())
