"""Which episodes of a step are shown."""

from collections.abc import Sequence
from dataclasses import replace

from episodes import call, episode

from data.episodes.trajectory import Ref, Violation, ViolationKind
from rl.reporting.choice import choose
from rl.reporting.contents import Shown


def shown(name: str, reward: float | None, tokens: int, kinds: Sequence[ViolationKind] = ()) -> Shown:
    """An episode of one call, right where its reward is 1."""
    made = replace(episode([call(0, 0, tokens)], answer=(Ref(call=0, start=0, stop=1),)), id=name)
    violations = tuple(Violation(kind=kind, call=0) for kind in kinds)
    return Shown(
        episode=replace(made, violations=violations),
        place="record/step-000001",
        reward=reward,
        correct=reward == 1,
    )


def test_best_worst_median_wasteful_and_violations() -> None:
    found = [
        shown("cheap", 1.0, 10),
        shown("dear", 1.0, 12),
        shown("middle", 0.5, 20),
        shown("short", 0.0, 30),
        shown("long", 0.0, 40),
        shown("broken", None, 5, [ViolationKind.CYCLE]),
    ]
    assert [(why, each.episode.id) for why, each in choose(found)] == [
        ("best", "cheap"),
        ("worst", "long"),
        ("median", "middle"),
        ("most wasteful", "short"),
        ("violation: cycle", "broken"),
    ]


def test_few_episodes_are_shown_once() -> None:
    assert [why for why, _ in choose([shown("only", 0.0, 3)])] == ["best"]
    assert choose([]) == []


def test_the_most_frequent_violation_comes_first() -> None:
    found = [
        shown("a", None, 1, [ViolationKind.CYCLE]),
        shown("b", None, 1, [ViolationKind.TOO_DEEP]),
        shown("c", None, 1, [ViolationKind.TOO_DEEP]),
    ]
    assert [(why, each.episode.id) for why, each in choose(found)] == [
        ("violation: too deep", "b"),
        ("violation: cycle", "a"),
    ]
