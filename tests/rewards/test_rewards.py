"""Every term alone, with numbers derived here, on episodes built call by call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from data.episodes.trajectory import (
    Call,
    Edge,
    EdgeKind,
    Episode,
    Forced,
    StopReason,
    Thread,
    ThreadOutcome,
    Violation,
    ViolationKind,
)
from data.errors import ConfigError
from data.tasks.countdown import Countdown
from data.tasks.problem import Problem
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rewards.compose import LARGEST, TERMS, RewardConfig, at_step, compose, is_open
from rewards.score import CallReward, Judged, Score, StepReward, Ungraded
from rewards.terms.correct import CorrectParams, CorrectTerm
from rewards.terms.format import FormatParams, FormatTerm
from rewards.terms.parallelism import ParallelismParams, ParallelismTerm, parallelism_bonus
from rewards.verifiers.base import OutcomeKind
from rewards.verifiers.verdict import Judge, Verdict

TASK = Countdown()
CODEC = Codec(build_tokenizer(TASK.words(), numbers=99, digits=False))
PROBLEM = Problem("p", "countdown", {"numbers": [10, 9, 4, 2], "target": 44})
BROKEN = Problem("p", "countdown", {"target": 44})
RIGHT, WRONG = "9 * 4 10 - 2 36 + 8", "9 * 4 10 - 2 36 - 8"


def call(index, thread, size, after=()):
    return Call(
        index=index,
        thread=thread,
        role="any",
        context=(Forced(ids=(3,)),),
        output=(4,) * size,
        logprobs=(),
        versions=(),
        stop=StopReason.STOP,
        after=after,
        num_trained=size,
    )


def episode(answer=None, violations=(), outcome=ThreadOutcome.RETURNED, ids=None):
    """A parent (30 tokens) forks threads of 70 and 200 tokens, joins both and goes on for 10.

    total 30 + 70 + 200 + 10 = 310; critical 30 + 200 + 10 = 240; off the critical path 70 / 310.
    """
    fork = (Edge(kind=EdgeKind.FORK, call=0),)
    join = (
        Edge(kind=EdgeKind.NEXT, call=0),
        Edge(kind=EdgeKind.JOIN, call=1),
        Edge(kind=EdgeKind.JOIN, call=2),
    )
    if answer is not None:
        ids = CODEC.encode(answer)
    return Episode(
        id="0/0",
        problem_id="p",
        protocol="spawn_join",
        calls=(call(0, 0, 30), call(1, 1, 70, fork), call(2, 2, 200, fork), call(3, 0, 10, join)),
        threads=tuple(
            Thread(
                index=i,
                parent=None if i == 0 else 0,
                key=max(0, i - 1),
                opened_by=None if i == 0 else 0,
                depth=min(i, 1),
                outcome=outcome if i == 0 else ThreadOutcome.RETURNED,
            )
            for i in range(3)
        ),
        answer=None if ids is None else (Forced(ids=ids),),
        violations=tuple(Violation(kind=kind, call=0) for kind in violations),
    )


def judged(episode):
    found = Judge(TASK, CODEC).judge(PROBLEM, episode)
    return Judged(
        task=TASK, problem=PROBLEM, episode=episode, codec=CODEC, verdict=found.verdict, share=found.share
    )


ETA = 70 / 310


# verdict


@pytest.mark.parametrize(
    ("given", "verdict", "outcome", "share"),
    [
        (episode(RIGHT), Verdict.CORRECT, OutcomeKind.CORRECT, 1.0),
        (episode(WRONG), Verdict.WRONG, OutcomeKind.WRONG, 0.0),
        (episode("* * *"), Verdict.WRONG, OutcomeKind.WRONG, 0.0),
        (episode(ids=()), Verdict.WRONG, OutcomeKind.WRONG, 0.0),
        (episode(ids=(5, 9999)), Verdict.WRONG, OutcomeKind.WRONG, 0.0),
        (episode(), Verdict.NONE, None, 0.0),
        (episode(outcome=ThreadOutcome.TRUNCATED), Verdict.NONE, None, 0.0),
    ],
)
def test_verdicts(given, verdict, outcome, share):
    found = Judge(TASK, CODEC).judge(PROBLEM, given)
    assert (found.verdict, found.outcome, found.share) == (verdict, outcome, share)


@pytest.mark.parametrize("outcome", [ThreadOutcome.FAILED, ThreadOutcome.CANCELLED])
def test_an_episode_that_the_engine_failed_is_not_the_model_s_fault(outcome):
    found = Judge(TASK, CODEC).judge(PROBLEM, episode(RIGHT, outcome=outcome))
    assert (found.verdict, found.outcome, found.share, found.ended) == (None, None, None, False)
    assert outcome.value in found.reason


def test_a_broken_problem_is_told_apart_from_a_wrong_answer():
    found = Judge(TASK, CODEC).judge(BROKEN, episode(RIGHT))
    assert (found.verdict, found.outcome, found.share) == (None, OutcomeKind.GOLD_UNPARSABLE, None)


# terms


@pytest.mark.parametrize(("answer", "value"), [(RIGHT, 1.0), (WRONG, -0.5), (None, 0.0)])
def test_correct(answer, value):
    score = CorrectTerm(CorrectParams(name="correct"))(judged(episode(answer)))
    assert (score.value, score.components, score.correct) == (value, {"correct": value}, answer == RIGHT)


@pytest.mark.parametrize("term", list(TERMS))
def test_terms_name_their_part(term):
    params = TypeAdapter(RewardConfig).validate_python({"name": term})
    assert list(TERMS[term](params)(judged(episode(RIGHT))).components) == [term]


def test_format_is_charged_once():
    term = FormatTerm(FormatParams(name="format", penalty=0.25))
    assert term(judged(episode())).value == 0.0
    two = episode(
        violations=[ViolationKind.EMPTY_CHILD, ViolationKind.UNCLOSED_TAG, ViolationKind.EMPTY_CHILD]
    )
    score = term(judged(two))
    assert score.value == -0.25
    assert score.reason == "violations: empty_child, unclosed_tag"


@pytest.mark.parametrize(
    ("total", "critical", "rho", "clip", "bonus"),
    [
        (400, 100, 0.1, 1.0, 0.075),  # eta 0.75
        (400, 100, 1.0, 0.2, 0.2),  # 0.75, clipped
        (310, 110, 0.5, 0.2, 0.2),  # 0.5 * 200 / 310 = 0.32, clipped
        (100, 100, 1.0, 0.2, 0.0),  # one line of thought
        (0, 0, 1.0, 0.2, 0.0),  # nothing was sampled
    ],
)
def test_parallelism_bonus(total, critical, rho, clip, bonus):
    assert parallelism_bonus(total, critical, rho=rho, clip=clip) == pytest.approx(bonus)


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0.01, 10), st.floats(0.01, 10))
def test_parallelism_bonus_is_bounded_and_falls_with_the_critical_path(total, share, rho, clip):
    critical = int(total * share)
    bonus = parallelism_bonus(total, critical, rho=rho, clip=clip)
    assert 0 <= bonus <= clip
    assert bonus <= parallelism_bonus(total, 0, rho=rho, clip=clip)


def test_parallelism_counts_the_longest_path():
    term = ParallelismTerm(ParallelismParams(name="parallelism", rho=0.5, clip=1.0))
    score = term(judged(episode()))
    assert score.value == pytest.approx(0.5 * ETA)
    assert score.reason == "240 of 310 tokens on the critical path"


# composition

ALL = (
    CorrectParams(name="correct"),
    FormatParams(name="format", penalty=0.1),
    ParallelismParams(name="parallelism", rho=1.0, clip=1.0, weight=2.0),
)


def test_terms_add_up_with_their_weights():
    bad = [ViolationKind.TOO_MANY_CHILDREN]
    score = compose(ALL, TASK, CODEC)(PROBLEM, episode(RIGHT, bad))
    assert score.components == {"correct": 1.0, "format": -0.1, "parallelism": pytest.approx(2 * ETA)}
    assert score.value == pytest.approx(1.0 - 0.1 + 2 * ETA)
    assert score.correct is True
    assert "answer: correct" in score.reason
    assert "too_many_children" in score.reason


def test_parallelism_pays_nothing_without_a_right_answer():
    reward = compose(ALL, TASK, CODEC)
    wrong, none = reward(PROBLEM, episode(WRONG)), reward(PROBLEM, episode())
    assert (wrong.value, wrong.components["parallelism"], wrong.correct) == (-0.5, 0.0, False)
    assert (none.value, none.components["parallelism"], none.correct) == (0.0, 0.0, False)
    assert "parallelism: not counted (gate correct)" in wrong.reason


@pytest.mark.parametrize(
    ("gate", "correct", "well_formed", "opened"),
    [
        ("always", False, False, True),
        ("correct", True, False, True),
        ("correct", False, True, False),
        ("format", False, True, True),
        ("format", True, False, False),
    ],
)
def test_gates(gate, correct, well_formed, opened):
    assert is_open(gate, correct=correct, well_formed=well_formed) is opened


def test_a_term_behind_the_format_gate():
    reward = compose([CorrectParams(name="correct", gate="format")], TASK, CODEC)
    assert reward(PROBLEM, episode(RIGHT)).value == 1.0
    assert reward(PROBLEM, episode(RIGHT, [ViolationKind.EMPTY_CHILD])).value == 0.0


@pytest.mark.parametrize(
    ("problem", "bad", "reason", "why", "failed"),
    [
        (BROKEN, episode(RIGHT), "`numbers` must be", Ungraded.GOLD, ("correct", "parallelism")),
        (PROBLEM, episode(outcome=ThreadOutcome.FAILED), "failed", Ungraded.EPISODE, ()),
    ],
)
def test_what_cannot_be_graded_is_none_and_says_why(problem, bad, reason, why, failed):
    score = compose(ALL, TASK, CODEC)(problem, bad)
    assert (score.value, score.components, score.correct) == (None, {}, None)
    assert (score.ungraded, score.failed_terms) == (why, failed)
    assert reason in score.reason
    assert all(f"{name}: the answer could not be checked" in score.reason for name in failed)


def test_an_id_that_stands_for_nothing_is_a_wrong_answer():
    score = compose(ALL, TASK, CODEC)(PROBLEM, episode(ids=(5, 9999)))
    assert (score.value, score.correct, score.outcome) == (-0.5, False, OutcomeKind.WRONG)


def test_a_term_that_needs_no_verdict_grades_without_one():
    score = compose(ALL[1:2], TASK, CODEC)(BROKEN, episode(RIGHT))
    assert (score.value, score.correct, score.failed_terms) == (0.0, None, ())


def unsure(params):
    return lambda judged: Score(value=None, reason="the judge is away")


def test_one_ungraded_term_leaves_the_whole_ungraded(monkeypatch):
    monkeypatch.setitem(TERMS, "format", unsure)
    score = compose(ALL, TASK, CODEC)(PROBLEM, episode(RIGHT))
    assert (score.value, score.reason, score.correct) == (None, "format: the judge is away", True)
    assert (score.ungraded, score.failed_terms) == (Ungraded.TERM, ("format",))


def test_a_term_that_is_not_required_is_left_out_and_the_others_count(monkeypatch):
    monkeypatch.setitem(TERMS, "format", unsure)
    correct, optional = ALL[0], FormatParams(name="format", required=False)
    score = compose([correct, optional], TASK, CODEC)(PROBLEM, episode(RIGHT))
    assert (score.value, score.components, score.ungraded) == (1.0, {"correct": 1.0}, None)
    assert score.failed_terms == ("format",) and "left out: format: the judge is away" in score.reason
    assert at_step(score, {"correct": 0.5, "format": 1.0}).value == 0.5
    alone = compose([optional], TASK, CODEC)(PROBLEM, episode(RIGHT))
    assert (alone.value, alone.ungraded) == (None, Ungraded.TERM), "no term is left"


class PlacedTerm:
    """Half a point for call 1, and two steps of call 2."""

    def __init__(self, params):
        self._steps = (
            StepReward(call=2, start=0, stop=50, value=1.0),
            StepReward(call=2, start=50, stop=200, value=-1.0),
        )

    def __call__(self, judged):
        return Score(value=0.0, calls=(CallReward(call=1, value=0.5),), steps=self._steps)


def placing(monkeypatch, **config):
    monkeypatch.setitem(TERMS, "format", PlacedTerm)
    configs = [CorrectParams(name="correct"), FormatParams(name="format", **config)]
    return compose(configs, TASK, CODEC)


def test_rewards_of_calls_and_steps_take_weight_gate_and_schedule(monkeypatch):
    score = placing(monkeypatch, weight=2.0)(PROBLEM, episode(RIGHT))
    assert score.value == 1.0 and score.components == {"correct": 1.0, "format": 0.0}
    assert score.calls == (CallReward(term="format", call=1, value=1.0),)
    assert [(step.term, step.start, step.stop, step.value) for step in score.steps] == [
        ("format", 0, 50, 2.0), ("format", 50, 200, -2.0),
    ]  # fmt: skip
    later = at_step(score, {"correct": 1.0, "format": 0.25})
    assert [reward.value for reward in (*later.calls, *later.steps)] == [0.25, 0.5, -0.5]
    assert score.placed == [
        ("format", 1, None, None, 1.0), ("format", 2, 0, 50, 2.0), ("format", 2, 50, 200, -2.0),
    ]  # fmt: skip
    shut = placing(monkeypatch, gate="correct")(PROBLEM, episode(WRONG))
    assert shut.value == -0.5 and shut.placed == []


@pytest.mark.parametrize(
    ("calls", "steps", "reason"),
    [
        ((CallReward(call=4, value=1.0),), (), "rewarded call 4 of an episode of 4 calls"),
        ((CallReward(call=0, value=float("nan")),), (), "gave call 0 nan"),
        ((), (StepReward(call=0, start=0, stop=31, value=1.0),), "tokens 0 to 31 of call 0, which has 30"),
        ((), (StepReward(call=0, start=5, stop=5, value=1.0),), "tokens 5 to 5 of call 0"),
    ],
)
def test_a_reward_in_no_place_is_ungraded(monkeypatch, calls, steps, reason):
    monkeypatch.setattr(
        PlacedTerm, "__call__", lambda self, judged: Score(value=0.0, calls=calls, steps=steps)
    )
    score = placing(monkeypatch)(PROBLEM, episode(RIGHT))
    assert score.value is None and score.ungraded is Ungraded.TERM and reason in score.reason
    assert score.placed == []


def test_the_verifier_runs_once_an_episode():
    class Counted(Countdown):
        checks = 0

        def check(self, problem, answer):
            self.checks += 1
            return super().check(problem, answer)

    task = Counted()
    assert compose(ALL, task, CODEC)(PROBLEM, episode(RIGHT)).correct
    assert task.checks == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e308])
def test_a_reward_that_is_no_number_is_ungraded(monkeypatch, value):
    monkeypatch.setitem(TERMS, "format", lambda params: lambda judged: Score(value=value))
    score = compose(ALL, TASK, CODEC)(PROBLEM, episode(RIGHT))
    assert (score.value, score.failed_terms) == (None, ("format",))
    assert score.reason.startswith("format: gave ")


def test_a_finite_value_that_overflows_with_its_weight_is_ungraded(monkeypatch):
    """1e308 * 1e6 is inf; the largest reward that is taken leaves squares and sums of a group finite."""
    monkeypatch.setitem(TERMS, "format", lambda params: lambda judged: Score(value=-1e308))
    score = compose([FormatParams(name="format", weight=1e6)], TASK, CODEC)(PROBLEM, episode(WRONG))
    assert (score.value, score.ungraded) == (None, Ungraded.TERM)
    assert score.reason == "format: gave -1e+308, times its weight -inf, which is not a valid reward"
    # The largest that a recipe can ask for.
    largest = [CorrectParams(name="correct", correct=1e6, weight=1e6)]
    assert compose(largest, TASK, CODEC)(PROBLEM, episode(RIGHT)).value == LARGEST


def test_parts_always_add_up():
    reward = compose(ALL, TASK, CODEC)
    for answer in (RIGHT, WRONG, None):
        for bad in ([], [ViolationKind.UNCLOSED_TAG]):
            score = reward(PROBLEM, episode(answer, bad))
            assert score.value == pytest.approx(sum(score.components.values()))


def test_a_recipe_names_terms():
    adapter = TypeAdapter(RewardConfig)
    assert adapter.validate_python({"name": "parallelism"}) == ParallelismParams(
        name="parallelism", gate="correct"
    )
    for bad in ({"name": "beauty"}, {"name": "format", "penalty": -1}, {"name": "correct", "wrong": 2.0}, {}):
        with pytest.raises(ValidationError):
            adapter.validate_python(bad)
    with pytest.raises(ConfigError, match="'format' is named twice"):
        compose([ALL[1], ALL[1]], TASK, CODEC)
    with pytest.raises(ConfigError, match="at least one term"):
        compose([], TASK, CODEC)
