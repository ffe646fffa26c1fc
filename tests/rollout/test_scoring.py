"""Questions to a scorer: asked, answered, withdrawn, failed, recorded, counted, and read back without one."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from protocol_lab import PROMPT, WordEncoder, build, drive, ids, scripted
from pydantic import ValidationError

from data.episodes.topology import distinct_tokens, scorer_seconds, scorer_tokens, total_tokens
from data.episodes.trajectory import Episode, Scoring, StopReason, ThreadOutcome, VersionSpan
from data.episodes.wire import decode_episode, encode_episode
from data.errors import TrajectoryError
from data.text.prompt import Prompt
from rollout.commands import CallResult, EpisodeEvent, Generate, Score, ScoreResult, Withdraw
from rollout.engines.scripted import ScriptedEngine
from rollout.machine import EpisodeMachine
from rollout.runner import EpisodeSpec, run_episode
from rollout.scoring import ConstantScorer, ScoreRequest, TextScores
from rollout.transcript import dump_transcript, load_transcript, read_transcript, transcript_of

LINES = {
    ((0,), 0): "1 1 1 <answer> 5 <eos>",
    ((1,), 0): "2 <answer> 6 <eos>",
    ((2,), 0): "<giveup> <eos>",
}
BY_REWARD: dict[str, Any] = {"chains": 3, "scorer": "reward_model"}


def told(**values: tuple[float, ...]) -> Any:
    """A scorer that knows answers: the scores of each text by the number that it answers."""

    def judge(question: Score) -> TextScores:
        return tuple(values[f"a{text.output[-2]}"] for text in question.texts)

    return judge


def test_each_chain_asks_about_itself_and_the_best_wins() -> None:
    seen: list[Score] = []
    known = told(a5=(0.9, 0.2), a6=(0.4, 0.6))

    def judge(question: Score) -> TextScores:
        seen.append(question)
        return known(question)  # type: ignore[no-any-return]

    episode = drive(build("best_of_n", **BY_REWARD), scripted(LINES), judge=judge)
    assert episode.answer_ids() == (6,), "by the last step"
    assert [(each.path, each.number, len(each.texts)) for each in seen] == [((0,), 0, 1), ((1,), 0, 1)]
    assert seen[1].texts[0].output == ids("2 <answer> 6 <eos>") and seen[1].texts[0].ended
    assert seen[1].texts[0].context == ids("<solo> 1 2 3 <think>")
    assert [(each.thread, each.calls, each.scores) for each in episode.scorings] == [
        (1, (0,), ((0.9, 0.2),)),
        (2, (1,), ((0.4, 0.6),)),
    ]
    for aggregate, answer in (("min", 6), ("mean", 5), ("prod", 6)):  # 0.2 < 0.4, 0.55 > 0.5, 0.18 < 0.24
        protocol = build("best_of_n", **BY_REWARD, aggregate=aggregate)
        assert drive(protocol, scripted(LINES), judge=known).answer_ids() == (answer,)


def test_a_weighted_vote_adds_up_what_equal_answers_have() -> None:
    lines = {**LINES, ((2,), 0): "3 <answer> 5 <eos>"}
    known = told(a5=(0.35,), a6=(0.6,))
    assert drive(build("best_of_n", **BY_REWARD, pick="vote"), scripted(lines), judge=known).answer_ids() == (
        5,
    )
    assert drive(build("best_of_n", **BY_REWARD), scripted(lines), judge=known).answer_ids() == (6,)
    for scorer in ("shortest", "judge"):
        with pytest.raises(ValidationError, match="pick: vote needs values"):
            build("best_of_n", scorer=scorer, pick="vote")


def test_what_the_scorer_read_is_counted_apart() -> None:
    # By hand: 1 2 3, 1 2 4 5 and 1 2 share 1 2, so 3 + 2 are read; the same text twice is read once.
    assert distinct_tokens([(1, 2, 3), (1, 2, 4, 5), (1, 2)]) == 5
    assert distinct_tokens([(7, 8), (7, 8)]) == 2 and distinct_tokens([]) == 0
    episode = drive(build("best_of_n", **BY_REWARD), scripted(LINES))
    # Two questions: a context of 5 with outputs of 6 and 4.
    assert scorer_tokens(episode) == 11 + 9 and total_tokens(episode) == 6 + 4 + 2
    assert scorer_seconds(episode) == 0.0


def test_a_chain_that_cannot_be_scored_has_failed_and_may_be_retried() -> None:
    def judge(question: Score) -> TextScores | str:
        return "its process died" if question.path == (0,) else ((0.5,),) * len(question.texts)

    episode = drive(build("best_of_n", **BY_REWARD), scripted(LINES), judge=judge)
    assert episode.threads[1].outcome is ThreadOutcome.FAILED and episode.answer_ids() == (6,)
    assert episode.scorings[0].failure == "its process died" and episode.scorings[0].scores == ()
    lines = {**LINES, ((3,), 0): "4 <answer> 7 <eos>"}
    again = drive(build("best_of_n", **BY_REWARD, on_failure="retry"), scripted(lines), judge=judge)
    assert [thread.outcome.value for thread in again.threads[1:]] == ["failed", *["returned"] * 3]


def test_a_question_of_a_chain_that_is_not_needed_any_more_is_withdrawn() -> None:
    protocol = build("best_of_n", **BY_REWARD, wait="first")
    # Calls 0, 1 and 2 come back, then the second question: the first is still open.
    turns = iter([0, 0, 0, 1])
    episode = drive(
        protocol, scripted({**LINES, ((2,), 0): "9 <eos>"}), pick=lambda n: min(next(turns), n - 1)
    )
    assert [thread.outcome.value for thread in episode.threads[1:]] == ["cancelled", "returned", "malformed"]
    assert [scoring.failure for scoring in episode.scorings] == ["withdrawn", ""]
    assert episode.answer_ids() == (6,)


def said(text: str, stop: StopReason = StopReason.STOP) -> CallResult:
    output = ids(text)
    versions = (VersionSpan(version=0, start=0, stop=len(output)),)
    return CallResult(output=output, logprobs=(-1.0,) * len(output), versions=versions, stop=stop)


@pytest.mark.parametrize(("grace", "outcome"), [(0.0, ThreadOutcome.BUDGET), (2.0, ThreadOutcome.RETURNED)])
def test_the_wall_clock_ends_a_search_whose_scorer_is_slow(grace: float, outcome: ThreadOutcome) -> None:
    budgets = {"seconds": 3.0, "grace_seconds": grace}
    protocol = build("beam", width=2, step_tokens=3, chain_tokens=9, budgets=budgets)
    machine = EpisodeMachine(protocol, PROMPT, id="0/0", problem_id="p", max_length=100)
    first, second = machine.begin()
    assert isinstance(first, Generate) and isinstance(second, Generate)
    machine.on_result(first.call, said("<answer> 5 <eos>"))
    (question,) = machine.on_result(second.call, said("2 2 2", StopReason.LENGTH))
    assert isinstance(question, Score) and not question.texts[1].ended
    commands = machine.on_clock(3.0)
    if grace:
        # The root may still conclude; nothing is opened any more, so it ends with what has finished.
        assert commands == [] and not machine.done
        assert machine.on_scores(question.scoring, ScoreResult(scores=((0.5,), (0.9,)))) == []
    else:
        assert commands == [Withdraw(scoring=question.scoring)]
    assert machine.done
    episode = machine.episode()
    assert episode.outcome is outcome and episode.answer_ids() == ((5,) if grace else None)
    assert [bool(scoring.failure) for scoring in episode.scorings] == [not grace]


SPEC = EpisodeSpec(id="0/0", prompt=Prompt("1 2 3"), temperature=1.0, seed="7/0/0")


def engine() -> ScriptedEngine:
    return ScriptedEngine(lambda prompt, seed: ids(f"{seed % 9 + 1} <answer> {seed % 7 + 1} <eos>"))


class Given:
    """A scorer with one answer, whatever it is asked; it remembers what that was."""

    def __init__(self, answer: TextScores | str) -> None:
        self.answer, self.asked = answer, list[ScoreRequest]()

    async def score(self, request: ScoreRequest) -> TextScores | str:
        await asyncio.sleep(0)
        self.asked.append(request)
        return self.answer


@pytest.mark.parametrize(
    ("scorer", "failure"),
    [
        (None, "there is no scorer"),
        (Given("its process died"), "its process died"),
        (Given(((0.5,), (0.5,))), "the scorer scored 2 of 1 texts"),
        (Given(((),)), "the scorer gave a text no score, or one outside 0 to 1"),
        (Given(((1.5,),)), "the scorer gave a text no score, or one outside 0 to 1"),
        (Given(((float("nan"),),)), "the scorer gave a text no score, or one outside 0 to 1"),
    ],
)
def test_a_scorer_that_does_not_answer_as_it_should_fails_the_threads_that_asked(
    scorer: Given | None, failure: str
) -> None:
    episode = asyncio.run(run_episode(engine(), build("best_of_n", **BY_REWARD), SPEC, scorer=scorer))
    assert {thread.outcome for thread in episode.threads[1:]} == {ThreadOutcome.FAILED}
    assert [scoring.failure for scoring in episode.scorings] == [failure] * 3
    assert episode.outcome is ThreadOutcome.RETURNED and episode.answer is None


def searched(**options: Any) -> tuple[Episode, list[EpisodeEvent]]:
    """A beam search of the scripted engine, and its events."""
    events: list[EpisodeEvent] = []
    protocol = build("beam", width=3, step_tokens=2, chain_tokens=9, **options)
    episode = asyncio.run(
        run_episode(engine(), protocol, SPEC, scorer=ConstantScorer(0.25), on_event=events.append)
    )
    return episode, events


def test_the_record_is_whole_and_bit_equal_without_a_scorer() -> None:
    episode, events = searched()
    assert episode.scorings and all(scoring.scores for scoring in episode.scorings)
    assert decode_episode(encode_episode(episode)) == episode
    # From its events, with no scorer and an engine that is never asked.
    protocol = build("beam", width=3, step_tokens=2, chain_tokens=9)
    silent = ScriptedEngine(lambda prompt, seed: pytest.fail("nothing is sampled again"))
    assert asyncio.run(run_episode(silent, protocol, SPEC, events=events)) == episode
    # And from its transcript.
    text = dump_transcript(transcript_of(episode, SPEC.prompt.text, WordEncoder()))
    again = read_transcript(load_transcript(text), protocol, WordEncoder())
    assert [(call.context, call.output, call.after) for call in again.calls] == [
        (call.context, call.output, call.after) for call in episode.calls
    ]
    assert again.answer == episode.answer
    assert [(each.thread, each.calls, each.scores) for each in again.scorings] == [
        (each.thread, each.calls, each.scores) for each in episode.scorings
    ]


def test_a_transcript_with_other_scores_is_refused_or_is_another_episode() -> None:
    episode, _ = searched()
    protocol = build("beam", width=3, step_tokens=2, chain_tokens=9)
    transcript = transcript_of(episode, SPEC.prompt.text, WordEncoder())
    short = [replace(c, scores=c.scores[1:]) if c.scores is not None else c for c in transcript.calls]
    with pytest.raises(TrajectoryError, match=r"question 0 of thread \[\] is about 3 texts"):
        read_transcript(replace(transcript, calls=tuple(short)), protocol, WordEncoder())
    none = tuple(call for call in transcript.calls if call.scores is None)
    with pytest.raises(TrajectoryError, match=r"has no entry for question 0 of thread \[\]"):
        read_transcript(replace(transcript, calls=none), protocol, WordEncoder())


def test_an_episode_that_asked_nobody_has_the_record_it_always_had() -> None:
    episode = drive(build("best_of_n", chains=3), scripted(LINES))
    assert episode.scorings == () and "scorings" not in encode_episode(episode)


def test_a_record_of_scores_that_do_not_fit_is_refused() -> None:
    episode, _ = searched()
    for broken in (
        Scoring(thread=0, calls=(99,), scores=((0.5,),)),
        Scoring(thread=0, calls=(), scores=()),
        Scoring(thread=0, calls=(0,), scores=()),
        Scoring(thread=99, calls=(0,), scores=((0.5,),)),
    ):
        with pytest.raises(TrajectoryError, match="scoring 0"):
            replace(episode, scorings=(broken,))
    row = encode_episode(episode)
    row["scorings"][0]["calls"] = None
    with pytest.raises(TrajectoryError, match="is damaged"):
        decode_episode(row)
