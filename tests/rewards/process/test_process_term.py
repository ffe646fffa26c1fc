"""The term `process` on texts whose labels are known by hand."""

from collections.abc import Sequence
from typing import Any

import pytest
from episodes import call, episode

from data.episodes.trajectory import Episode
from data.steps.step import Step, StepKind
from data.tasks.countdown import Countdown
from data.tasks.problem import Problem
from data.tasks.reasoning_gym.task import ReasoningGym, ReasoningGymParams
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rewards.score import Judged, Opinion, Score, StepScore
from rewards.terms.process import ProcessParams, ProcessTerm, thread_differences
from rewards.verifiers.verdict import UngradableError, Verdict
from rollout.offline import drive
from rollout.protocols import build_protocol, default_params, vocabulary

# 41 = 9 * 4 + 10 / 2, and from 36 10 2 there is no other way: the second step leads to a dead end.
PROBLEM = Problem("p", "countdown", {"numbers": [10, 9, 4, 2], "target": 41})
STEPS = (
    "9 * 4 10 2 36",
    "36 + 10 46 2 48 44 X 23 41 .",
    "10 / 2 5 36 41 31 X X 41 +",
    "<answer> 9 * 4 10 / 2 36 + 5",
)


TAGS, WORDS = vocabulary(default_params("sequential"))
CODEC = Codec(build_tokenizer([*TAGS, *WORDS, *Countdown().words()], numbers=99, digits=False))


def thought(steps: Sequence[str]) -> Episode:
    """One call that writes these steps."""
    said = CODEC.tokenizer(f"<try> {' <try> '.join(steps)} <eos>")["input_ids"]
    protocol = build_protocol(default_params("sequential"), CODEC)
    return drive(protocol, Countdown().prompt(PROBLEM), lambda _: tuple(said))


def score(steps: Sequence[str] = STEPS, *, task: Any = None, **given: Any) -> Score:
    judged = Judged(
        task=task or Countdown(), problem=PROBLEM, episode=thought(steps), codec=CODEC,
        verdict=Verdict.CORRECT,
    )  # fmt: skip
    return ProcessTerm(ProcessParams(name="process", **given))(judged)


@pytest.mark.parametrize(
    ("given", "rewards"),
    [
        ({}, [0.0, -1.0, 1.0, 0.0]),
        ({"aggregate": "each"}, [1.0, 0.0, 1.0, 1.0]),
        ({"aggregate": "each", "wrong": -1.0, "most_steps": 2}, [1.0, -1.0]),
        ({"aggregate": "each", "label": "valid"}, [1.0, 1.0, 1.0, 1.0]),
        # exp(-2 / 1) for the others beside 1 for the worst: weights 0.1353 / 1.4060 and 1 / 1.4060.
        (
            {"aggregate": "pure", "wrong": -1.0, "temperature": 1.0},
            [0.09626, -0.71123, 0.09626, 0.09626],
        ),
        # The last line of the call leads to the goal: one step, from 1 to 1.
        ({"step": "call"}, [0.0]),
    ],
)
def test_a_reward_for_each_step(given: dict[str, Any], rewards: list[float]) -> None:
    found = score(**given)
    assert found.value == 0.0
    assert [step.value for step in found.steps] == pytest.approx(rewards, abs=1e-5)
    assert all(step.call == 0 and step.start < step.stop for step in found.steps)
    stops = [step.stop for step in found.steps]
    assert stops == sorted(set(stops))


@pytest.mark.parametrize(("aggregate", "value"), [("last", 1.0), ("min", 0.0), ("mean", 0.75), ("prod", 0.0)])
def test_one_value_for_the_episode(aggregate: str, value: float) -> None:
    found = score(aggregate=aggregate)
    assert found.value == value and found.components == {"process": value} and found.placed == []
    assert found.reason == "4 of 4 steps labelled, 1 wrong"


def test_a_step_without_a_claim_is_left_out_unless_it_has_a_score() -> None:
    nonsense = ("9 * 4 10 2 36", "+ + 9 9")
    assert [step.value for step in score(nonsense, aggregate="each").steps] == [1.0]
    punished = score(nonsense, aggregate="each", unlabelled=-1.0)
    assert [step.value for step in punished.steps] == [1.0, -1.0]
    assert punished.reason == "1 of 2 steps labelled, 0 wrong"


