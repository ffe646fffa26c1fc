"""Exact labels of steps on parts, sudoku and async_plan: by hand, and on whatever the solvers write."""

import random
from functools import cache

import pytest

from data.steps.step import StepLabel
from data.tasks.async_plan.task import AsyncPlan, AsyncPlanParams
from data.tasks.countdown import Countdown, CountdownParams
from data.tasks.labelled import StepLabelledTask
from data.tasks.parts import Parts, PartsParams
from data.tasks.problem import Problem
from data.tasks.sudoku.labels import solved
from data.tasks.sudoku.task import Sudoku, SudokuParams
from tests.support.step_lab import steps_of, written

GOOD, DEAD, SLIP, FALSE, NO_CLAIM = (
    StepLabel(valid=True, reachable=True),
    StepLabel(valid=True, reachable=False),
    StepLabel(valid=False, reachable=True),
    StepLabel(valid=False, reachable=False),
    StepLabel(valid=None, reachable=None),
)
Expected = list[tuple[str, StepLabel]]


def check(task: StepLabelledTask, problem: Problem, before: str, text: str, expected: Expected) -> None:
    steps = steps_of(text, task)
    found = task.label_steps(problem, steps_of(before, task), steps)
    assert list(zip(steps, found, strict=True)) == expected


# A = 7, B = 11, C = 11: 29.
SUMS = Problem("p", "parts", {"parts": ["3 * 4 - 5", "2 + 9", "A + 4"]})
LINKED = Parts(PartsParams(dependencies=True))
ALL_SUMS = "<solo> A = 3 * 4 - 5 B = 2 + 9 C = A + 4 <think>"


def test_parts_in_words() -> None:
    text = (
        "<try> A 3 * 4 = 12 - 5 = 7 <try> B 2 + 9 = 11 <try> C 7 + 4 = 11 7 + 11 = 18 + 11 = 29 <answer> 29"
    )
    equations = "A 3 * 4 = 12,- 5 = 7,B 2 + 9 = 11,C 7 + 4 = 11,7 + 11 = 18,+ 11 = 29,29"
    check(LINKED, SUMS, ALL_SUMS, text, [(step, GOOD) for step in equations.split(",")])


def test_wrong_parts_in_words() -> None:
    text = (
        "<try> A 3 * 4 = 13 - 5 = 8 <try> B 2 + 8 = 10 <try> A 3 * 4 - 5 = 7 <try> B 2 + 9 = 11 <answer> 28"
    )
    expected = [
        ("A 3 * 4 = 13", FALSE),
        ("- 5 = 8", DEAD),  # right from 13 on
        ("B 2 + 8 = 10", DEAD),  # true, but not B
        ("A 3 * 4 - 5 = 7", DEAD),  # B is still wrong
        ("B 2 + 9 = 11", GOOD),  # both are put right
        ("28", FALSE),
    ]
    check(LINKED, SUMS, ALL_SUMS, text, expected)


def test_parts_of_threads() -> None:
    spawn = "<spawn> A = 3 * 4 - 5 <and> B = 2 + 8 <join>"
    check(LINKED, SUMS, ALL_SUMS, spawn, [("A = 3 * 4 - 5", GOOD), ("B = 2 + 8", FALSE)])
    child = "7 + 4 = 11 <found> C = 11"
    check(LINKED, SUMS, "<child> C = A + 4 A = 7 <think>", child, [("7 + 4 = 11", GOOD), ("C = 11", GOOD)])
    # A thread that got a wrong result goes on rightly, to a wrong end.
    check(
        LINKED, SUMS, "<child> C = A + 4 A = 8 <think>", "8 + 4 = 12 <found> C = 12",
        [("8 + 4 = 12", DEAD), ("C = 12", DEAD)],
    )  # fmt: skip
    resumed = f"{ALL_SUMS} <results> A = 7 B = 11 C = 11 <end>"
    check(LINKED, SUMS, resumed, "7 + 11 + 11 = 28 <answer> 28", [("7 + 11 + 11 = 28", FALSE), ("28", DEAD)])


def test_parts_in_questions() -> None:
    task = Parts(PartsParams(text="questions"))
    problem = Problem("p", "parts", {"parts": ["2 + 3 * 4", "9 - 2"]})  # 20 and 7
    prompt = task.prompt(problem).text
    text = "What is (2 + 3) * 4? 2 + 3 = 5, 5 * 4 = 20 What is 9 - 2? 9 - 2 = 7 20 + 7 = 27 <answer> 27"
    expected = [
        ("What is (2 + 3) * 4?", GOOD),
        ("2 + 3 = 5", GOOD),
        ("5 * 4 = 20", GOOD),
        ("What is 9 - 2?", GOOD),
        ("9 - 2 = 7", GOOD),
        ("20 + 7 = 27", GOOD),
        ("27", GOOD),
    ]
    check(task, problem, prompt, text, expected)
    # Results in the order in which they came back, each behind its question, the second one wrong.
    back = f"{prompt}\n<sub> What is 9 - 2? <done> 7 </sub> <sub> What is (2 + 3) * 4? <done> 14 </sub>"
    check(task, problem, back, "7 + 14 = 21", [("7 + 14 = 21", DEAD)])
    check(task, problem, back.replace("14", "20"), "7 + 20 = 27", [("7 + 20 = 27", GOOD)])
    child = "What is (2 + 3) * 4?"
    check(task, problem, child, "2 + 3 * 4 = 14\n14", [("2 + 3 * 4 = 14", DEAD), ("14", DEAD)])
    check(task, problem, child, "(2 + 3) * 4 = 20\n20", [("(2 + 3) * 4 = 20", GOOD), ("20", GOOD)])


