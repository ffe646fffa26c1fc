"""Progress by forced answers, and the term that rewards it: all values are worked out by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from episodes import call, episode

from data.episodes.trajectory import Call, Edge, EdgeKind, Episode, Probe, StopReason
from data.tasks.countdown import Countdown
from data.tasks.problem import Problem
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rewards.process.progress import Answers, progress, regret
from rewards.score import CallReward, Judged, Score, StepReward
from rewards.terms.progress import ProgressParams, ProgressTerm
from rewards.verifiers.verdict import Judge, UngradableError, Verdict


def answers(*places: tuple[int, int, int, int]) -> list[Answers]:
    """(call, stop, right, graded) of each place."""
    return [Answers(call=c, stop=s, right=r, graded=g) for c, s, r, g in places]


THOUGHT = answers((0, 0, 1, 4), (0, 100, 2, 4), (0, 200, 2, 4), (0, 400, 4, 4))


def test_progress_telescopes() -> None:
    assert progress(THOUGHT) == [0.25, 0.0, 0.5]
    assert sum(progress(THOUGHT)) == 1.0 - 0.25
    # Fewer places of the same thought: the same sum.
    assert progress([THOUGHT[0], THOUGHT[-1]]) == [0.75]
    assert progress(THOUGHT[:1]) == progress([]) == []


def test_the_progress_of_a_join_is_from_before_the_fork_to_behind_the_results() -> None:
    # A fifth right before the fork, four fifths behind the results; then the thread loses its way.
    places = answers((0, 8, 1, 5), (3, 0, 4, 5), (3, 6, 2, 5))
    assert progress(places) == pytest.approx([0.6, -0.4])


def test_places_may_have_different_numbers_of_answers() -> None:
    # 1/4, 2/3 (one answer was not graded), 1/2 (two were not).
    places = answers((0, 0, 1, 4), (0, 8, 2, 3), (0, 16, 1, 2))
    assert progress(places) == pytest.approx([5 / 12, -1 / 6])
    assert sum(progress(places)) == pytest.approx(1 / 2 - 1 / 4)


def test_regret_counts_tokens() -> None:
    # (100 * 0.5 + 100 * 0.5 + 200 * 0) / 400
    assert regret(THOUGHT) == pytest.approx(0.25)
    # Sure after the first block: none. Never right: all.
    assert regret(answers((0, 0, 0, 4), (0, 50, 4, 4), (0, 90, 4, 4))) == 0.0
    assert regret(answers((0, 0, 0, 4), (0, 50, 0, 4))) == 1.0
    # Over a join: 10 * (0.5 - 0) + 0 * ... + 30 * (0.5 - 0.5), over 40; 0.5 is the best that can be had.
    assert regret(answers((0, 0, 0, 2), (0, 10, 0, 2), (3, 0, 1, 2), (3, 30, 1, 2)), best=0.5) == 0.125
    assert regret(answers((0, 0, 1, 2))) is None and regret([]) is None


PROBLEM = Problem("p", "countdown", {"numbers": [10, 9, 4, 2], "target": 41})
CODEC = Codec(build_tokenizer(["<answer>", *Countdown().words()], numbers=99, digits=False))
RIGHT, WRONG = "9 * 4 10 / 2 36 + 5", "9 * 4 10 / 2 36 - 5"


def forked() -> Episode:
    """A parent thinks 8 tokens and forks two children, of which it reads both, and thinks 4 more."""
    last = replace(
        call(3, 0, 4),
        after=(Edge(kind=EdgeKind.NEXT, call=0), *(Edge(kind=EdgeKind.JOIN, call=each) for each in (1, 2))),
    )
    return episode([call(0, 0, 8), call(1, 1, 2, (0,)), call(2, 2, 2, (0,)), last])


def probed(made: Episode, *told: tuple[int, int, Sequence[str | None]]) -> Episode:
    """The episode with the answers that were forced at each place (call, stop)."""
    probes: list[Probe] = []
    for of, stop, texts in told:
        for text in texts:
            ids = None if text is None else tuple(CODEC.tokenizer(text)["input_ids"])
            asked: Call = replace(
                call(len(made.calls) + len(probes), 0, ids or ()), role="probe", num_trained=0
            )
            probes.append(Probe(call=asked, of=of, stop=stop, answer=ids))
    return replace(made, probes=tuple(probes))


def judged(made: Episode, forced: Sequence[Verdict | None] | None = None) -> Judged:
    if forced is None:
        found = Judge(Countdown(), CODEC).judge_probes(PROBLEM, made)
        forced = [judgement.verdict for judgement in found]
    return Judged(
        task=Countdown(), problem=PROBLEM, episode=made, codec=CODEC, verdict=Verdict.CORRECT,
        forced=tuple(forced),
    )  # fmt: skip


def score(made: Judged, **given: Any) -> Score:
    return ProgressTerm(ProgressParams(name="progress", **given))(made)


TOLD = probed(
    forked(),
    (0, 0, [WRONG, WRONG]), (0, 8, [RIGHT, None]), (3, 0, [RIGHT, RIGHT]), (3, 4, [RIGHT, WRONG]),
)  # fmt: skip


def test_the_tasks_verifier_grades_every_forced_answer() -> None:
    none, wrong, right = Verdict.NONE, Verdict.WRONG, Verdict.CORRECT
    assert judged(TOLD).forced == (wrong, wrong, right, none, right, right, right, wrong)


def test_the_trace_gets_what_it_gained_in_all() -> None:
    found = score(judged(TOLD))
    assert (found.value, found.components, found.placed) == (0.5, {"progress": 0.5}, [])
    assert found.reason == "8 answers forced at 4 places"


def test_blocks_and_joined_threads_get_their_own() -> None:
    found = score(judged(TOLD), credit="blocks")
    assert found.value == 0.0
    assert found.steps == (
        StepReward(call=0, start=0, stop=8, value=0.5), StepReward(call=3, start=0, stop=4, value=-0.5),
    )  # fmt: skip
    assert found.calls == (CallReward(call=1, value=0.5), CallReward(call=2, value=0.5))
    # (8 * (1 - 0.5) + 4 * (1 - 0.5)) / 12
    assert found.regret == pytest.approx(0.5) and score(judged(TOLD)).regret is None
    joins = score(judged(TOLD), credit="joins")
    assert joins.calls == found.calls and joins.steps == ()


def test_an_answer_without_a_grade_does_not_count() -> None:
    right, wrong = Verdict.CORRECT, Verdict.WRONG
    verdicts: list[Verdict | None] = [wrong, wrong, right, None, None, None, right, wrong]
    found = score(judged(TOLD, verdicts), credit="blocks")
    # 0, 1, nothing behind the results, 0.5: the last block counts from before the fork.
    assert [step.value for step in found.steps] == [1.0, -0.5] and found.calls == ()
    failed = replace(TOLD.probes[1], call=replace(TOLD.probes[1].call, stop=StopReason.ERROR))
    lost = replace(TOLD, probes=(TOLD.probes[0], failed, *TOLD.probes[2:]))
    assert score(judged(lost)).reason == "7 answers forced at 4 places"
    with pytest.raises(UngradableError, match="none of the forced answers"):
        score(judged(TOLD, [None] * 8))


def test_an_episode_without_forced_answers_has_made_no_progress() -> None:
    found = score(judged(forked()), credit="blocks")
    assert (found.value, found.placed, found.reason) == (0.0, [], "no answers were forced")


def test_what_is_asked_of_the_engines() -> None:
    trace, blocks, joins = (
        ProgressParams.model_validate({"name": "progress", "credit": credit, "block_tokens": 64}).probes
        for credit in ("trace", "blocks", "joins")
    )
    assert [plan.places for plan in (trace, blocks, joins)] == ["ends", "blocks", "joins"]
    assert (blocks.block_tokens, blocks.most_blocks, trace.most_blocks, trace.answers) == (64, 8, 1, 4)
