import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

import pytest

from data.episodes.topology import critical_tokens, token_clock
from data.episodes.trajectory import (
    Call,
    Edge,
    EdgeKind,
    Episode,
    Forced,
    Ref,
    Span,
    StopReason,
    Thread,
    ThreadOutcome,
    VersionSpan,
    Violation,
    ViolationKind,
)
from rl.drawing.layout import Origin, Piece, blocks, critical_path, lanes, text_columns, wrap
from rl.drawing.svg import render_svg
from rl.drawing.text import render_text

WORDS = (
    "<eos>",
    "<par>",
    "<child>",
    "=>",
    "spawn",
    "|",
    "join",
    "ok",
    "ans",
    "37",
    "10",
    "9",
    "4",
    "2",
    "+",
    "&",
)
SVG = "{http://www.w3.org/2000/svg}"


def ids(text: str) -> tuple[int, ...]:
    return tuple(WORDS.index(word) for word in text.split())


def decode(tokens: Sequence[int]) -> str:
    return " ".join(WORDS[token] for token in tokens)


def call(index: int, thread: int, role: str, text: str, after: tuple[Edge, ...], *context: Span) -> Call:
    output = ids(text)
    return Call(
        index=index,
        thread=thread,
        role=role,
        context=context,
        output=output,
        logprobs=tuple(math.log(0.25) if position == 0 else 0.0 for position in range(len(output))),
        versions=(VersionSpan(version=0, start=0, stop=len(output)),),
        stop=StopReason.STOP,
        after=after,
        num_trained=len(output),
    )


def forced(text: str) -> Forced:
    return Forced(ids=ids(text))


def forked_episode() -> Episode:
    """Root (8 tokens), children of 3 and 6, root again (4): the critical path is 8 + 6 + 4."""
    fork = (Edge(kind=EdgeKind.FORK, call=0),)
    joins = tuple(
        Edge(kind=kind, call=index)
        for kind, index in ((EdgeKind.NEXT, 0), (EdgeKind.JOIN, 1), (EdgeKind.JOIN, 2))
    )
    prompt = forced("<par> 37 10 9 =>")

    def child(index: int, outcome: ThreadOutcome) -> Thread:
        return Thread(index=index, parent=0, key=index - 1, opened_by=0, depth=1, outcome=outcome)

    root = Thread(index=0, parent=None, key=0, opened_by=None, depth=0, outcome=ThreadOutcome.RETURNED)
    return Episode(
        id="7/2",
        problem_id="p",
        protocol="spawn_join",
        calls=(
            call(0, 0, "parent", "spawn 10 9 | 10 & 4 join", (), prompt),
            call(1, 1, "child", "9 4 2", fork, forced("<child>"), Ref(call=0, start=1, stop=3)),
            call(2, 2, "child", "9 4 ok 4 + <eos>", fork, forced("<child>"), Ref(call=0, start=4, stop=7)),
            call(
                3, 0, "parent", "ans 4 + <eos>", joins, prompt, forced("join"), Ref(call=2, start=3, stop=5)
            ),
        ),
        threads=(root, child(1, ThreadOutcome.TRUNCATED), child(2, ThreadOutcome.RETURNED)),
        answer=(Ref(call=3, start=1, stop=3),),
        violations=(Violation(kind=ViolationKind.MALFORMED_CHILD, call=0),),
    )


def test_token_clock_and_critical_path() -> None:
    episode = forked_episode()
    assert token_clock(episode) == ((0, 8), (8, 11), (8, 14), (14, 18))
    assert critical_path(episode) == (0, 2, 3)
    assert critical_tokens(episode) == 18


def test_children_stand_below_their_parent() -> None:
    threads = [(None, 0), (0, 1), (0, 1), (1, 2)]  # parent, depth: 3 is a child of 1
    episode = Episode(
        id="e",
        problem_id="p",
        protocol="any",
        calls=(call(0, 0, "root", "ok", ()),),
        threads=tuple(
            Thread(
                index=index, parent=parent, key=0, opened_by=None, depth=depth, outcome=ThreadOutcome.RETURNED
            )
            for index, (parent, depth) in enumerate(threads)
        ),
        answer=None,
    )
    assert lanes(episode) == [0, 1, 3, 2]