PLAN = Problem("p", "async_plan", {"steps": ["3", "5", "2 after A B"]})
WHOLE_PLAN = "<solo> A = 3 B = 5 C = 2 after A B <think>"


def test_plans_in_words() -> None:
    text = "<try> A 3 <try> B 5 <try> C max 3 5 = 5 + 2 = 7 max 3 5 7 = 7 <answer> 7"
    steps = "A 3,B 5,C max 3 5 = 5,+ 2 = 7,max 3 5 7 = 7,7"
    check(AsyncPlan(), PLAN, WHOLE_PLAN, text, [(step, GOOD) for step in steps.split(",")])
    wrong = "<try> A 4 <try> B 5 <try> C max 3 5 = 3 + 2 = 5 max 4 5 = 5 <answer> 6"
    expected = [
        ("A 4", FALSE),
        ("B 5", DEAD),
        ("C max 3 5 = 3", FALSE),
        ("+ 2 = 5", DEAD),
        ("max 4 5 = 5", DEAD),
        ("6", FALSE),
    ]
    check(AsyncPlan(), PLAN, WHOLE_PLAN, wrong, expected)


def test_plans_of_threads_and_as_a_story() -> None:
    child = "<child> C = 2 after A B A ends 3 B ends 5 <think>"
    check(
        AsyncPlan(), PLAN, child, "max 3 5 = 5 + 2 = 7 <found> C ends 7",
        [("max 3 5 = 5", GOOD), ("+ 2 = 7", GOOD), ("C ends 7", GOOD)],
    )  # fmt: skip
    check(AsyncPlan(), PLAN, child, "8 <found> C ends 8", [("8", FALSE), ("C ends 8", DEAD)])
    story = AsyncPlan(AsyncPlanParams(text="story"))
    prompt = story.prompt(PLAN).text
    text = (
        "Step A 3\nStep B 5\nStep C max(3, 5) = 5, 5 + 2 = 7 max(3, 5, 7) = 7\n"
        "Step C takes 3 minutes and starts when step A is done.\nStep C is done after 8 minutes.\nSo it is."
    )
    expected = [
        ("Step A 3", GOOD),
        ("Step B 5", GOOD),
        ("Step C max(3, 5) = 5", GOOD),
        ("5 + 2 = 7", GOOD),
        ("max(3, 5, 7) = 7", GOOD),
        ("Step C takes 3 minutes and starts when step A is done.", FALSE),
        ("Step C is done after 8 minutes.", FALSE),
        ("So it is.", NO_CLAIM),
    ]
    check(story, PLAN, prompt, text, expected)


GRID = Problem("p", "sudoku", {"givens": "1 2 3 4 / . 4 . 2 / 2 . 4 . / . 3 . ."})
"""Its solution is 1 2 3 4 / 3 4 1 2 / 2 1 4 3 / 4 3 2 1."""


def test_sudokus() -> None:
    prompt = "<solo> 1 2 3 4 / . 4 . 2 / 2 . 4 . / . 3 . . <think>"
    text = (
        "<try> B 1 = 3 B 3 = 1 C 2 = 1 C 2 = 3 D 1 = 1 C 2 none guess done <try> B 1 = 4 "
        "<answer> 1 2 3 4 / 3 4 1 2 / 2 1 4 3 / 4 3 2 1"
    )
    expected = [
        ("B 1 = 3", GOOD),
        ("B 3 = 1", GOOD),
        ("C 2 = 1", GOOD),
        ("C 2 = 3", FALSE),  # filled already, and there is a 3 in the column
        ("D 1 = 1", FALSE),  # there is a 1 in the column
        ("C 2 none", FALSE),
        ("guess", FALSE),
        ("done", FALSE),
        ("B 1 = 4", FALSE),  # tried in the first grid, where row B has a 4
        ("1 2 3 4 / 3 4 1 2 / 2 1 4 3 / 4 3 2 1", GOOD),
    ]
    check(Sudoku(), GRID, prompt, text, expected)


