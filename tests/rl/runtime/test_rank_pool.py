"""Who serves the next stage, and who is ended."""

from types import SimpleNamespace
from typing import Any

import pytest

from rl.runtime import rank_pool
from rl.runtime.rank_pool import RankPool

ended: list[Any] = []


class Actor:
    """Stands for a process."""

    def __init__(self) -> None:
        self.left = 0
        self.leave = SimpleNamespace(remote=self._leave)

    def _leave(self) -> None:
        self.left += 1


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> RankPool:
    ended.clear()
    made = SimpleNamespace(options=lambda **place: SimpleNamespace(remote=Actor))
    monkeypatch.setattr(rank_pool, "RankActor", made)
    monkeypatch.setattr(rank_pool.ray, "kill", ended.append)
    placement: Any = SimpleNamespace(rank=lambda rank: {"rank": rank})
    return RankPool(placement)


def test_a_lone_rank_serves_stage_after_stage(pool: RankPool) -> None:
    (first,) = pool.take(1)
    pool.give_back([first])
    assert first.left == 1 and ended == []
    assert pool.take(1) == [first]
    (second,) = pool.take(1)
    assert second is not first, "the first is at work"
    pool.give_back([first])
    pool.close()
    pool.close()
    assert ended == [first]


def test_several_are_ended_and_one_makes_room_for_them(pool: RankPool) -> None:
    (alone,) = pool.take(1)
    pool.give_back([alone])
    ranks = pool.take(2)
    assert len(ranks) == 2 and ended == [alone]
    pool.give_back(ranks)
    assert ended == [alone, *ranks]
    assert pool.take(1)[0] not in (alone, *ranks)