def test_blocks_tell_origin_answer_and_faults() -> None:
    first, cut_off, found, last = blocks(forked_episode(), decode)
    assert [block.critical for block in (first, cut_off, found, last)] == [True, False, True, True]
    assert (first.caption, cut_off.caption) == ("parent · 8 tokens", "child 1 · 3 tokens")
    assert (first.faults, cut_off.faults, found.faults) == ("malformed child", "truncated", "")
    assert [(piece.text, piece.origin.value, piece.thread) for piece in found.pieces[:4]] == [
        ("<child>", "forced", 2),
        ("10", "copied", 0),
        ("&", "copied", 0),
        ("4", "copied", 0),
    ]
    # The prompt that the root's first call had already is not shown again.
    assert [piece.text for piece in last.pieces] == ["…", "join", "4", "+", "ans", "4", "+", "<eos>"]
    assert [piece.text for piece in last.pieces if piece.answer] == ["4", "+"]
    assert first.pieces[5].logprob == math.log(0.25)


def test_word_pieces_keep_their_spaces() -> None:
    pieces = ["go", " on", "ward", " now"]
    episode = Episode(
        id="e",
        problem_id="p",
        protocol="any",
        calls=(
            Call(
                index=0,
                thread=0,
                role="root",
                context=(),
                output=(0, 1, 2, 3),
                logprobs=(),
                versions=(),
                stop=StopReason.LENGTH,
                after=(),
                num_trained=0,
            ),
        ),
        threads=forked_episode().threads[:1],
        answer=None,
    )
    (block,) = blocks(episode, lambda tokens: "".join(pieces[token] for token in tokens))
    assert [(piece.text, piece.gap) for piece in block.pieces] == [
        ("go", False),
        ("on", True),
        ("ward", False),
        ("now", True),
    ]
    lines = wrap(block.pieces, 9)  # "go onward" is nine characters
    assert [[piece.text for piece in line] for line in lines] == [["go", "on", "ward"], ["now"]]


def test_wrap_gives_a_long_word_its_own_line() -> None:
    words = [
        Piece(text=text, gap=True, origin=Origin.FORCED, thread=0) for text in ("a", "bbbbbbb", "c", "d")
    ]
    assert [[piece.text for piece in line] for line in wrap(words, 3)] == [["a"], ["bbbbbbb"], ["c", "d"]]


def test_svg_shows_every_call_and_edge() -> None:
    text = render_svg(forked_episode(), decode)
    assert render_svg(forked_episode(), decode) == text
    root = ElementTree.fromstring(text)  # well-formed: "&" and "<eos>" are escaped
    words = " ".join(span.text or "" for span in root.iter(f"{SVG}tspan"))
    for expected in ("<par> 37 10 9 =>", "<child>", "10 & 4", "<eos>", "truncated"):
        assert expected in words
    # Five edges: two forks, two joins, and the root that waits (dashed).
    paths = list(root.iter(f"{SVG}path"))
    assert len(paths) == 5
    assert [path.get("stroke-dasharray") for path in paths].count("3 4") == 1
    assert [path.get("stroke") for path in paths].count("#222222") == 2  # fork to and join from child 2
    answers = [span.text for span in root.iter(f"{SVG}tspan") if span.get("class") == "braid-answer"]
    assert answers == ["4 +", "answer"]  # the second is the legend's
    boxes = [box for box in root.iter(f"{SVG}rect") if box.get("rx") == "4"]
    assert len(boxes) == 4


