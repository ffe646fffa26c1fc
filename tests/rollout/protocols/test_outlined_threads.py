"""outlined_threads: numbered outlines, a thread for each, in four dialects."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_lab import LetterEncoder, build, drive, ids, scripted, text
from pydantic import ValidationError

from data.episodes.topology import critical_tokens, depth, total_tokens, width
from data.episodes.trajectory import EdgeKind, Episode, Limit, Ref, ThreadOutcome, ViolationKind
from data.text.prompt import Prompt
from rollout.commands import Generate
from rollout.protocols.outlined_threads import OutlinedThreads, OutlinedThreadsParams
from rollout.protocols.shared.dialects import DIALECTS
from rollout.protocols.shared.flat_text import SaidCall
from rollout.protocols.shared.framing_params import TagFramingConfig
from rollout.transcript import Transcript, read_transcript

Lines = dict[tuple[tuple[int, ...], int], str]
Kinds = list[tuple[ViolationKind, int, int | None]]

OUTLINES = "<Parallel> <Outlines> <Outline> 1 : 5 </Outline> <Outline> 2 : 6 </Outline> </Outlines>"
LINES: Lines = {
    ((), 0): f"4 {OUTLINES}",
    ((0,), 0): "5 5 <found> 7 </Thread>",
    ((1,), 0): "6 </Thread>",
    ((), 1): "</Parallel> 8 </think> <answer> 7 <eos>",
}
ASKED = f"1 2 3 <think> 4 {OUTLINES}"
JOINED = f"{ASKED} <Thread> 1 : 5 5 <found> 7 </Thread> <Thread> 2 : 6 </Thread>"


def contexts(episode: Episode) -> list[str]:
    return [text(episode.context_ids(call)) for call in episode.calls]


def last_seen(episode: Episode) -> str:
    """What the root sees when it speaks for the last time."""
    return text(episode.context_ids([call for call in episode.calls if call.thread == 0][-1]))


def kinds(episode: Episode) -> Kinds:
    return [(violation.kind, violation.call, violation.position) for violation in episode.violations]


@pytest.mark.parametrize("seed", range(5))
def test_threads_see_all_outlines_and_the_thought_reads_all_threads(seed: int) -> None:
    episode = drive(build("outlined_threads"), scripted(LINES), pick=random.Random(seed).randrange)
    assert contexts(episode) == [
        "1 2 3 <think>",
        f"{ASKED} <Thread> 1 :",
        f"{ASKED} <Thread> 2 :",
        JOINED,
    ]
    assert [call.role for call in episode.calls] == ["main", "thread", "thread", "main"]
    assert [[(edge.kind, edge.call) for edge in call.after] for call in episode.calls] == [
        [],
        [(EdgeKind.FORK, 0)],
        [(EdgeKind.FORK, 0)],
        [(EdgeKind.NEXT, 0), (EdgeKind.JOIN, 1), (EdgeKind.JOIN, 2)],
    ]
    assert Ref(call=1, start=0, stop=5) in episode.calls[3].context
    # A thread without a verdict of its own has returned; that it found something it did not say.
    assert [thread.success for thread in episode.threads] == [True, True, False]
    assert episode.answer_ids() == (7,) and not episode.violations
    # 14 in the question, 5 and 2 in the threads, 6 in the answer.
    assert (total_tokens(episode), critical_tokens(episode)) == (14 + 5 + 2 + 6, 14 + 5 + 6)
    assert (width(episode), depth(episode)) == (2, 1)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("5 </Outlines>", [(ViolationKind.JOIN_WITHOUT_FORK, 0, 1)]),
        ("<Outlines> <Outline> 1 : 5 </Outline> </Outlines>", [(ViolationKind.STRAY_TAG, 0, 0)]),
        ("<Parallel> <Outlines> 5 </Outlines>", [(ViolationKind.NO_CHILDREN, 0, 3)]),
        (
            "<Parallel> <Outlines> <Outline> 5 </Outline> </Outlines>",
            [(ViolationKind.MISSING_INDEX, 0, 2), (ViolationKind.NO_CHILDREN, 0, 5)],
        ),
        (f"</think> {OUTLINES}", [(ViolationKind.FORK_NOT_ALLOWED, 0, 1)]),
        (
            "5 </think> 6 <eos>",
            [(ViolationKind.TEXT_AFTER_END, 0, 2), (ViolationKind.MALFORMED_ANSWER, 0, 3)],
        ),
    ],
)
def test_what_cannot_go_on_ends_the_thought(first: str, expected: Kinds) -> None:
    episode = drive(build("outlined_threads"), scripted({((), 0): first}))
    assert episode.outcome is ThreadOutcome.MALFORMED and episode.answer is None
    assert kinds(episode) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # The thought is not closed, or its block is not; the answer counts all the same.
        ({((), 1): "</Parallel> <answer> 7 <eos>"}, [(ViolationKind.UNCLOSED_TAG, 3, 3)]),
        ({((), 1): "</think> <answer> 7 <eos>"}, [(ViolationKind.UNCLOSED_TAG, 3, 0)]),
        # The model writes a thread itself.
        (
            {((), 1): "<Thread> 3 : </Thread> </Parallel> </think> <answer> 7 <eos>"},
            [(ViolationKind.STRAY_TAG, 3, 0)],
        ),
        # A block inside a thread is ordinary text; its outlines open nothing.
        ({((1,), 0): f"{OUTLINES} </Parallel> </Thread>"}, [(ViolationKind.FORK_NOT_ALLOWED, 2, 0)]),
        ({((1,), 0): "6 </think> </Thread>"}, [(ViolationKind.STRAY_TAG, 2, 1)]),
    ],
)
def test_what_can_go_on_does_and_is_noted(change: Lines, expected: Kinds) -> None:
    episode = drive(build("outlined_threads"), scripted({**LINES, **change}))
    assert episode.answer_ids() == (7,)
    assert kinds(episode) == expected


def test_a_thread_that_does_not_close_is_told_in_one_line() -> None:
    lines = scripted({**LINES, ((1,), 0): "6 6 <eos>"})
    episode = drive(build("outlined_threads"), lines)
    assert episode.threads[2].outcome is ThreadOutcome.MALFORMED
    assert kinds(episode) == [(ViolationKind.UNCLOSED_TAG, 2, 2)]
    told = JOINED.replace("<Thread> 2 : 6", "<Thread> 2 : <nothing>")
    assert last_seen(episode) == told
    notice = build("outlined_threads", notices={ThreadOutcome.MALFORMED: "47 48"})
    assert last_seen(drive(notice, lines)) == told.replace("<nothing>", "47 48")
    # The published loop ends the rollout there.
    failed = drive(build("outlined_threads", on_failure="fail"), lines)
    assert failed.outcome is ThreadOutcome.CHILD_FAILED


def test_a_thread_that_is_begun_anew_keeps_its_number_and_its_place() -> None:
    lines = {**LINES, ((0,), 0): "5 <eos>", ((2,), 0): "5 5 <found> 7 </Thread>"}
    episode = drive(build("outlined_threads", on_failure="retry"), scripted(lines))
    assert last_seen(episode) == JOINED
    assert episode.threads[3].outcome is ThreadOutcome.RETURNED


def test_the_first_success_cancels_the_other_threads() -> None:
    episode = drive(
        build("outlined_threads", wait="success"), scripted({**LINES, ((1,), 0): "6 6 6 6 </Thread>"})
    )
    assert episode.threads[2].outcome is ThreadOutcome.CANCELLED
    assert last_seen(episode) == JOINED.replace("<Thread> 2 : 6", "<Thread> 2 : <nothing>")


def test_blocks_follow_each_other_up_to_the_limit() -> None:
    lines = {
        **LINES,
        ((), 1): f"</Parallel> {OUTLINES}",
        ((2,), 0): "1 </Thread>",
        ((3,), 0): "2 </Thread>",
        ((), 2): "</Parallel> </think> <answer> 9 <eos>",
    }
    episode = drive(build("outlined_threads", blocks=2), scripted(lines))
    assert last_seen(episode) == (
        f"{JOINED} </Parallel> {OUTLINES} <Thread> 1 : 1 </Thread> <Thread> 2 : 2 </Thread>"
    )
    assert not episode.violations
    refused = drive(build("outlined_threads", blocks=1), scripted(lines))
    assert refused.outcome is ThreadOutcome.MALFORMED
    assert kinds(refused) == [(ViolationKind.FORK_NOT_ALLOWED, 3, 13)]


def test_text_tags_make_the_published_text_letter_by_letter() -> None:
    """No tag is a token here: the contexts are exactly the text that was published, line breaks included."""
    asked = "\nd.\n<Parallel>\n<Outlines>\n<Outline>1: x.</Outline>\n<Outline>2: y.</Outline>\n</Outlines>"
    calls = (
        SaidCall(path=(), says=asked, sees="Q:<think>"),
        SaidCall(path=(0,), says=" 6, 36.\n</Thread>"),
        SaidCall(path=(1,), says=" 9, 81.\n</Thread>"),
        SaidCall(path=(), says="</Parallel>\n117.\n</think>\n<answer>10.8<eos>"),
    )
    encoder = LetterEncoder()
    protocol = OutlinedThreads(
        OutlinedThreadsParams(name="outlined_threads", framing=TagFramingConfig()), encoder
    )
    transcript = Transcript(protocol="outlined_threads", prompt="Q:", calls=calls)
    episode = read_transcript(transcript, protocol, encoder)
    spelled = ["".join(map(chr, episode.context_ids(call))) for call in episode.calls]
    threads = "\n<Thread>\n1: 6, 36.\n</Thread><Thread>\n2: 9, 81.\n</Thread>\n"
    assert spelled == [
        "Q:<think>",
        f"Q:<think>{asked}\n<Thread>\n1:",
        f"Q:<think>{asked}\n<Thread>\n2:",
        f"Q:<think>{asked}{threads}",
    ]
    assert not episode.violations
    assert "".join(map(chr, episode.answer_ids() or ())) == "10.8"
    stops = protocol.open(Prompt("Q:")).ask.stops
    assert stops.texts == ("</Outlines>",) and stops.ids == (encoder.eos,)


BRANCHES = "<Subtask> 1 : 4 </Subtask> <Trial> 2 : 5 </Trial> <Trial> 3 : 6 </Trial>"
MIXED = f"<Parallel> <Outlines> {BRANCHES} </Outlines>"


def mixed(*, first: int, trials: str = "success", wait_for: int = 1) -> Episode:
    """One subtask and two trials; the thread of number `first` comes back first."""
    lines = {
        ((), 0): MIXED,
        ((0,), 0): "4 4 </Thread>",
        ((1,), 0): "5 <found> 5 </Thread>",
        ((2,), 0): "6 <found> 6 6 </Thread>",
        ((), 1): "</Parallel> </think> <giveup> <eos>",
    }
    protocol = build("outlined_threads", dialect="parason", trials=trials, wait_for=wait_for)
    return drive(protocol, scripted(lines), pick=lambda n: first if n == 3 else 0)


def outcomes(episode: Episode) -> list[str]:
    return [thread.outcome.value for thread in episode.threads[1:]]


def test_subtasks_are_all_waited_for_and_trials_only_until_one_succeeds() -> None:
    assert outcomes(mixed(first=0)) == ["returned", "returned", "cancelled"]
    assert outcomes(mixed(first=1)) == ["returned", "returned", "cancelled"]
    assert outcomes(mixed(first=2)) == ["returned", "cancelled", "returned"]
    assert outcomes(mixed(first=1, wait_for=2)) == ["returned", "returned", "returned"]
    assert outcomes(mixed(first=1, trials="all")) == ["returned", "returned", "returned"]


def test_a_trial_that_says_nothing_of_success_stops_nobody() -> None:
    trials = "<Parallel> <Outlines> <Trial> 1 : 5 </Trial> <Trial> 2 : 6 </Trial> </Outlines>"
    lines = {
        ((), 0): trials,
        ((0,), 0): "5 <found> </Thread>",
        ((1,), 0): "<found> 6 <nothing> </Thread>",
        ((), 1): "</Parallel> </think> <giveup> <eos>",
    }
    episode = drive(build("outlined_threads", dialect="parason"), scripted(lines))
    assert outcomes(episode) == ["returned", "returned"]
    assert not any(thread.success for thread in episode.threads[1:])


def test_trials_alone_wait_for_the_first_success() -> None:
    trials = "<Parallel> <Outlines> <Trial> 1 : 5 </Trial> <Trial> 2 : 6 </Trial> </Outlines>"
    lines = {
        ((), 0): trials,
        ((0,), 0): "5 <found> 5 </Thread>",
        ((1,), 0): "6 6 6 6 </Thread>",
        ((), 1): "</Parallel> </think> <giveup> <eos>",
    }
    episode = drive(build("outlined_threads", dialect="parason"), scripted(lines))
    assert outcomes(episode) == ["returned", "cancelled"]


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"dialect": "parason", "wait": "first"}, "subtasks are all needed"),
        ({"dialect": "npr", "trials": "all"}, "trials is for dialect parason"),
        ({"dialect": "weaver"}, "dialect"),
    ],
)
def test_parameters_that_contradict_a_dialect_are_refused(params: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        build("outlined_threads", **params)


NESTED: Lines = {
    ((), 0): "<Parallel> <Goal> <Outline> 1 : 5 </Outline> </Goal>",
    ((0,), 0): "5 <Parallel> <Goal> <Outline> 1 . 1 : 7 </Outline> </Goal>",
    ((0, 0), 0): "7 8 </Path>",
    ((0,), 1): "8 </Conclusion> </Parallel> <found> 9 </Path>",
    ((), 1): "9 </Conclusion> </Parallel> </Think> <answer> 9 <eos>",
}
PATH = "1 2 3 <Think> <Parallel> <Goal> <Outline> 1 : 5 </Outline> </Goal> <Path> 1 :"
INNER = f"{PATH} 5 <Parallel> <Goal> <Outline> 1 . 1 : 7 </Outline> </Goal> <Path> 1 . 1 :"


def test_a_path_may_open_a_block_of_its_own_and_returns_all_it_read() -> None:
    protocol = build("outlined_threads", dialect="multiverse", budgets={"depth": 2})
    episode = drive(protocol, scripted(NESTED))
    said = f"{INNER} 7 8 </Path> <Conclusion> 8 </Conclusion> </Parallel> <found> 9 </Path>"
    assert contexts(episode) == [
        "1 2 3 <Think>",
        PATH,
        INNER,
        f"{INNER} 7 8 </Path> <Conclusion>",
        f"{said} <Conclusion>",
    ]
    assert not episode.violations and depth(episode) == 2
    assert [thread.success for thread in episode.threads] == [True, True, False]


def test_nesting_beyond_the_budget_is_refused_and_told() -> None:
    episode = drive(build("outlined_threads", dialect="multiverse"), scripted(NESTED))
    refused = next(thread for thread in episode.threads if thread.depth == 2)
    assert (refused.outcome, refused.limit) == (ThreadOutcome.BUDGET, Limit.DEPTH)
    assert kinds(episode) == [(ViolationKind.TOO_DEEP, 1, None)]
    assert f"{INNER} <nothing> </Path> <Conclusion>" in contexts(episode)


def test_npr_nests_five_deep_and_no_deeper() -> None:
    """The sixth level is ordinary text, as in its engine."""
    lines: Lines = {}
    for level in range(6):
        lines[(0,) * level, 0] = "<guideline> <plan> 1 : 5 </plan> </guideline> </step>"
        lines[(0,) * level, 1] = "</takeaway> </step>"
    lines[(), 1] = "</takeaway> <giveup> <eos>"
    protocol = build("outlined_threads", dialect="npr", budgets={"depth": 9})
    episode = drive(protocol, scripted(lines))
    assert depth(episode) == 5
    deepest = max(episode.calls, key=lambda call: episode.threads[call.thread].depth)
    assert kinds(episode) == [(ViolationKind.FORK_NOT_ALLOWED, deepest.index, 0)]


def test_only_threadweaver_claims_to_be_the_published_method() -> None:
    assert [name for name, dialect in DIALECTS.items() if dialect.exactness.startswith("yes")] == [
        "threadweaver"
    ]
    for name, dialect in DIALECTS.items():
        assert f"{name}: {dialect.exactness}" in OutlinedThreads.card.exact
    assert all("causal re-prefill" in DIALECTS[name].exactness for name in ("multiverse", "npr", "parason"))


def test_the_length_that_a_first_call_can_need() -> None:
    protocol = build("outlined_threads", main_tokens=10, thread_tokens=20)
    # <think>, then <Thread> 1 :
    assert protocol.needed_length(Prompt("1 2 3 4 5 6 7")) == 7 + 1 + 10 + 3 + 20


@settings(max_examples=400, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    dialect=st.sampled_from(sorted(DIALECTS)),
    bounds=st.fixed_dictionaries(
        {
            "width": st.integers(1, 6),
            "depth": st.integers(0, 3),
            "total_tokens": st.integers(1, 400),
            "critical_tokens": st.integers(1, 300),
        }
    ),
    policy=st.sampled_from(["tell", "retry", "fail"]),
)
def test_any_output_in_any_dialect_ends_within_every_budget(
    seed: int, dialect: str, bounds: dict[str, int], policy: str
) -> None:
    rng = random.Random(seed)
    spoken = [tag for name in DIALECTS[dialect].elements for tag in (f"<{name}>", f"</{name}>")]
    pieces = [*spoken, *(f"<{item}> {n} :" for item in DIALECTS[dialect].items for n in (1, 2, 3))]
    pieces += [OUTLINES, MIXED, "<found>", "<answer>", "1 . 2 :", "7", "8", "<eos>"]
    likely = rng.sample(pieces, k=4)

    def say(generate: Generate) -> tuple[int, ...]:
        words = [rng.choice(likely if rng.random() < 0.5 else pieces) for _ in range(rng.choice([2, 8, 30]))]
        last = [rng.choice(generate.stops.ids)] if rng.random() < 0.8 else []
        return (*ids(" ".join(words)), *last)

    protocol = build("outlined_threads", dialect=dialect, budgets=bounds, on_failure=policy)
    episode = drive(protocol, say, pick=rng.randrange)
    assert total_tokens(episode) <= bounds["total_tokens"]
    assert critical_tokens(episode) <= bounds["critical_tokens"]
    assert all(episode.threads[call.thread].depth <= bounds["depth"] for call in episode.calls)
    for violation in episode.violations:
        size = len(episode.calls[violation.call].output)
        assert violation.position is None or 0 <= violation.position <= size
    if episode.answer is not None:
        assert episode.outcome is ThreadOutcome.RETURNED
