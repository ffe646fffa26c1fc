"""A solver for plans: when each step is done, each with its working, and then the latest of all.

What it writes for "A = 3 B = 5 C = 2 after A B" in words, and as a story:
    move        "C"                           "Step C"
    message     "C = 2 after A B"             "Step C takes 2 minutes and starts when steps A and B are done."
    trace       "max 3 5 = 5 + 2 = 7"         "max(3, 5) = 5, 5 + 2 = 7"
    solution    "C ends 7"                    "Step C is done after 7 minutes."
    conclusion  "max 3 5 7 = 7"               "max(3, 5, 7) = 7"
C needs A and B: its message is complete only together with their solutions. The search's solution is "7".

It is never wrong, but leaves out some of the working: reinforcement learning has to find out that writing it
pays.
"""

import random
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from data.params import Params
from data.tasks.async_plan.plan import AFTER, NAMES, Step, ends
from data.tasks.search_tree import SearchNode, SearchTree

TextStyle = Literal["words", "story"]
MAX, ENDS, IS, PLUS = "max", "ends", "=", "+"
QUESTION = "After how many minutes are all steps done, if every step starts as early as it can?"


class SolverParams(Params):
    """Settings of the solver. The more it leaves out, the more room there is for reinforcement learning."""

    skip: float = Field(default=0.5, ge=0, le=1)
    """Probability that the working of a step is left out; its result never is."""
    text: TextStyle = "words"
    """`words`: single words, for models from random weights. `story`: sentences, for pretrained models."""


def plan_text(steps: Sequence[Step], style: TextStyle) -> str:
    """Text of the whole problem, every step in order."""
    texts = [step_text(step, place, style) for place, step in enumerate(steps)]
    if style == "words":
        return " ".join(texts)
    start = "Any number of steps can run at the same time, unless one has to wait for another."
    return "\n".join([start, *texts, QUESTION])


def step_text(step: Step, place: int, style: TextStyle) -> str:
    """The step with index `place`, for a reader who has nothing else."""
    if style == "words":
        return f"{NAMES[place]} {IS} {step.text}"
    unit = "minute" if step.minutes == 1 else "minutes"
    takes = f"Step {NAMES[place]} takes {step.minutes} {unit}"
    if not step.needs:
        return f"{takes}."
    *most, last = [NAMES[need] for need in step.needs]
    waits = f"steps {', '.join(most)} and {last} are" if most else f"step {last} is"
    return f"{takes} and starts when {waits} done."


def solve(steps: Sequence[Step], params: SolverParams, rng: random.Random) -> SearchTree:
    """One search: every step, then the latest end."""
    done, style = ends(steps), params.text
    children = []
    for place, step in enumerate(steps):
        written = rng.random() >= params.skip
        starts = [done[need] for need in step.needs]
        children.append(
            SearchNode(
                move=NAMES[place] if style == "words" else f"Step {NAMES[place]}",
                message=step_text(step, place, style),
                trace=_working(starts, step.minutes, style) if written else str(done[place]),
                solution=_solution(place, done[place], style),
                needs=step.needs,
            )
        )
    latest = f"{_maximum(done, style)} {IS} {max(done)}"
    return SearchTree(children=tuple(children), solution=str(max(done)), every=True, conclusion=latest)


def _working(starts: Sequence[int], minutes: int, style: TextStyle) -> str:
    """Arithmetic of one step, from the ends of the steps it needs to its own."""
    if not starts:
        return str(minutes)
    start = max(starts)
    total = f"{PLUS} {minutes} {IS} {start + minutes}"
    if len(starts) == 1:
        return f"{start} {total}"
    between = " " if style == "words" else f", {start} "
    return f"{_maximum(starts, style)} {IS} {start}{between}{total}"


def _maximum(values: Sequence[int], style: TextStyle) -> str:
    return (
        f"{MAX} {' '.join(map(str, values))}" if style == "words" else f"{MAX}({', '.join(map(str, values))})"
    )


def _solution(place: int, end: int, style: TextStyle) -> str:
    if style == "words":
        return f"{NAMES[place]} {ENDS} {end}"
    return f"Step {NAMES[place]} is done after {end} {'minute' if end == 1 else 'minutes'}."


WORDS = (MAX, ENDS, IS, PLUS, AFTER, *NAMES)
"""All words of the style `words`."""
