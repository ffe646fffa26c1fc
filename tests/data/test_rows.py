"""Rows, packing and collation, with arrays written out by hand."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from data.collate import collate
from data.rows import Row, pack_rows


def row(context: list[int], output: list[int], weight: float = 1.0, advantage: float = 1.0) -> Row:
    return Row(
        ids=(*context, *output),
        first=len(context),
        weights=(weight,) * len(output),
        logprobs=tuple(-0.5 * (i + 1) for i in range(len(output))),
        advantage=advantage,
    )


def test_two_rows_of_one_bin_lie_side_by_side_and_do_not_see_each_other() -> None:
    batch = collate([[row([5, 6], [7], advantage=2.0), row([8], [9, 10], weight=0.5)]], pad=0, length=8)
    assert batch.ids.tolist() == [[5, 6, 7, 8, 9, 10, 0, 0]]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]]
    assert batch.segments.tolist() == [[0, 0, 0, 1, 1, 1, -1, -1]]
    assert batch.weights.tolist() == [[0, 0, 1, 0, 0.5, 0.5, 0, 0]]
    assert batch.logprobs.tolist() == [[0, 0, -0.5, 0, -0.5, -1.0, 0, 0]]
    assert batch.advantages.tolist() == [[0, 0, 2, 0, 1, 1, 0, 0]]
    mask = batch.attention_mask()[0, 0]
    assert mask[2].tolist() == [True, True, True, False, False, False, False, False]
    assert mask[4].tolist() == [False, False, False, True, True, False, False, False]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(40, 100))
def test_packing_loses_nothing_and_never_overflows(sizes: list[int], length: int) -> None:
    rows = [row([number], list(range(size - 1))) for number, size in enumerate(sizes)]
    bins = pack_rows(rows, length)
    assert all(sum(map(len, packed)) <= length for packed in bins)
    assert sorted(r.ids[0] for packed in bins for r in packed) == list(range(len(sizes)))
    assert bins == pack_rows(rows, length)


def test_a_row_longer_than_a_bin_gets_one_of_its_own() -> None:
    long, short = row([1, 2, 3], [4, 5, 6, 7]), row([1], [2])
    assert pack_rows([short, long, short, short], 6) == [[long], [short, short, short]]


def test_a_batch_moves_between_devices_whole() -> None:
    batch = collate([[row([1], [2])]], pad=0)
    moved = batch.to(torch.device("cpu"))
    assert all(
        torch.equal(getattr(moved, name), getattr(batch, name)) for name in ("ids", "weights", "segments")
    )
