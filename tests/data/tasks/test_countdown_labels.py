"""Exact labels of Countdown steps: by hand, by brute force, and on the searches of the solver."""

import random
from itertools import combinations_with_replacement

import pytest

from data.steps.step import StepLabel
from data.tasks.countdown import Countdown, CountdownParams
from data.tasks.countdown_arithmetic import moves
from data.tasks.countdown_goal import Goal
from data.tasks.problem import Problem
from tests.support.step_lab import steps_of, written

TASK = Countdown()
APR = Countdown(CountdownParams(text="apr", cap=10_000))
# 41 = 9 * 4 + 10 / 2, and from 36 10 2 there is no other way.
PROBLEM = Problem("p", "countdown", {"numbers": [10, 9, 4, 2], "target": 41})
GOOD, DEAD, FALSE = (
    StepLabel(valid=True, reachable=True),
    StepLabel(valid=True, reachable=False),
    StepLabel(valid=False, reachable=False),
)
NO_CLAIM = StepLabel(valid=None, reachable=None)


def labels(text: str, before: str = "<solo> 41 10 9 4 2 <think>", task: Countdown = TASK) -> list[StepLabel]:
    return list(task.label_steps(PROBLEM, steps_of(before, task), steps_of(text, task)))


def test_a_search_is_cut_at_its_moves() -> None:
    text = (
        "<try> 9 * 4 10 2 36 36 + 10 46 2 48 44 X 23 41 . 10 / 2 5 36 41 31 X X 41 + "
        "<answer> 9 * 4 10 / 2 36 + 5"
    )
    assert steps_of(text, TASK) == [
        "9 * 4 10 2 36",
        "36 + 10 46 2 48 44 X 23 41 .",
        "10 / 2 5 36 41 31 X X 41 +",
        "9 * 4 10 / 2 36 + 5",
    ]
    assert labels(text) == [GOOD, DEAD, GOOD, GOOD]


def test_a_verdict_is_not_taken_for_a_move() -> None:
    assert steps_of("<try> 36 + 5 41 2 43 39 X X 43 + 36 - 10 26 2 28 24 52 13 43 .", TASK) == [
        "36 + 5 41 2 43 39 X X 43 +",
        "36 - 10 26 2 28 24 52 13 43 .",
    ]


def test_messages_and_what_their_threads_write() -> None:
    spawn = "<spawn> 41 9 * 4 10 2 <and> 41 10 - 4 9 2 <and> 41 9 * 5 10 2 <join>"
    assert steps_of(spawn, TASK) == ["41 9 * 4 10 2", "41 10 - 4 9 2", "41 9 * 5 10 2"]
    # From 6 9 2 there is none: 6 * 9 = 54, 54 - 2 = 52, 54 / 2 = 27, 6 + 9 = 15, 9 - 2 = 7 * 6 = 42, ...
    assert labels(spawn) == [GOOD, DEAD, FALSE]
    child = "36 36 + 10 46 2 48 44 X 23 41 . <nothing>"
    assert steps_of(child, TASK) == ["36", "36 + 10 46 2 48 44 X 23 41 ."]
    assert labels(child, "<child> 41 9 * 4 10 2 <think>") == [GOOD, DEAD]
    assert labels("35 <nothing>", "<child> 41 9 * 4 10 2 <think>") == [FALSE]


@pytest.mark.parametrize(
    ("step", "label"),
    [
        ("9 * 4 10 2 35", FALSE),  # 9 * 4 is 36
        ("9 * 4 10 10 36", FALSE),  # there is one 10
        ("9 * 5 10 2 45", FALSE),  # there is no 5
        ("10 + 9 4 2 19", DEAD),  # true, but 19 4 2 do not make 41: 19 * 2 + 4 = 42, (19 + 4) * 2 = 46, ...
        ("9 * 4 10 / 2 36 + 5", GOOD),
        ("9 * 4 10 / 2 36 - 5", DEAD),  # 31
        ("9 * 4 36 + 10", DEAD),  # so far 46 and 2
        ("9 * 4 36 + 5", FALSE),  # 5 is not there yet
        ("hello", NO_CLAIM),
        ("12", NO_CLAIM),
    ],
)
def test_single_steps(step: str, label: StepLabel) -> None:
    assert labels(f"<try> {step}") == [label]


def test_a_wrong_value_is_gone_on_with() -> None:
    """What follows from a wrong line is right by itself, but no longer leads to the goal."""
    wrong = "<try> 9 * 4 10 2 35 10 / 2 5 35 40 30 X 7 41 ."
    assert labels(wrong) == [FALSE, DEAD]
    for change in ("10 / 2 5 36 41 31 X X 41 .", "10 / 2 5 36 42 31 X X 41 +", "10 / 2 5 36 41 31 X X 40 +"):
        assert labels(f"<try> 9 * 4 10 2 36 {change}")[1] == StepLabel(valid=False, reachable=True)