def test_a_padded_step_counts_as_wrong() -> None:
    """Lengths without the tag: 6, 14, 10 and 10 tokens, of which all but the second lead to the goal."""
    lengths = [step.stop - step.start for step in score(aggregate="each").steps]
    bound = sorted(lengths)[0]
    found = score(aggregate="each", most_step_tokens=bound)
    assert bound < lengths[2] and [step.value for step in found.steps] == [1.0, 0.0, 0.0, 0.0]
    assert [step.value for step in score(aggregate="each", most_step_tokens=max(lengths)).steps] == [
        1.0, 0.0, 1.0, 1.0,
    ]  # fmt: skip


def test_a_thread_with_two_answers_earns_nothing() -> None:
    twice = (*STEPS, "<answer> 9 * 4 10 / 2 36 + 5")
    marks = {"aggregate": "each", "answer_marks": ("<answer>",)}
    assert [step.value for step in score(**marks).steps] == [1.0, 0.0, 1.0, 1.0]
    found = score(twice, wrong=-1.0, **marks)
    assert {step.value for step in found.steps} == {-1.0}
    assert found.reason.endswith("; a thread begins 2 answers")
    assert score(twice, aggregate="mean", right=0.5, answer_marks=("boxed",)).value > 0


def test_a_task_without_labels_is_refused() -> None:
    params = ReasoningGymParams.model_validate({"datasets": ({"name": "chain_sum"},)})
    with pytest.raises(UngradableError, match="reasoning_gym does not label steps"):
        score(task=ReasoningGym(params))


def test_differences_follow_the_lines_of_thought() -> None:
    """A parent ends with 0; its first child gets back to 1, its second writes no step; the parent then
    goes on from its own 0, not from what its children came to.
    """
    forked = episode((call(0, 0, 4), call(1, 1, 2, (0,)), call(2, 2, 2, (0,)), call(3, 0, 4, (0, 1, 2))))

    def step(index: int, start: int, value: float) -> tuple[Step, float]:
        made = Step(call=index, start=start, stop=start + 1, text="", kind=StepKind.LINE)
        return made, value

    scored = [step(0, 0, 1.0), step(0, 1, 0.0), step(1, 0, 1.0), step(3, 0, 0.0), step(3, 1, 1.0)]
    assert thread_differences(forked, scored, 1.0) == [0.0, -1.0, 1.0, 0.0, 1.0]


def by_scorer(opinion: Opinion, **given: Any) -> Score:
    """The term's score by a scorer's opinion of three steps."""
    judged = Judged(
        task=Countdown(), problem=PROBLEM, episode=thought(STEPS), codec=CODEC, verdict=Verdict.CORRECT,
        opinion=opinion,
    )  # fmt: skip
    return ProcessTerm(ProcessParams(name="process", source="scorer", **given))(judged)


OPINION = tuple(
    StepScore(call=0, start=start, stop=start + 2, value=value)
    for start, value in ((0, 0.75), (2, 0.25), (4, 0.5))
)


@pytest.mark.parametrize(
    ("given", "value", "rewards"),
    [
        # From 1 before the first step to 0.75, to 0.25, to 0.5.
        ({}, 0.0, [-0.25, -0.5, 0.25]),
        # Scores of -1 to 1: 0.5, -0.5, 0.
        ({"aggregate": "each", "wrong": -1.0}, 0.0, [0.5, -0.5, 0.0]),
        ({"aggregate": "each", "most_steps": 1}, 0.0, [0.75]),
        ({"aggregate": "min"}, 0.25, []),
        ({"aggregate": "prod"}, 0.09375, []),
    ],
)
def test_a_scorer_s_opinion(given: dict[str, Any], value: float, rewards: list[float]) -> None:
    found = by_scorer(OPINION, **given)
    assert found.value == pytest.approx(value)
    assert [step.value for step in found.steps] == pytest.approx(rewards)
    assert [(step.start, step.stop) for step in found.steps] == [(0, 2), (2, 4), (4, 6)][: len(rewards)]
    assert found.reason == "3 steps scored"


def test_no_opinion_is_no_grade() -> None:
    with pytest.raises(UngradableError, match="the scorer has no opinion: its process died"):
        by_scorer("its process died")
    assert by_scorer(()).steps == ()
