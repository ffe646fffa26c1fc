"""The parser of nested tags: a tree for whatever comes, and a typed note with its place for every slip."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_lab import IDS, LetterEncoder, WordEncoder, build, ids

from data.episodes.trajectory import Call, StopReason, ViolationKind
from rollout.protocols.shared.base import Encoder, Mark, Reading, Tags
from rollout.protocols.shared.dialects import DIALECTS
from rollout.protocols.shared.markup import Element, Markup, Rule, parse, parse_marks, text_behind
from rollout.protocols.shared.tag_text import read_index

WEAVER = DIALECTS["threadweaver"]
RULES = WEAVER.rules(root=True, may_fork=True)
TAGS = ("<answer>", *(tag for name in WEAVER.elements for tag in (f"<{name}>", f"</{name}>")))


def reading(output: tuple[int, ...], encoder: Encoder) -> Reading:
    call = Call(
        index=0, thread=0, role="main", context=(), output=output, logprobs=(), versions=(),
        stop=StopReason.STOP, after=(), num_trained=len(output),
    )  # fmt: skip
    return Tags(TAGS, encoder).read(call)


def of_words(text: str) -> Markup:
    return parse(reading(ids(text), WordEncoder()), RULES, opened=("think",), left=("think",))


def of_letters(text: str) -> Markup:
    return parse(
        reading(LetterEncoder().encode(text), LetterEncoder()), RULES, opened=("think",), left=("think",)
    )


def shape(element: Element) -> object:
    """Name, number and children."""
    return (element.name, element.index, [shape(child) for child in element.children])


def notes(markup: Markup) -> list[tuple[str, int | None]]:
    return [(note.kind.value, note.position) for note in markup.notes]


BLOCK = "<Parallel> <Outlines> <Outline> 1 : 7 </Outline> <Outline> 2 : 8 </Outline> </Outlines> </Parallel>"
EXPECTED = (
    "think", None,
    [("Parallel", None, [("Outlines", None, [("Outline", (1,), []), ("Outline", (2,), [])])])],
)  # fmt: skip


@pytest.mark.parametrize("words_only", [True, False])
def test_a_well_formed_block_is_a_tree_without_notes(words_only: bool) -> None:
    markup = of_words(BLOCK) if words_only else of_letters(BLOCK.replace(" :", ":"))
    assert [shape(element) for element in markup.elements] == [EXPECTED]
    assert notes(markup) == []


def test_the_place_of_a_tag_that_is_split_over_tokens_is_its_first_token() -> None:
    text = "ab<Outline>1: c</Outline>"
    markup = of_letters(text)
    assert notes(markup) == [("stray_tag", 2)]
    (outline,) = markup.all("Outline")
    assert outline.open is not None and (outline.open.start, outline.open.stop) == (2, 11)
    assert outline.close is not None and outline.close.stop == len(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 </Outline> 2", [("stray_tag", 1)]),
        ("1 </Outlines>", [("join_without_fork", 1)]),
        ("1 </Parallel>", [("join_without_fork", 1)]),
        ("<Thread> 1 : 2 </Thread>", [("stray_tag", 0)]),
        # An outline outside the list: one note, none for its closing tag.
        ("<Outline> 1 : 2 </Outline>", [("stray_tag", 0)]),
        ("<Parallel> <Outlines> 3 </Outlines> </Parallel>", [("no_children", 3)]),
        ("<Parallel> <Outlines> <Outline> 3 </Outline> </Outlines> </Parallel>", [("missing_index", 2)]),
        (
            "<Parallel> <Outlines> <Outline> 1 : </Outline> <Outline> 1 : </Outline> </Outlines> </Parallel>",
            [("duplicate_index", 6)],
        ),
        # The next outline, or the end of the list, closes one that was left open.
        (
            "<Parallel> <Outlines> <Outline> 1 : <Outline> 2 : </Outlines> </Parallel>",
            [("unclosed_tag", 2), ("unclosed_tag", 5)],
        ),
        # The end of the text closes everything but what may stay open.
        ("1 <Parallel> <Outlines>", [("unclosed_tag", 2), ("unclosed_tag", 1)]),
        # A block inside an outline: the outline, its list and the block around are given up for it.
        (
            "<Parallel> <Outlines> <Outline> 1 : <Parallel> </Parallel>",
            [("unclosed_tag", 2), ("unclosed_tag", 1), ("unclosed_tag", 0)],
        ),
        (
            "</think> <Parallel> <Outlines> <Outline> 1 : </Outline> </Outlines> </Parallel>",
            [("fork_not_allowed", 1)],
        ),
    ],
)
def test_every_slip_is_one_note_with_its_place(text: str, expected: list[tuple[str, int]]) -> None:
    assert notes(of_words(text)) == expected


def test_what_was_open_before_the_text_and_is_not_closed_is_noted_at_its_end() -> None:
    markup = parse(reading(ids("1 2 <eos>"), WordEncoder()), RULES, opened=("think",))
    assert notes(markup) == [("unclosed_tag", 2)]


def test_numbers_are_read_in_every_way_of_writing_them() -> None:
    assert read_index("1:") == ((1,), 2)
    assert read_index(" 1 . 2 : 5") == ((1, 2), 8)
    assert read_index("\n03.14:") == ((3, 14), 7)
    assert all(read_index(text) is None for text in ("", ":", "1", "a1:", "1 2:", "1..2:", "1234567:", "٣:"))


def test_text_behind_the_end_is_seen_and_an_answer_is_none() -> None:
    clean = reading(ids("1 </think> <answer> 5 <eos>"), WordEncoder())
    assert text_behind(clean, "think", ("<answer>",)) == ()
    late = reading(ids("1 </think> 7 <answer> 5 <eos>"), WordEncoder())
    (note,) = text_behind(late, "think", ("<answer>",))
    assert (note.kind, note.position) == (ViolationKind.TEXT_AFTER_END, 2)
    tag = reading(ids("1 </think> <Parallel> <eos>"), WordEncoder())
    assert len(text_behind(tag, "think", ("<answer>",))) == 1
    assert text_behind(reading(ids("1 <eos>"), WordEncoder()), "think", ()) == ()


def test_bare_marks_do_without_text() -> None:
    marks = [Mark(tag=tag, start=place, stop=place + 1) for place, tag in enumerate(("<a>", "<b>", "</a>"))]
    rules = (Rule(name="a", within=("",)), Rule(name="b", within=("a",)))
    markup = parse_marks(marks, rules, end=3)
    assert [shape(element) for element in markup.elements] == [("a", None, [("b", None, [])])]
    assert notes(markup) == [("unclosed_tag", 1)]


ANY = st.lists(st.sampled_from([*IDS.values(), *range(1, 50), 10_000]), max_size=60)


@pytest.mark.medium
@settings(max_examples=1500, deadline=None)
@given(
    output=ANY,
    dialect=st.sampled_from(sorted(DIALECTS)),
    root=st.booleans(),
    may_fork=st.booleans(),
    going_on=st.booleans(),
)
def test_no_ids_make_it_raise_and_every_note_has_a_place_in_them(
    output: list[int], dialect: str, root: bool, may_fork: bool, going_on: bool
) -> None:
    chosen = DIALECTS[dialect]
    protocol = build("outlined_threads", dialect=dialect)
    tags = Tags(protocol.tags_of(protocol.params), WordEncoder())
    call = reading(tuple(output), WordEncoder()).call
    found = tags.read(call)
    opened = chosen.going_on(root=root) if going_on else chosen.base(root=root)
    markup = parse(found, chosen.rules(root=root, may_fork=may_fork), opened=opened, left=opened)
    assert all(note.position is not None and 0 <= note.position <= len(output) for note in markup.notes)
    own = [mark for mark in found.marks if mark.tag.strip("</>") in chosen.elements]
    opens = [element.open for element in markup.walk() if element.open is not None]
    closes = [element.close for element in markup.walk() if element.close is not None]
    assert opens == [mark for mark in own if not mark.tag.startswith("</")]
    assert len(closes) == len({mark.start for mark in closes})
    for element in markup.walk():
        if element.open is not None and element.close is not None:
            assert element.open.stop <= element.close.start


@pytest.mark.medium
@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(st.sampled_from([*TAGS, "1:", " 2 :", "x", "<", "\n", "</Out"]), max_size=40).map("".join)
)
def test_letters_do_not_make_it_raise_either(text: str) -> None:
    markup = of_letters(text)
    assert all(note.position is not None and 0 <= note.position <= len(text) for note in markup.notes)


def test_a_long_text_of_misplaced_tags_takes_no_longer_than_it_is() -> None:
    child = WEAVER.rules(root=False, may_fork=False)
    output = ids("<Outline> <Thread> <Parallel> </think>") * 10_000
    began = time.perf_counter()
    parse(reading(output, WordEncoder()), child, opened=("Thread",))
    assert time.perf_counter() - began < 5
