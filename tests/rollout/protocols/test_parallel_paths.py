"""parallel_paths: blocks of attempts with one context, a summary, and on."""

import random

import pytest
from protocol_lab import LetterEncoder, build, drive, scripted, text

from data.episodes.topology import critical_tokens, depth, total_tokens, width
from data.episodes.trajectory import EdgeKind, Episode, Limit, Ref, ThreadOutcome, ViolationKind
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.demonstrate import demonstrate
from rollout.protocols.parallel_paths import ParallelPaths, ParallelPathsParams
from rollout.protocols.shared.flat_text import SaidCall
from rollout.transcript import Transcript, read_transcript

LINES = {
    ((), 0): "5 <Parallel>",
    ((0,), 0): "6 6 <found> 7 </Path>",
    ((1,), 0): "8 <nothing> </Path>",
    ((), 1): "7 </Summary>",
    ((), 2): "<answer> 7 <eos>",
}
BLOCK = "1 2 3 5 <Parallel>"
JOINED = f"{BLOCK} <Path> 6 6 <found> 7 </Path> <Path> 8 <nothing> </Path> </Parallel> <Summary>"
TREE = SearchTree(
    children=(
        SearchNode(move="4 5", message="4 5", trace="9"),
        SearchNode(move="6 7", message="6 7", trace="13", solution="6 7 13"),
        SearchNode(move="8 9", message="8 9", trace="17", solution="8 9 17"),
    ),
    solution="6 7 13",
)


def contexts(episode: Episode) -> list[str]:
    return [text(episode.context_ids(call)) for call in episode.calls]


def kinds(episode: Episode) -> list[tuple[ViolationKind, int, int | None]]:
    return [(violation.kind, violation.call, violation.position) for violation in episode.violations]


@pytest.mark.parametrize("seed", range(5))
def test_paths_share_one_context_and_the_thought_reads_them_whole(seed: int) -> None:
    episode = drive(build("parallel_paths"), scripted(LINES), pick=random.Random(seed).randrange)
    assert contexts(episode) == [
        "1 2 3",
        f"{BLOCK} <Path>",
        f"{BLOCK} <Path>",
        JOINED,
        f"{JOINED} 7 </Summary>",
    ]
    assert [call.role for call in episode.calls] == ["main", "path", "path", "summary", "main"]
    assert [[(edge.kind, edge.call) for edge in call.after] for call in episode.calls] == [
        [],
        [(EdgeKind.FORK, 0)],
        [(EdgeKind.FORK, 0)],
        [(EdgeKind.NEXT, 0), (EdgeKind.JOIN, 1), (EdgeKind.JOIN, 2)],
        [(EdgeKind.NEXT, 3)],
    ]
    # What was sampled is referred to, never written again.
    assert Ref(call=1, start=0, stop=5) in episode.calls[3].context
    assert [thread.success for thread in episode.threads] == [True, True, False]
    assert episode.answer_ids() == (7,) and not episode.violations
    assert (total_tokens(episode), critical_tokens(episode)) == (2 + 5 + 3 + 2 + 3, 2 + 5 + 2 + 3)
    assert (width(episode), depth(episode)) == (2, 1)


@pytest.mark.parametrize(
    ("lines", "outcome", "expected"),
    [
        # The main thread writes tags that the loop writes.
        ({((), 0): "<Path> 5 </Path> <giveup> <eos>"}, "returned", [(ViolationKind.STRAY_TAG, 0, 0)]),
        ({((), 0): "5 </Parallel> <giveup> <eos>"}, "returned", [(ViolationKind.JOIN_WITHOUT_FORK, 0, 1)]),
        ({((), 0): "<Summary> 5 </Summary> <giveup> <eos>"}, "returned", [(ViolationKind.STRAY_TAG, 0, 0)]),
        ({((), 0): "5 <eos>"}, "malformed", [(ViolationKind.MALFORMED_ANSWER, 0, 1)]),
        # A block inside a path or a summary is ordinary text.
        (
            {**LINES, ((0,), 0): "6 <Parallel> <Path> 4 </Path>"},
            "returned",
            [(ViolationKind.FORK_NOT_ALLOWED, 1, 1)],
        ),
        ({**LINES, ((), 1): "<Parallel> </Summary>"}, "returned", [(ViolationKind.FORK_NOT_ALLOWED, 3, 0)]),
        # A summary that is not closed ends the thought; a path that is not closed is told.
        ({**LINES, ((), 1): "7 <eos>"}, "malformed", [(ViolationKind.UNCLOSED_TAG, 3, 1)]),
        (
            {**LINES, ((1,), 0): "8 8 <eos>"},
            "returned",
            [(ViolationKind.TOO_FEW_CHILDREN, 0, 1), (ViolationKind.UNCLOSED_TAG, 2, 2)],
        ),
        ({**LINES, ((), 2): "<Parallel>"}, "malformed", [(ViolationKind.FORK_NOT_ALLOWED, 4, 0)]),
    ],
)
def test_what_breaks_the_format_is_a_typed_violation(
    lines: dict[tuple[tuple[int, ...], int], str],
    outcome: str,
    expected: list[tuple[ViolationKind, int, int | None]],
) -> None:
    episode = drive(build("parallel_paths", blocks=1), scripted(lines))
    assert episode.outcome.value == outcome
    assert kinds(episode) == expected


def test_a_path_that_fails_is_told_between_its_tags() -> None:
    lines = scripted({**LINES, ((0,), 0): "6 6 6 6 6 6"})
    episode = drive(build("parallel_paths", path_tokens=4), lines)
    assert episode.threads[1].outcome is ThreadOutcome.TRUNCATED
    told = f"{BLOCK} <Path> <nothing> </Path> <Path> 8 <nothing> </Path> </Parallel> <Summary>"
    assert contexts(episode)[3] == told
    notice = build("parallel_paths", path_tokens=4, notices={ThreadOutcome.TRUNCATED: "48"})
    assert contexts(drive(notice, lines))[3] == told.replace("<nothing>", "48", 1)