def test_apr_lines() -> None:
    sub_search = [
        ("Exploring Operation: 10/2=5, Resulting Numbers: [36, 5]", GOOD),
        ("Generated Node #0,0,0: 41:[36, 5] Operation: 10/2=5", GOOD),
        ("Exploring Operation: 36+10=46, Resulting Numbers: [2, 46]", DEAD),
        ("Exploring Operation: 36+10=45, Resulting Numbers: [2, 45]", FALSE),
        ("Moving to Node #0,0,0", NO_CLAIM),
        ("Current State: 41:[36, 5], Operations: ['9*4=36', '10/2=5']", GOOD),
        ("Exploring Operation: 36-5=31, Resulting Numbers: [31]", DEAD),
        ("31,41 unequal: No Solution", DEAD),
        ("Exploring Operation: 36+5=41, Resulting Numbers: [41]", GOOD),
        ("41,41 unequal: No Solution", StepLabel(valid=False, reachable=True)),
        ("41,41 equal: Goal Reached", GOOD),
        ("No solution found.", NO_CLAIM),
        ("9*4=36, 10/2=5, 36+5=41", GOOD),
        ("9*4=36, 10/2=5, 36+5=42", FALSE),
    ]
    text = "\n".join(line for line, _ in sub_search)
    message = "Moving to Node #0,0\nCurrent State: 41:[10, 2, 36], Operations: ['9*4=36']"
    assert labels(text, message, APR) == [label for _, label in sub_search]


def test_states_that_can_be_left_are_those_that_moves_lead_to() -> None:
    """Brute force over all moves, for every state of up to three values that could be written."""
    goal = Goal(numbers=(5, 3, 2, 2), target=11, cap=20)
    found: set[tuple[int, ...]] = set()
    front = {tuple(sorted(goal.numbers))}
    while front:
        found |= front
        front = {tuple(sorted(move.state)) for state in front for move in moves(state, goal.cap)} - found
    for size in (1, 2, 3):
        for values in combinations_with_replacement(range(1, goal.cap + 1), size):
            assert goal.is_sound(values) == (values in found), values
            assert goal.is_reachable(values) == (values in found and makes(values, goal)), values


def makes(values: tuple[int, ...], goal: Goal) -> bool:
    """Whether moves lead from the values to the target, by trying all."""
    return values == (goal.target,) or any(makes(move.state, goal) for move in moves(values, goal.cap))


@pytest.mark.parametrize("operands", [2, 3, 4, 5])
@pytest.mark.parametrize("text", ["words", "apr"])
def test_whatever_the_solver_writes_is_valid(operands: int, text: str) -> None:
    """And a step that leads to the answer says that the goal is reachable, the answer last of all."""
    task = Countdown(CountdownParams(operands=operands, text=text))  # type: ignore[arg-type]
    rng, solved = random.Random(operands), 0
    for problem in task.problems("train", 30, seed=0):
        tree = task.search(problem, rng)
        steps = steps_of(written(tree, " " if text == "words" else "\n"), task)
        found = task.label_steps(problem, steps_of(task.prompt(problem).text, task), steps)
        wrong = [step for step, label in zip(steps, found, strict=True) if label.valid is False]
        assert not wrong, (problem.id, wrong)
        assert sum(label.valid is True for label in found) > len(found) / 2
        if tree.solution is not None:
            solved += 1
            assert found[-1] == GOOD and steps[-1] == tree.solution
            assert sum(label.reachable is True for label in found) >= 2
        else:
            assert found[-1].reachable is not True
    assert solved > 3


def test_every_number_of_a_line_counts() -> None:
    """Any other number in its place makes a line wrong, and reachable is what brute force says."""
    rng, changed = random.Random(5), 0
    for problem in TASK.problems("train", 12, seed=1):
        numbers, target = problem.fields["numbers"], problem.fields["target"]
        goal = Goal(numbers=tuple(numbers), target=target, cap=TASK.params.cap)
        prompt = steps_of(TASK.prompt(problem).text, TASK)
        *search, _ = steps_of(written(TASK.search(problem, rng)), TASK)
        for place, step in enumerate(search):
            words = step.split()
            at = rng.choice([i for i, word in enumerate(words) if word.isdigit()])
            words[at] = str(rng.choice([n for n in range(1, 61) if n != int(words[at])]))
            found = TASK.label_steps(problem, prompt, [*search[:place], " ".join(words)])
            assert found[-1].valid is False, (problem.id, step, words)
            # A first move leaves all of its numbers, a look its result and the other number.
            left = step.split()[3:] if len(words) == 6 else step.split()[3:5]
            truth = TASK.label_steps(problem, prompt, [*search[: place + 1]])[-1]
            assert truth.reachable == makes(tuple(sorted(map(int, left))), goal)
            changed += 1
    assert changed > 50