def test_svg_boxes_do_not_overlap_and_fit() -> None:
    root = ElementTree.fromstring(render_svg(forked_episode(), decode))
    corners = []
    for box in root.iter(f"{SVG}rect"):
        if box.get("rx") == "4":
            x, y, w, h = (float(box.get(name) or "nan") for name in ("x", "y", "width", "height"))
            corners.append((x, y, x + w, y + h))
    width, height = float(root.get("width") or "nan"), float(root.get("height") or "nan")
    for place, (left, top, right, bottom) in enumerate(corners):
        assert left >= 0 and top >= 0 and right <= width and bottom <= height
        for other in corners[place + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_legend_and_captions_are_not_cut_off() -> None:
    root = ElementTree.fromstring(render_svg(forked_episode(), decode, width=200))
    width = float(root.get("width") or "nan")
    last = [text for text in root.iter(f"{SVG}text") if text.get("class") is None][-1]
    words = "".join(last.itertext())
    assert words == "dark outline: critical path"
    assert float(last.get("x") or "nan") + 0.602 * 11 * len(words) <= width
    (first, *_) = [box for box in root.iter(f"{SVG}rect") if box.get("rx") == "4"]
    # A sans font of 10 pixels has no more than 6.2 a character on average.
    assert float(first.get("width") or "nan") >= 6.2 * len("parent · 8 tokens malformed child")


def test_svg_shades_improbable_tokens_only_when_asked() -> None:
    # 0.25 is one of four steps: 0.5 + 0.125 * 1.
    assert 'fill-opacity="0.625">spawn<' in render_svg(forked_episode(), decode)
    assert 'fill-opacity="0.625"' not in render_svg(forked_episode(), decode, shade=False)


@pytest.mark.parametrize("width", [300, 1_000, 4_000])
def test_svg_of_a_long_episode_is_shortened(width: int) -> None:
    long = call(0, 0, "sequential", "9 4 2 " * 2_000 + "<eos>", ())
    episode = Episode(
        id="e",
        problem_id="p",
        protocol="sequential",
        calls=(long,),
        threads=forked_episode().threads[:1],
        answer=None,
    )
    text = render_svg(episode, decode, width=width)
    assert " lines …" in text
    assert len(text) < 60_000
    ElementTree.fromstring(text)


def empty_episode() -> Episode:
    """What a prompt that does not fit the model leaves behind."""
    root = Thread(index=0, parent=None, key=0, opened_by=None, depth=0, outcome=ThreadOutcome.TRUNCATED)
    return Episode(id="e", problem_id="p", protocol="any", calls=(), threads=(root,), answer=None)


def test_an_episode_without_calls_is_drawn_with_the_reason() -> None:
    assert critical_path(empty_episode()) == () and blocks(empty_episode(), decode) == []
    text = render_svg(empty_episode(), decode)
    root = ElementTree.fromstring(text)
    assert float(root.get("width") or "nan") == 1_000 and "no call was made" in text
    assert "no call was made: the prompt does not fit the model (truncated)" in render_text(
        empty_episode(), decode
    )


@pytest.mark.parametrize("hostile", ["\x1b[31m", "\x00", "]]>", "\ufffe", "\ud800", "a\nb\x9b", "</text>&"])
def test_no_text_makes_the_picture_invalid_or_reaches_the_terminal(hostile: str) -> None:
    root = ElementTree.fromstring(render_svg(forked_episode(), lambda tokens: hostile * len(tokens)))
    words = "".join(span.text or "" for span in root.iter(f"{SVG}tspan"))
    shown = render_text(forked_episode(), lambda tokens: hostile * len(tokens))
    for text in (words, shown.replace("\n", "")):
        assert text.isprintable()
    assert "\\x1b[31m" in shown or "\x1b" not in hostile


def test_pictures_can_share_a_page() -> None:
    text = render_svg(forked_episode(), decode)
    root = ElementTree.fromstring(text)
    classes = {name for item in root.iter() for name in (item.get("class") or "").split()}
    assert classes and all(name.startswith("braid-") for name in classes)
    assert not any(item.get("id") for item in root.iter())
    style = root.find(f"{SVG}style")
    assert style is not None and style.text is not None
    assert all(rule.startswith(".braid-") for rule in style.text.split("}") if rule)


def test_wide_characters_take_two_columns() -> None:
    assert [text_columns(text) for text in ("ab", "漢字", "e\u0301", "👍")] == [2, 4, 1, 2]


def test_text_view() -> None:
    assert render_text(forked_episode(), decode) == (
        "7/2  spawn_join  21 tokens sampled, 18 on the critical path, 2 threads opened\n"
        "| call 0  parent · 8 tokens  0-8  ! malformed child\n"
        "  [<par> 37 10 9 =>] spawn 10 9 | 10 & 4 join\n"
        "      call 1  child 1 · 3 tokens  8-11  after fork 0  ! truncated\n"
        "      [<child>] (10 9) 9 4 2\n"
        "    | call 2  child 2 · 6 tokens  8-14  after fork 0\n"
        "      [<child>] (10 & 4) 9 4 ok 4 + <eos>\n"
        "| call 3  parent · 4 tokens  14-18  after next 0, join 1, join 2\n"
        "  [… join] (4 +) ans *4 +* <eos>\n"
        "[forced] (copied from another call) sampled *answer*  | on the critical path\n"
    )