def test_the_first_success_cancels_the_other_paths() -> None:
    lines = {**LINES, ((1,), 0): "8 8 8 8 8 8 8 8 </Path>"}
    episode = drive(build("parallel_paths", wait="success"), scripted(lines))
    assert [thread.outcome for thread in episode.threads[1:]] == [
        ThreadOutcome.RETURNED,
        ThreadOutcome.CANCELLED,
    ]
    (summary,) = (call for call in episode.calls if call.role == "summary")
    assert text(episode.context_ids(summary)) == JOINED.replace("8 <nothing>", "<nothing>")
    # Four of nine tokens were sampled; nobody waited for them. A path that nobody wanted is no violation.
    assert (total_tokens(episode), critical_tokens(episode)) == (2 + 5 + 4 + 2 + 3, 2 + 5 + 2 + 3)
    assert not episode.violations


def test_the_budget_bounds_a_fixed_width() -> None:
    episode = drive(build("parallel_paths", paths=3, budgets={"width": 2}), scripted(LINES))
    assert width(episode) == 2 and not episode.violations


@pytest.mark.parametrize(
    ("said", "opened", "ran", "expected"),
    [
        ("5 <Parallel> 3 <Path>", 3, 3, []),
        ("<Parallel> 1 <Path>", 1, 1, [ViolationKind.TOO_FEW_CHILDREN]),
        ("<Parallel> <Path>", 2, 2, [ViolationKind.MISSING_INDEX]),
        ("<Parallel> 4 5 <Path>", 2, 2, [ViolationKind.MISSING_INDEX]),
        # However many are asked for, one more than the budget is refused.
        ("<Parallel> 48 <Path>", 4, 3, [ViolationKind.TOO_MANY_CHILDREN]),
        ("3 <Path>", 0, 0, [ViolationKind.STRAY_TAG]),
    ],
)
def test_the_model_may_choose_the_width(
    said: str, opened: int, ran: int, expected: list[ViolationKind]
) -> None:
    lines = {((key,), 0): "6 </Path>" for key in range(4)}
    protocol = build("parallel_paths", width="model", budgets={"width": 3})
    rest = {((), 1): "</Summary>", ((), 2): "<giveup> <eos>"}
    episode = drive(protocol, scripted({((), 0): said, **lines, **rest}))
    assert len(episode.threads) - 1 == opened and width(episode) == ran
    assert [violation.kind for violation in episode.violations] == expected
    if opened:
        # The first path goes on from the tag that the model wrote.
        assert contexts(episode)[1] == f"1 2 3 {said}"
        assert contexts(episode)[-2].startswith(f"1 2 3 {said} 6 </Path>")
    else:
        assert episode.outcome is ThreadOutcome.MALFORMED


def test_a_width_of_none_ends_the_thought() -> None:
    params = ParallelPathsParams(name="parallel_paths", width="model")
    said = SaidCall(path=(), says="<Parallel> 0 <Path>")
    transcript = Transcript(protocol="parallel_paths", prompt="1", calls=(said,))
    episode = read_transcript(transcript, ParallelPaths(params, LetterEncoder()), LetterEncoder())
    assert episode.outcome is ThreadOutcome.MALFORMED
    assert kinds(episode) == [(ViolationKind.NO_CHILDREN, 0, len("<Parallel> 0 "))]


def test_an_imitator_tries_in_another_order_on_every_path() -> None:
    protocol = build("parallel_paths", width="model", paths=3)
    episode = demonstrate(protocol, Prompt("1 2"), TREE, id="0", problem_id="p", max_length=200)
    assert episode is not None
    said = [text(call.output) for call in episode.calls]
    assert said == [
        "<Parallel> 3 <Path>",
        "<try> 4 5 9 <try> 6 7 13 <found> 6 7 13 </Path>",
        "<try> 6 7 13 <found> 6 7 13 </Path>",
        "<try> 8 9 17 <found> 8 9 17 </Path>",
        "<found> 6 7 13 </Summary>",
        "<answer> 6 7 13 <eos>",
    ]


def test_a_demonstration_whose_join_does_not_fit_the_model_is_left_out() -> None:
    fits = demonstrate(build("parallel_paths"), Prompt("1 2"), TREE, id="0", problem_id="p", max_length=40)
    assert fits is not None
    longest = max(len(fits.context_ids(call)) + len(call.output) for call in fits.calls)
    again = demonstrate(
        build("parallel_paths"), Prompt("1 2"), TREE, id="0", problem_id="p", max_length=longest - 1
    )
    assert again is None


def test_the_length_that_a_first_call_can_need() -> None:
    protocol = build("parallel_paths", main_tokens=10, path_tokens=20, summary_tokens=5)
    assert protocol.needed_length(Prompt("1 2 3 4 5 6 7")) == 7 + 10 + 1 + 20


def test_a_budget_that_ends_a_path_is_data() -> None:
    lines = scripted({**LINES, ((0,), 0): "6 6 6 6 6 6", ((1,), 0): "8 8 8 8 8 8"})
    budgets = {"total_tokens": 12, "reserve_tokens": 6}
    episode = drive(build("parallel_paths", budgets=budgets), lines)
    assert total_tokens(episode) <= 12
    assert {thread.outcome for thread in episode.threads[1:]} <= {
        ThreadOutcome.BUDGET,
        ThreadOutcome.TRUNCATED,
    }
    assert episode.threads[2].limit is Limit.TOTAL_TOKENS
