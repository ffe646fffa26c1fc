"""What a chain has written, however its text was cut into calls."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_lab import LetterEncoder, WordEncoder, ids

from data.episodes.trajectory import Call, Forced, Ref, StopReason
from data.text.answer_format import AnswerFormatConfig
from rollout.protocols.shared.answers import AnswerFormat
from rollout.protocols.shared.chains import SOLO_TAGS
from rollout.protocols.shared.spoken import ids_of, logprobs_of, placed, spoken, written_answer
from rollout.protocols.shared.tags import Encoder, Tags


def calls_of(outputs: Sequence[Sequence[int]], first: int = 3) -> list[Call]:
    """Calls `first`, `first` + 2, ... of one thread; only the last one stopped by itself."""
    return [
        Call(
            index=first + 2 * number,
            thread=1,
            role="chain",
            context=(),
            output=tuple(output),
            logprobs=tuple(-float(token) for token in output),
            versions=(),
            stop=StopReason.STOP if number == len(outputs) - 1 else StopReason.LENGTH,
            after=(),
            num_trained=0,
        )
        for number, output in enumerate(outputs)
    ]


def test_spans_of_the_whole_are_spans_of_the_calls() -> None:
    calls = calls_of([(1, 2, 3), (4,), (5, 6)])
    assert spoken(calls).output == (1, 2, 3, 4, 5, 6)
    spans = placed((Ref(call=7, start=1, stop=5), Forced(ids=(9,))), calls)
    assert spans == (
        Ref(call=3, start=1, stop=3),
        Ref(call=5, start=0, stop=1),
        Ref(call=7, start=0, stop=1),
        Forced(ids=(9,)),
    )
    assert ids_of(spans, calls) == (2, 3, 4, 5, 9)
    assert logprobs_of(spans, calls) == (-2.0, -3.0, -4.0, -5.0)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1 2 3", None),
        ("1 <answer> 5", None),  # there may be more of it
        ("1 <answer> 5 6 <eos>", "5 6"),
        ("<answer> 5 <think> 7", "5"),
        ("<answer> 5 <think> 7 <answer> 6", "5"),
        ("<answer> 5 <think> 7 <answer> 6 <try>", "6"),
        ("<answer> 5 <answer> <think>", "5"),  # an empty one answers nothing
        ("<answer> 5 <answer> 6 <giveup> <eos>", "6"),
        ("", None),
    ],
)
def test_an_answer_counts_once_something_closes_it(text: str, answer: str | None) -> None:
    tags = Tags(SOLO_TAGS, WordEncoder())
    calls = calls_of([ids(text)])
    spans = written_answer(tags, AnswerFormat(AnswerFormatConfig()), calls)
    assert (None if spans is None else ids_of(spans, calls)) == (None if answer is None else ids(answer))
    assert written_answer(tags, AnswerFormat(AnswerFormatConfig()), []) is None


@given(
    words=st.lists(st.sampled_from(["1", "22", "<answer>", "<think>", "<answ", "er>"]), max_size=12),
    cuts=st.sets(st.integers(1, 60), max_size=6),
    encoder=st.sampled_from([WordEncoder(), LetterEncoder()]),
)
def test_where_a_text_is_cut_into_calls_makes_no_difference(
    words: list[str], cuts: set[int], encoder: Encoder
) -> None:
    tags = Tags(SOLO_TAGS, encoder)
    if encoder.words_only:
        words = [word for word in words if word not in ("<answ", "er>")]
    output = (*tags.write(" ".join(words)), encoder.eos)
    places = [0, *sorted(cut for cut in cuts if cut < len(output)), len(output)]
    pieces = [output[left:right] for left, right in pairwise(places)]
    whole, parts = calls_of([output]), calls_of(pieces)
    at_once, in_parts = (
        written_answer(tags, AnswerFormat(AnswerFormatConfig()), whole),
        written_answer(tags, AnswerFormat(AnswerFormatConfig()), parts),
    )
    assert (at_once is None) == (in_parts is None)
    if at_once is not None and in_parts is not None:
        assert ids_of(at_once, whole) == ids_of(in_parts, parts)