def test_a_dead_end_of_a_sudoku() -> None:
    """D 3 = 1 breaks no rule, but leaves no 1 for B 3, then none for D 4: right steps away from the goal."""
    prompt = "<child> 1 2 3 4 / . 4 . 2 / 2 . 4 . / . 3 1 . <think>"
    grids = "<spawn> 1 2 3 4 / . 4 . 2 / 2 1 4 . / . 3 . . <and> 1 2 3 4 / . 4 . 2 / 2 . 4 . / . 3 . 4"
    text = f"B 1 = 3 B 3 none {grids}"
    expected = [
        ("B 1 = 3", DEAD),
        ("B 3 none", DEAD),
        ("1 2 3 4 / . 4 . 2 / 2 1 4 . / . 3 . .", GOOD),
        ("1 2 3 4 / . 4 . 2 / 2 . 4 . / . 3 . 4", FALSE),  # column 4 has two
    ]
    check(Sudoku(), GRID, prompt, text, expected)


TASKS: dict[str, StepLabelledTask] = {
    "countdown": Countdown(),
    "countdown of five": Countdown(CountdownParams(operands=5, max_first=3)),
    "countdown in lines": Countdown(CountdownParams(text="apr")),
    "parts": Parts(),
    "parts that are linked": LINKED,
    "parts in questions": Parts(PartsParams(text="questions")),
    "plan": AsyncPlan(),
    "plan as a story": AsyncPlan(AsyncPlanParams(text="story")),
    "sudoku": Sudoku(SudokuParams(givens_low=4, givens_high=6)),
    "sudoku of six": Sudoku(SudokuParams(side=6, givens_low=16, givens_high=20)),
}


@cache
def problems(name: str) -> list[Problem]:
    """Problems of a task, made once."""
    return TASKS[name].problems("train", 20, seed=1)


@pytest.mark.parametrize("name", TASKS)
def test_whatever_a_solver_writes_is_valid(name: str) -> None:
    """Where the search finds the answer, it also leads to the goal: all of it where every part is needed."""
    task, rng, solved_searches = TASKS[name], random.Random(7), 0
    for problem in problems(name):
        tree = task.search(problem, rng)
        steps = steps_of(written(tree), task)
        found = task.label_steps(problem, steps_of(task.prompt(problem).text, task), steps)
        wrong = [step for step, label in zip(steps, found, strict=True) if label.valid is False]
        assert not wrong, (problem, wrong)
        assert sum(label.valid is True for label in found) > len(found) / 2
        if tree.solution is not None:
            solved_searches += 1
            assert found[-1] == GOOD, problem
        if tree.every:
            assert all(label.reachable is not False for label in found), problem
    assert solved_searches > 3


def test_a_value_of_a_sudoku_leads_on_exactly_when_it_is_the_solution() -> None:
    task = Sudoku(SudokuParams(givens_low=5, givens_high=6))
    for problem in task.problems("train", 5, seed=2):
        prompt = steps_of(task.prompt(problem).text, task)
        truth = solved(task._read(problem), 4)
        assert task.check(
            problem, " / ".join(" ".join(map(str, truth[row : row + 4])) for row in (0, 4, 8, 12))
        )
        for cell in range(16):
            for value in range(1, 5):
                step = f"{'ABCD'[cell // 4]} {cell % 4 + 1} = {value}"
                (label,) = task.label_steps(problem, prompt, [step])
                if task._read(problem)[cell]:
                    assert label.valid is False
                else:
                    assert label.reachable is (truth[cell] == value)
                    assert label.valid or not label.reachable


@pytest.mark.parametrize("name", TASKS)
def test_any_text_gets_labels(name: str) -> None:
    """What a model makes of the words, whole searches with words changed, dropped and repeated among it."""
    task, rng = TASKS[name], random.Random(11)
    problem = problems(name)[0]
    prompt = task.prompt(problem).text
    words = (
        f"{prompt} {written(task.search(problem, rng))} <try> <and> 1 : 0 7 99 = + - * / ( ) , . X".split()
    )
    wrong = 0
    for _ in range(150):
        text = rng.choices(words, k=rng.randint(0, 40))
        if rng.random() < 0.5:
            text = written(task.search(problem, rng)).split()
            for _ in range(rng.randint(0, 4)):
                text[rng.randrange(len(text))] = rng.choice(words)
        before = steps_of(rng.choice([prompt, "", " ".join(rng.choices(words, k=12))]), task)
        steps = steps_of(" ".join(text), task)
        found = task.label_steps(problem, before, steps)
        assert len(found) == len(steps)
        assert sum(map(len, "".join(steps).split())) <= sum(map(len, text))
        wrong += sum(label.valid is False for label in found)
    assert wrong > 10


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(
    "part", ["(", "9", "9 ", "9 + ", "1 : ", " ", ". / ", "A = ", "max(", "[1, ", "1+1=2, "]
)
def test_a_very_long_text_gets_labels(name: str, part: str) -> None:
    task = TASKS[name]
    problem = problems(name)[0]
    steps = steps_of(f"{part * 5_000} = 3", task)
    assert len(task.label_steps(problem, [], steps)) == len(steps)
