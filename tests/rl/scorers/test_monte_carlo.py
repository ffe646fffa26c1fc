"""Monte-Carlo estimates by hand, and the search for the first lost step on planted chains."""

import asyncio
import math

import pytest

from data.steps.step import NO_ERROR
from rl.scorers.monte_carlo import first_lost, label_of, searched_labels, value


@pytest.mark.parametrize(
    ("outcomes", "share", "hard"),
    [
        ((True, False, False, True, False, False, False, True), 0.375, 1.0),  # 3 of 8
        ((False,) * 4, 0.0, 0.0),
        ((True,), 1.0, 1.0),
        ((), None, None),
    ],
)
def test_a_value_is_the_share_and_a_hard_label_says_whether_any_is_right(
    outcomes: tuple[bool, ...], share: float | None, hard: float | None
) -> None:
    assert value(outcomes) == label_of(outcomes, "soft") == share
    assert label_of(outcomes, "hard") == hard


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 33])
def test_the_search_finds_every_planted_error_with_few_probes(count: int) -> None:
    for lost in (*range(count), NO_ERROR):
        asked: list[int] = []

        async def probe(place: int, lost: int = lost, asked: list[int] = asked) -> float:
            asked.append(place)
            return 0.0 if lost != NO_ERROR and place >= lost else 0.125

        assert asyncio.run(first_lost(count, probe)) == lost
        assert len(asked) == len(set(asked)) <= math.ceil(math.log2(count)) + 1


def test_a_step_without_a_value_is_not_lost() -> None:
    async def probe(place: int) -> float | None:
        return None if place < 3 else 0.0

    assert asyncio.run(first_lost(5, probe)) == 3
    assert asyncio.run(first_lost(0, probe)) == NO_ERROR


def test_labels_after_a_search() -> None:
    """Five steps, the third lost; the first and the third were probed."""
    probed = [(True, False), None, (False, False), None, None]
    assert searched_labels(5, 2, probed, "soft") == (0.5, 1.0, 0.0, None, None)
    assert searched_labels(5, 2, probed, "hard") == (1.0, 1.0, 0.0, None, None)
    assert searched_labels(2, NO_ERROR, [None, (True, True, False, True)], "soft") == (1.0, 0.75)
    assert searched_labels(1, 0, [(False,)], "soft") == (0.0,)
