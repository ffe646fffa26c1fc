"""What a batch reports of itself, worked out by hand."""

from dataclasses import replace

import pytest
from episodes import call, episode

from data.episodes.trajectory import ThreadOutcome
from rewards.score import Score
from rewards.verifiers.base import OutcomeKind
from rl.controller.step_metrics import batch_metrics
from rl.scored_group import ScoredGroup
from rl.tracking.metrics import is_time


def batch() -> list[ScoredGroup]:
    """One episode forks three threads, of which two say the same and one is cancelled; the other is alone."""
    forked = episode(
        (
            call(0, 0, 5),
            call(1, 1, (1, 2, 3, 4), (0,)),
            call(2, 2, (1, 2, 3, 4), (0,)),
            call(3, 3, (9, 8), (0,)),
            call(4, 0, 5, (0, 1, 2)),
        ),
        outcomes={3: ThreadOutcome.CANCELLED},
    )
    scores = (
        Score(value=1.0, components={"correct": 1.0}, correct=True),
        Score(value=0.0, components={"correct": 0.0}, correct=False),
    )
    return [ScoredGroup(index=0, problem_id="p", episodes=(forked, episode((call(0, 0, 6),))), scores=scores)]


def test_a_batch_by_hand() -> None:
    row = batch_metrics(0, batch())
    asked = {
        "reward/mean": 0.5,
        "accuracy": 0.5,
        "share/activation": 0.5,
        "threads/width": 1.5,  # 3 and 0
        "threads/depth": 0.5,
        "threads/concurrency": (20 / 14 + 1) / 2,  # 5 + 4 + 5 on the path of 20
        "threads/peak": 2.0,  # 3 and 1
        "share/duplicate_threads": 1 / 3,
        "share/serial_collapse": 0.5,
        "share/cancelled_tokens": 2 / 26,
        "share/spurious_threads": 1.0,  # nobody reads either of the two that returned
        "outcome/root_returned": 1.0,
        "outcome/child_returned": 2 / 3,
        "outcome/child_cancelled": 1 / 3,
    }
    assert {name: row[name] for name in asked} == pytest.approx(asked)


def test_what_the_monitors_say_is_part_of_what_a_seed_decides() -> None:
    """metrics.jsonl keeps apart what depends on the machine, and by name alone."""
    names = [name for name in batch_metrics(0, batch()) if name.startswith(("share/", "outcome/", "limit/"))]
    assert len(names) > 20
    assert not any(is_time(name) for name in names)


def test_a_batch_of_nothing_has_the_same_names() -> None:
    empty = batch_metrics(0, [])
    assert empty.keys() | {"reward/correct"} == batch_metrics(0, batch()).keys()


def test_the_five_outcomes_of_a_verifier_are_counted() -> None:
    (group,) = batch()
    kinds = [*OutcomeKind, OutcomeKind.FAULT, None]
    scores = tuple(
        Score(value=None if kind in (OutcomeKind.GOLD_UNPARSABLE, OutcomeKind.FAULT) else 0.0, outcome=kind)
        for kind in kinds
    )
    row = batch_metrics(0, [replace(group, episodes=group.episodes[:1] * len(kinds), scores=scores)])
    counted = (
        "answers_correct",
        "answers_wrong",
        "answers_unparsable",
        "golds_unparsable",
        "verifier_faults",
    )
    assert [row[f"reward/{name}"] for name in counted] == [1.0, 1.0, 1.0, 1.0, 2.0]
    assert row["reward/ungraded"] == 3.0


def test_an_opinion_stands_beside_the_accuracy_of_the_same_episodes() -> None:
    """Three episodes: judged and right, judged and not checked, right but without an opinion."""
    scores = (
        Score(value=1.0, correct=True, opinion=0.8),
        Score(value=0.0, correct=None, opinion=0.2),
        Score(value=None, correct=False),
    )
    group = ScoredGroup(index=0, problem_id="p", episodes=(episode((call(0, 0, 6),)),) * 3, scores=scores)
    row = batch_metrics(0, [group])
    assert (row["scorer/mean"], row["scorer/missing"], row["scorer/accuracy"]) == (0.5, 1.0, 1.0)
    silent = batch_metrics(0, [replace(group, scores=(scores[1], scores[1], scores[1]))])
    assert "scorer/accuracy" not in silent and silent["scorer/mean"] == pytest.approx(0.2)
