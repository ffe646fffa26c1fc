"""The forest against what it stands for: its rows, one by one."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.forests.forest import build_forest, common_prefix, depth_first, pairs, unique_tokens
from data.forests.rows import Row
from data.forests.split import PASS_TOKENS, CostModel, deal, first_fit, split_rows


def row(context: list[int], output: list[int], weight: float = 1.0) -> Row:
    return Row(ids=(*context, *output), first=len(context), weights=(weight,) * len(output))


@st.composite
def rows_that_share(draw: st.DrawFn) -> list[Row]:
    """Few different ids, so that prefixes coincide; some tokens carry no loss."""
    rows = []
    for _ in range(draw(st.integers(1, 9))):
        ids = draw(st.lists(st.integers(1, 3), min_size=2, max_size=9))
        first = draw(st.integers(1, len(ids)))
        weights = draw(
            st.lists(st.sampled_from([0.0, 0.5]), min_size=len(ids) - first, max_size=len(ids) - first)
        )
        rows.append(Row(ids=tuple(ids), first=first, weights=tuple(weights)))
    return rows


def test_the_example() -> None:
    forest = build_forest([row([5, 6], [8, 9]), row([5, 6], [7])])
    assert forest.ids == [5, 6, 7, 8, 9]
    assert forest.positions == [0, 1, 2, 2, 3]
    assert forest.parents == [-1, 0, 1, 1, 3]
    assert forest.end == [5, 5, 3, 5, 5]
    labels = forest.labels
    assert list(zip(labels.nodes, labels.targets, labels.rows, labels.outputs, strict=True)) == [
        (1, 7, 1, 0),
        (1, 8, 0, 0),
        (3, 9, 0, 1),
    ]
    # 1 + 2 + 3 + 3 + 4 keys; the rows alone would have 1 + 2 + 3 and 1 + 2 + 3 + 4 of 7 tokens.
    assert (pairs(forest), forest.row_tokens) == (13, 7)
    assert forest.ancestors(4) == [0, 1, 3]


def test_equal_rows_are_one_path_with_labels_of_their_own() -> None:
    forest = build_forest([row([5], [6, 7]), row([5], [6, 7]), row([5, 6], [7])])
    assert forest.ids == [5, 6, 7]
    assert sorted(zip(forest.labels.nodes, forest.labels.rows, strict=True)) == [
        (0, 0), (0, 1), (1, 0), (1, 1), (1, 2),
    ]  # fmt: skip


def test_rows_with_nothing_in_common_are_trees_of_their_own() -> None:
    forest = build_forest([row([5], [6]), row([7], [6])])
    assert forest.parents == [-1, 0, -1, 2]
    assert forest.end == [2, 2, 4, 4]
    packed = build_forest([row([5], [6]), row([5], [6])], share=False)
    assert packed.ids == [5, 6, 5, 6] and packed.end == [2, 2, 4, 4]


@pytest.mark.medium
@settings(max_examples=500, deadline=None)
@given(rows=rows_that_share(), share=st.booleans())
def test_a_path_is_its_row_and_the_mask_is_its_ancestors(rows: list[Row], share: bool) -> None:
    forest = build_forest(rows, share=share)
    prefixes = {r.ids[:stop] for r in rows for stop in range(1, len(r) + 1)}
    assert len(forest) == (len(prefixes) if share else sum(map(len, rows)))
    assert unique_tokens(rows) == len(prefixes)
    for token in range(len(forest)):
        seen = [key for key in range(token) if forest.end[key] > token]
        assert seen == forest.ancestors(token)
        assert forest.positions[token] == len(seen)
    expected = sorted(
        (r.ids[: r.first + place], r.ids[r.first + place], index, place)
        for index, r in enumerate(rows)
        for place, weight in enumerate(r.weights)
        if weight
    )
    labels = forest.labels
    found = [
        (tuple(forest.ids[t] for t in (*forest.ancestors(node), node)), target, index, place)
        for node, target, index, place in zip(
            labels.nodes, labels.targets, labels.rows, labels.outputs, strict=True
        )
    ]
    assert sorted(found) == expected


@pytest.mark.medium
@settings(max_examples=200, deadline=None)
@given(rows=rows_that_share(), seed=st.integers(0, 99))
def test_the_order_of_rows_decides_nothing(rows: list[Row], seed: int) -> None:
    shuffled = random.Random(seed).sample(rows, k=len(rows))
    one, other = build_forest(rows), build_forest(shuffled)
    assert (one.ids, one.parents, one.end) == (other.ids, other.parents, other.end)


@pytest.mark.medium
@settings(max_examples=300, deadline=None)
@given(rows=rows_that_share(), budget=st.integers(2, 30))
def test_parts_hold_every_row_once_within_the_budget(rows: list[Row], budget: int) -> None:
    parts = split_rows(rows, budget)
    assert sorted(r.ids for part in parts for r in part) == sorted(r.ids for r in rows)
    for part in parts:
        # Rows of the same ids stay together whatever the budget: they cost nothing.
        assert len(build_forest(part)) <= budget or len({r.ids for r in part[:1]}) == len(part) == 1


def cost(parts: list[list[Row]]) -> int:
    return sum(len(build_forest(part)) + PASS_TOKENS for part in parts)


@pytest.mark.medium
@settings(max_examples=100, deadline=None)
@given(rows=rows_that_share().filter(lambda rows: len(rows) <= 6), budget=st.integers(4, 20))
def test_no_other_cut_of_the_leaves_is_cheaper(rows: list[Row], budget: int) -> None:
    order = [rows[index] for index in depth_first(rows)]
    best = None
    for cuts in range(2 ** (len(order) - 1)):
        parts: list[list[Row]] = [[]]
        for index, leaf in enumerate(order):
            parts[-1].append(leaf)
            if index < len(order) - 1 and cuts >> index & 1:
                parts.append([])
        if all(len(build_forest(part)) <= budget or len(part) == 1 for part in parts):
            best = min(cost(parts), best or cost(parts))
    assert cost(split_rows(rows, budget)) == best


def test_where_a_forest_is_cut() -> None:
    # Prompts 1 2 3 4 and 9: cutting between the prompts repeats nothing, cutting inside the first repeats 4.
    rows = [row([1, 2, 3, 4], [5]), row([1, 2, 3, 4], [6]), row([9], [5]), row([9], [6])]
    assert [len(part) for part in split_rows(rows, 6)] == [2, 2]
    assert [len(part) for part in split_rows(rows, 5)] == [1, 1, 2]
    assert [len(part) for part in split_rows(rows, 100)] == [4]
    assert [len(part) for part in split_rows(rows, 2)] == [1, 1, 1, 1]
    assert split_rows([], 10) == []


def test_parts_are_put_together_in_order() -> None:
    parts = [[row([1], [2, 3])], [row([4], [5, 6, 7])], [row([8], [9])]]  # 3, 4 and 2 tokens
    assert [len(bin_) for bin_ in first_fit(parts, 6)] == [2, 1]
    assert first_fit(parts, 6)[0] == [*parts[0], *parts[2]]


def test_the_dearest_part_goes_to_the_least_loaded_rank() -> None:
    # 9 to rank 0, 7 to rank 1, 5 to rank 1 (7 < 9), 4 to rank 0 (9 < 12), 1 to rank 1 (12 < 13).
    assert deal([5, 9, 1, 7, 4], 2) == [[1, 4], [3, 0, 2]]
    assert deal([3.0], 3) == [[0], [], []]
    forest = build_forest([row([5, 6], [8, 9]), row([5, 6], [7])])
    # 5 tokens and 13 pairs.
    assert CostModel(linear=2.0, quadratic=0.5).seconds(forest) == pytest.approx(16.5)


def test_common_prefixes() -> None:
    assert [common_prefix(a, b) for a, b in [((), (1,)), ((1, 2), (1, 2, 3)), ((1, 2), (1, 3))]] == [0, 2, 1]
