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
        self.num_released = 0
        self.release = SimpleNamespace(remote=self._released)

    def _released(self) -> None:
        self.num_released += 1


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> RankPool:
    ended.clear()
    made = SimpleNamespace(options=lambda **place: SimpleNamespace(remote=Actor))
    monkeypatch.setattr(rank_pool, "RankActor", made)
    monkeypatch.setattr(rank_pool.ray, "kill", ended.append)
    placement: Any = SimpleNamespace(rank=lambda rank: {"rank": rank})
    return RankPool(placement)


def test_a_lone_rank_serves_stage_after_stage(pool: RankPool) -> None:
    (first,) = pool.acquire(1)
    pool.release([first])
    assert first.num_released == 1 and ended == []
    assert pool.acquire(1) == [first]
    (second,) = pool.acquire(1)
    assert second is not first, "the first is in use"
    pool.release([first])
    pool.close()
    pool.close()
    assert ended == [first]


def test_several_are_ended_and_one_makes_room_for_them(pool: RankPool) -> None:
    (alone,) = pool.acquire(1)
    pool.release([alone])
    ranks = pool.acquire(2)
    assert len(ranks) == 2 and ended == [alone]
    pool.release(ranks)
    assert ended == [alone, *ranks]
    assert pool.acquire(1)[0] not in (alone, *ranks)
