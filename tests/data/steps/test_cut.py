"""Which tokens a step has, for tokenizers of words and for any other."""

from collections.abc import Sequence
from dataclasses import dataclass

from data.episodes.trajectory import Call, Edge, EdgeKind, Episode, StopReason, Thread, ThreadOutcome
from data.steps.cut import cut_calls, cut_lines, cut_paragraphs, cut_threads
from data.steps.search_lines import line_ranges, shown_ranges, whole_segment
from data.steps.step import Step
from data.tasks.countdown import Countdown

STOPS = {StopReason.STOP: ThreadOutcome.RETURNED, StopReason.LENGTH: ThreadOutcome.TRUNCATED}


@dataclass(frozen=True)
class Spelled:
    """Ids that are places in a list of texts; the last one ends a call."""

    texts: tuple[str, ...]

    @property
    def ends(self) -> tuple[int, ...]:
        return (len(self.texts) - 1,)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self.texts[index] for index in ids]


def episode(*outputs: tuple[int, ...], stop: StopReason = StopReason.STOP) -> Episode:
    """One call after the other in one thread."""
    calls = tuple(
        Call(
            index=index,
            thread=0,
            role="solo",
            context=(),
            output=output,
            logprobs=(),
            versions=(),
            stop=stop if index == len(outputs) - 1 else StopReason.STOP,
            after=(Edge(kind=EdgeKind.NEXT, call=index - 1),) if index else (),
            num_trained=len(output),
        )
        for index, output in enumerate(outputs)
    )
    thread = Thread(index=0, parent=None, key=0, opened_by=None, depth=0, outcome=STOPS[stop])
    return Episode(id="0/0", problem_id="p", protocol="x", calls=calls, threads=(thread,), answer=None)


def places(steps: Sequence[Step]) -> list[tuple[int, int, int, str]]:
    return [(step.call, step.start, step.stop, step.text) for step in steps]


def test_lines_of_words() -> None:
    line = "<try> 9 * 4 10 2 36 36 + 2 38 10 48 28 X X 41 . <eos>"
    words = line.split()
    spelled = Spelled((words[0], *(f" {word}" for word in words[1:])))
    found = cut_lines(episode(tuple(range(len(words)))), spelled, Countdown().step_ranges)
    assert places(found) == [(0, 1, 7, "9 * 4 10 2 36"), (0, 7, 18, "36 + 2 38 10 48 28 X X 41 .")]
    assert not any(step.cut_off for step in found)


def test_numbers_of_threads_are_no_part_of_a_line() -> None:
    text = "<FORK> 1 : 37 9 * 4 10 2 </FORK> <Parallel> 1.2: one\ntwo <|end|> three"
    ranges = line_ranges(text, whole_segment)
    assert [text[start:stop].strip() for start, stop in ranges] == ["37 9 * 4 10 2", "one", "two", "three"]


def test_a_thread_goes_on_with_the_outline_of_its_number() -> None:
    text = "<O> 1 : a </O> <O> 2 : b </O> <T> 1 : c </T> <O> 1 : d </O> <JOIN> 2 </JOIN> <T> 1 :"
    shown = [text[start:stop].strip() for start, stop in shown_ranges(text, whole_segment)]
    assert shown == ["a", "b", "a", "c", "d", "d"]


def test_paragraphs_of_text_whose_tokens_reach_over_the_gap() -> None:
    spelled = Spelled(("One", " line.", "\n\n", "Two.\n", "", "é", ".\n \nThree", "!", "<eos>"))
    found = cut_paragraphs(episode(tuple(range(9))), spelled)
    # Token 6 ends the second paragraph and begins the third: it belongs to the second.
    assert places(found) == [(0, 0, 2, "One line."), (0, 3, 7, "Two.\né."), (0, 7, 8, "Three!")]


def test_a_character_of_several_tokens_is_whole() -> None:
    spelled = Spelled(("A.\n\n", "", "", "é", "b", "<eos>"))
    assert places(cut_paragraphs(episode(tuple(range(6))), spelled)) == [(0, 0, 1, "A."), (0, 1, 5, "éb")]


def test_a_step_without_a_token_of_its_own_joins_the_one_before() -> None:
    spelled = Spelled(("One.\n\nTwo.\n\nThree.", " Four.", "<eos>"))
    assert places(cut_paragraphs(episode((0, 1, 2)), spelled)) == [
        (0, 0, 1, "One.Two."),
        (0, 1, 2, "Three. Four."),
    ]


def test_the_last_step_of_a_call_that_was_cut_off_is_not_whole() -> None:
    spelled = Spelled(("One.", "\n\n", "Tw", "<eos>"))
    found = cut_paragraphs(episode((0, 1, 2), stop=StopReason.LENGTH), spelled)
    assert [step.cut_off for step in found] == [False, True]


def test_calls_and_threads() -> None:
    spelled = Spelled(("One.", " Two.", "Three.", "<eos>"))
    said = episode((0, 3), (3,), (1, 2, 3))
    assert places(cut_calls(said, spelled)) == [(0, 0, 1, "One."), (2, 0, 2, "Two.Three.")]
    assert places(cut_threads(said, spelled)) == [(2, 0, 2, "One.\nTwo.Three.")]
