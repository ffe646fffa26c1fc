"""Messages between rounds: what goes in, in which order, and never more than the bound."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.episodes.trajectory import Forced, Ref, Span
from rollout.protocols.shared.compaction import Draft, answers, last_tokens, tail, top
from rollout.protocols.shared.tags import length


def draft(*ids: int, confidence: float = 1.0) -> Draft:
    return Draft(spans=(Forced(ids=ids),), ids=ids, confidence=confidence)


def shown(parts: list[tuple[Span, ...]]) -> list[tuple[int, ...]]:
    return [span.ids for part in parts for span in part if isinstance(span, Forced)]


DRAFTS = [draft(1, 2), draft(3), draft(1, 2), draft(4, 5, 6)]


def test_the_order_of_answers_depends_on_what_they_are_and_not_on_who_gave_them() -> None:
    orders = {tuple(shown(answers(each, 64, 1, 1))) for each in permutations(DRAFTS)}
    assert len(orders) == 1
    assert sorted(next(iter(orders))) == [(1, 2), (1, 2), (3,), (4, 5, 6)]


def test_another_round_or_another_episode_shuffles_otherwise() -> None:
    of_rounds = {tuple(shown(answers(DRAFTS, 64, 1, number))) for number in range(1, 9)}
    assert len(of_rounds) > 1
    first = {answers([draft(n, n), draft(n + 1)], 64, 1, 1)[0] == (Forced(ids=(n, n)),) for n in range(9)}
    assert first == {True, False}


def test_an_answer_that_does_not_fit_any_more_is_left_out_whole() -> None:
    # 3 + 1 + 2 ids of answers and two gaps make 8.
    fitting = answers([draft(1, 2), draft(3), draft(4, 5, 6)], 8, 1, 1)
    assert len(fitting) == 3
    assert len(answers([draft(1, 2), draft(3), draft(4, 5, 6)], 7, 1, 1)) == 2
    assert answers([draft(1, 2)], 1, 1, 1) == []


def test_the_most_confident_come_first() -> None:
    drafts = [draft(1, confidence=0.2), draft(2, confidence=0.9), draft(3, confidence=0.9), draft(4)]
    assert shown(top(drafts, 64, 1, 3)) == [(4,), (2,), (3,)]
    assert shown(top(drafts, 64, 1, 9)) == [(4,), (2,), (3,), (1,)]
    assert shown(top(drafts, 3, 1, 9)) == [(4,), (2,)]


def test_every_draft_gets_the_same_share_of_its_end() -> None:
    # 9 ids less one gap, halved.
    assert shown(last_tokens([draft(1, 2, 3, 4, 5, 6), draft(7)], 9, 1)) == [(3, 4, 5, 6), (7,)]
    # Room for one id each of two drafts, not of three.
    assert shown(last_tokens([draft(1, 2), draft(3, 4), draft(5, 6)], 4, 1)) == [(2,), (4,)]
    assert last_tokens([draft(1, 2)], 0, 1) == []
    assert last_tokens([], 5, 1) == []


def test_the_end_of_spans_is_cut_by_reference() -> None:
    spans = (Forced(ids=(1, 2)), Ref(call=4, start=10, stop=13), Forced(ids=(7,)))
    assert tail(spans, 3) == (Ref(call=4, start=11, stop=13), Forced(ids=(7,)))
    assert tail(spans, 5) == (Forced(ids=(2,)), *spans[1:])
    assert tail(spans, 9) == spans
    assert tail(spans, 0) == ()


@pytest.mark.parametrize("compaction", ["answers", "top", "last_tokens"])
@given(
    drafts=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), max_size=6),
    bound=st.integers(1, 20),
    gap=st.integers(0, 3),
)
def test_a_message_never_exceeds_its_bound(
    compaction: str, drafts: list[list[int]], bound: int, gap: int
) -> None:
    given_ = [draft(*each) for each in drafts]
    parts = (
        answers(given_, bound, gap, 1)
        if compaction == "answers"
        else top(given_, bound, gap, 3)
        if compaction == "top"
        else last_tokens(given_, bound, gap)
    )
    assert sum(map(length, parts)) + gap * max(0, len(parts) - 1) <= bound
