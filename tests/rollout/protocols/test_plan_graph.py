"""plan_graph: what a plan says, who waits for whom, what is told."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_lab import EOS, IDS, PARTS, build, drive, scripted, text

from data.episodes.topology import critical_tokens, depth, total_tokens, width
from data.episodes.trajectory import EdgeKind, Episode, Limit, Ref, ThreadOutcome, ViolationKind
from data.text.prompt import Prompt
from rollout.commands import Generate
from rollout.demonstrate import demonstrate

PLAN = "<plan> 1 : 6 <and> 2 : 7 <after> 1 <and> 3 : 8 <run>"
LINES = {
    ((), 0): PLAN,
    ((0,), 0): "9 <found> 10 <eos>",
    ((1,), 0): "<found> 11 <eos>",
    ((2,), 0): "9 9 9 9 9 9 9 9 <nothing> <eos>",
    ((), 1): "<answer> 12 <eos>",
}


def contexts(episode: Episode) -> list[str]:
    return [text(episode.context_ids(call)) for call in episode.calls]


def kinds(episode: Episode) -> list[tuple[str, int | None]]:
    return [(violation.kind.value, violation.position) for violation in episode.violations]


@pytest.mark.parametrize("seed", range(5))
def test_a_task_starts_when_those_it_needs_are_done_and_sees_their_results(seed: int) -> None:
    episode = drive(build("plan_graph"), scripted(LINES), pick=random.Random(seed).randrange)
    opened = "<planner> 1 2 3 <think>"
    assert contexts(episode) == [
        opened,
        "<node> 6 <think>",
        "<node> 7 <results> 1 : <found> 10 <end> <think>",
        "<node> 8 <think>",
        f"{opened} {PLAN} <results> 1 : <found> 10 2 : <found> 11 3 : <nothing> <end>",
    ]
    assert [[(edge.kind, edge.call) for edge in call.after] for call in episode.calls] == [
        [],
        [(EdgeKind.FORK, 0)],
        [(EdgeKind.FORK, 0), (EdgeKind.JOIN, 1)],
        [(EdgeKind.FORK, 0)],
        [(EdgeKind.NEXT, 0), (EdgeKind.JOIN, 1), (EdgeKind.JOIN, 2), (EdgeKind.JOIN, 3)],
    ]
    assert episode.calls[2].context[1] == Ref(call=0, start=7, stop=8)
    assert total_tokens(episode) == 15 + 4 + 3 + 10 + 3
    # The chain of 1 and 2 takes 7, task 3 takes 10: in rounds they would take 10 + 3.
    assert critical_tokens(episode) == 15 + 10 + 3
    assert (width(episode), depth(episode)) == (3, 1)
    assert episode.answer_ids() == (12,) and not episode.violations
    assert [thread.success for thread in episode.threads] == [True, True, True, False]


def test_the_planner_can_be_shown_only_the_results_that_nobody_else_was() -> None:
    episode = drive(build("plan_graph", shown="sinks"), scripted(LINES))
    assert contexts(episode)[-1].endswith("<run> <results> 2 : <found> 11 3 : <nothing> <end>")


def test_a_plan_may_name_what_it_needs_before_it_says_it() -> None:
    lines = {
        ((), 0): "<plan> 1 : 6 <after> 3 2 <and> 2 : 7 <and> 3 : 8 <after> 2 <run>",
        ((0,), 0): "<found> 20 <eos>",
        ((1,), 0): "<found> 30 <eos>",
        ((2,), 0): "<found> 10 <eos>",
        ((), 1): "<giveup> <eos>",
    }
    assert contexts(drive(build("plan_graph"), scripted(lines)))[1:4] == [
        "<node> 7 <think>",
        "<node> 8 <results> 2 : <found> 20 <end> <think>",
        "<node> 6 <results> 3 : <found> 30 2 : <found> 20 <end> <think>",
    ]


def test_an_answer_needs_no_plan() -> None:
    episode = drive(build("plan_graph"), scripted({((), 0): "<answer> 7 <eos>"}))
    assert episode.answer_ids() == (7,) and not episode.violations and width(episode) == 0


@pytest.mark.parametrize(
    ("said", "violations"),
    [
        ("4 <run>", [("stray_tag", 1)]),
        ("<plan> <run>", [("missing_index", 0), ("no_children", 0)]),
        ("4 <plan> 1 : <run>", [("empty_child", 1), ("no_children", 1)]),
        ("<plan> 1 : 5 <after> 1 <run>", [("cycle", 0)]),
        ("<plan> 1 : 5 <after> 2 <and> 2 : 6 <after> 3 <and> 3 : 7 <after> 1 <run>", [("cycle", 0)]),
        ("<plan> 5 <eos>", [("unclosed_tag", 0), ("malformed_answer", 2)]),
    ],
)
def test_a_plan_that_cannot_run_ends_the_episode(said: str, violations: list[tuple[str, int]]) -> None:
    episode = drive(build("plan_graph"), scripted({((), 0): said}))
    assert kinds(episode) == violations
    assert episode.outcome is ThreadOutcome.MALFORMED and len(episode.threads) == 1


@pytest.mark.parametrize(
    ("said", "violations", "seen"),
    [
        ("<plan> 1 : 5 <and> 1 : 6 <run>", [("duplicate_index", 4)], ["5"]),
        ("<plan> 5 6 <and> 1 : 7 <run>", [("missing_index", 0)], ["7"]),
        ("<plan> 1 : 7 <and> <run>", [("missing_index", 4)], ["7"]),
        ("<plan> 1 : 7 <and> 2 : <after> 1 <run>", [("empty_child", 4)], ["7"]),
        ("<plan> 1 : 7 <after> 9 <run>", [("unknown_dependency", 4)], ["7"]),
        ("<plan> 1 : 7 <after> <run>", [("missing_index", 4)], ["7"]),
        (
            "<plan> 1 : 7 <and> 2 : 8 <after> 1 <think> <run>",
            [("missing_index", 8)],
            ["7", "8 <results> 1 : <nothing> <end>"],
        ),
        ("<plan> 1 : 4 <plan> 1 : 5 <run>", [], ["5"]),
    ],
)  # fmt: skip
def test_what_makes_no_sense_in_a_plan_is_noted_with_its_place_and_the_rest_runs(
    said: str, violations: list[tuple[str, int]], seen: list[str]
) -> None:
    lines = {((key,), 0): "<nothing> <eos>" for key in range(2)} | {((), 1): "<giveup> <eos>"}
    episode = drive(build("plan_graph"), scripted({((), 0): said, **lines}))
    assert kinds(episode) == violations
    assert contexts(episode)[1:-1] == [f"<node> {task} <think>" for task in seen]
    assert episode.outcome is ThreadOutcome.RETURNED


def test_there_is_one_plan() -> None:
    episode = drive(build("plan_graph"), scripted({**LINES, ((), 1): PLAN}))
    assert kinds(episode) == [("fork_not_allowed", 0)]
    assert episode.outcome is ThreadOutcome.MALFORMED and width(episode) == 3


def test_tasks_beyond_the_width_do_not_run_and_are_told_as_failed() -> None:
    episode = drive(build("plan_graph", budgets={"width": 2}), scripted(LINES))
    assert (episode.threads[3].outcome, episode.threads[3].limit) == (ThreadOutcome.BUDGET, Limit.WIDTH)
    assert kinds(episode) == [("too_many_children", None)]
    assert contexts(episode)[-1].endswith("2 : <found> 11 3 : <nothing> <end>")


@pytest.mark.parametrize(
    ("params", "told"),
    [({}, "<nothing>"), ({"notices": {"malformed": "40 41"}}, "40 41")],
)
def test_a_task_whose_need_failed_is_told_so_and_runs(params: dict[str, object], told: str) -> None:
    episode = drive(build("plan_graph", **params), scripted({**LINES, ((0,), 0): "9 <eos>"}))
    assert episode.threads[1].outcome is ThreadOutcome.MALFORMED
    assert contexts(episode)[2] == f"<node> 7 <results> 1 : {told} <end> <think>"
    assert contexts(episode)[-1].endswith(f"1 : {told} 2 : <found> 11 3 : <nothing> <end>")


def test_a_task_waits_for_the_second_beginning_of_one_that_failed() -> None:
    lines = {**LINES, ((0,), 0): "9 <eos>", ((3,), 0): "<found> 13 <eos>"}
    episode = drive(build("plan_graph", on_failure="retry"), scripted(lines), pick=lambda n: n - 1)
    assert "<node> 7 <results> 1 : <found> 13 <end> <think>" in contexts(episode)
    assert "<results> 1 : <found> 13 2 : <found> 11" in text(
        episode.context_ids([call for call in episode.calls if call.thread == 0][-1])
    )


def test_a_planner_that_waits_for_the_first_success_cancels_the_rest_of_the_plan() -> None:
    episode = drive(build("plan_graph", wait="success"), scripted(LINES))
    outcomes = [thread.outcome for thread in episode.threads[1:]]
    assert outcomes == [ThreadOutcome.RETURNED, ThreadOutcome.CANCELLED, ThreadOutcome.CANCELLED]
    assert width(episode) == 2, "the second task never began"


def test_parts_are_taught_with_their_needs_in_the_plan() -> None:
    episode = demonstrate(
        build("plan_graph"), Prompt("1 2 3"), PARTS, id="0", problem_id="p", max_length=1000
    )
    assert episode is not None
    assert [text(call.output) for call in episode.calls] == [
        "<plan> 1 : 3 4 <and> 2 : 9 1 <and> 3 : 20 <after> 1 2 <run>",
        "7 <found> 7 <eos>",
        "8 <found> 8 <eos>",
        "7 8 15 <found> 15 <eos>",
        "7 8 15 30 <answer> 30 <eos>",
    ]
    assert contexts(episode)[3] == "<node> 20 <results> 1 : <found> 7 2 : <found> 8 <end> <think>"


def random_plan(rng: random.Random) -> list[int]:
    """Some tasks with some needs, now and then with a slip in it."""
    structure = ("<plan>", "<and>", "<after>", "<run>", ":", "<found>", "<answer>", "<think>")
    said = [IDS["<plan>"]]
    for number in range(rng.randint(1, 6)):
        said += [IDS["<and>"]] if number else []
        said += [number + 1 if rng.random() < 0.9 else 1, IDS[":"], rng.randint(1, 48)]
        if rng.random() < 0.6:
            said += [IDS["<after>"], *(rng.randint(1, 6) for _ in range(rng.randint(1, 3)))]
        if rng.random() < 0.1:
            said.append(IDS[rng.choice(structure)])
    return [*said, IDS["<run>"]]


@pytest.mark.medium
@settings(max_examples=500, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    live=st.integers(1, 4),
    width_budget=st.integers(1, 6),
    wait=st.sampled_from(["all", "first", "success"]),
    on_failure=st.sampled_from(["tell", "retry", "fail"]),
    inherit=st.sampled_from(["shared", "split"]),
    total=st.integers(1, 300),
)
def test_any_plan_ends_within_the_budgets_and_nobody_starts_before_those_it_needs(
    seed: int, live: int, width_budget: int, wait: str, on_failure: str, inherit: str, total: int
) -> None:
    rng = random.Random(seed)
    budgets = {"live_calls": live, "width": width_budget, "total_tokens": total, "inherit": inherit}
    protocol = build("plan_graph", wait=wait, on_failure=on_failure, budgets=budgets)

    def say(generate: Generate) -> tuple[int, ...]:
        if not generate.path and not generate.number:
            return tuple(random_plan(rng))
        ending = rng.choice(
            [[IDS["<found>"], 7, EOS], [IDS["<nothing>"], EOS], [IDS["<run>"]], [EOS], [3] * 90]
        )
        return (*(rng.randint(1, 48) for _ in range(rng.randint(0, 6))), *ending)

    episode = drive(protocol, say, pick=rng.randrange, fail=lambda g: bool(g.path) and rng.random() < 0.1)
    assert total_tokens(episode) <= total
    assert width(episode) <= width_budget * (2 if on_failure == "retry" else 1)
    finished = {call.thread: call for call in episode.calls}
    for call in episode.calls:
        for edge in call.after:
            if edge.kind is EdgeKind.JOIN:
                needed = episode.calls[edge.call]
                assert finished[needed.thread] is needed, "whoever is waited for has said its last"
                assert needed.finished_s < call.finished_s
    assert {violation.kind for violation in episode.violations} <= {
        ViolationKind.STRAY_TAG,
        ViolationKind.UNCLOSED_TAG,
        ViolationKind.MISSING_INDEX,
        ViolationKind.EMPTY_CHILD,
        ViolationKind.DUPLICATE_INDEX,
        ViolationKind.UNKNOWN_DEPENDENCY,
        ViolationKind.CYCLE,
        ViolationKind.NO_CHILDREN,
        ViolationKind.TOO_MANY_CHILDREN,
        ViolationKind.FORK_NOT_ALLOWED,
        ViolationKind.MALFORMED_ANSWER,
        ViolationKind.MALFORMED_RETURN,
    }
