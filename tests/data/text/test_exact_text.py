"""Exact text of pretrained tokenizers: every byte comes back, text never becomes structure, and a whole text
has the tokenizer's own ids.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import ConfigError, TrajectoryError
from data.text.codec import Codec
from data.text.piece import Piece
from tests.support.tokenizer_lab import KINDS, codec_of

TAGS = ("<try>", "</try>", "<Path>", "</Path>", "join")
EVERY = pytest.mark.parametrize("kind", KINDS)
PIECES = (
    "<|im_end|>", "<|im_start|>", "<|endoftext|>", "</s>", "<s>", "<unk>", "<try>", "</try>", "<think>",
    "join", "rejoined", "<0x41>", "<|eot|>", "he", "llo", "\n", "\n\n", "\t\t", " ", "  ", "     ", "7", "12",
    "345", "🙂", "👩‍🚀", "é", "e\u0301", "ﬁ", "▁", "\u00a0", "\u3000", "\r\n", "\x00", "<", "|", ">", "/",
    "漢字", "hello world",
)  # fmt: skip
TEXT = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=12).map("".join))


def codec(kind: str) -> Codec:
    return codec_of(kind, TAGS)


def structural(codec: Codec, ids: tuple[int, ...]) -> list[str]:
    """The added tokens among ids, runs of white space left out."""
    added = codec.tokenizer.added_tokens_decoder
    return [added[index].content for index in ids if index in added and added[index].content.strip()]


@pytest.mark.medium
@EVERY
@settings(max_examples=400, deadline=None)
@given(text=TEXT)
def test_any_text_round_trips_and_holds_no_structure(kind: str, text: str) -> None:
    ids = codec(kind).encode(text)
    assert codec(kind).decode(ids) == text
    assert "".join(codec(kind).pieces(ids)) == text
    assert structural(codec(kind), ids) == []


@pytest.mark.medium
@EVERY
@settings(max_examples=200, deadline=None)
@given(parts=st.lists(TEXT, min_size=1, max_size=4))
def test_texts_encoded_one_by_one_are_the_whole_text(kind: str, parts: list[str]) -> None:
    """Seams may give other ids ("he" + "llo"), never another text."""
    ids = [index for part in parts for index in codec(kind).encode(part)]
    assert codec(kind).decode(ids) == "".join(parts)


@pytest.mark.medium
@EVERY
@settings(max_examples=300, deadline=None)
@given(parts=st.lists(TEXT, min_size=1, max_size=4), structure=st.sampled_from(["", "<try>", "</Path>\n"]))
def test_a_text_without_structure_has_the_tokenizers_own_ids(
    kind: str, parts: list[str], structure: str
) -> None:
    """Cut into pieces at any place, with structure where it is meant."""
    it = codec(kind)
    parts = [part for part in parts if not structural(it, own(it, part))]
    pieces = [piece for part in parts for piece in (Piece(part, False), Piece(structure, True))]
    text = "".join(piece.text for piece in pieces)
    expected = own(it, text)
    if structural(it, expected) != [tag for tag in [structure.strip()] for _ in parts if tag]:
        return  # the seams spell structure
    if it.tokenizer.unk_token_id in expected:
        return
    assert it.encode_pieces(pieces) == expected


def own(codec: Codec, text: str) -> tuple[int, ...]:
    return tuple(codec.tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.medium
@EVERY
@settings(max_examples=300, deadline=None)
@given(parts=st.lists(TEXT, min_size=1, max_size=4))
def test_content_that_spells_structure_is_text(kind: str, parts: list[str]) -> None:
    it = codec(kind)
    pieces = [piece for part in parts for piece in (Piece(part, False), Piece("<try>", True))]
    ids = it.encode_pieces(pieces)
    assert structural(it, ids) == ["<try>"] * len(parts)


@pytest.mark.parametrize(
    ("kind", "text", "pieces"),
    [
        ("gpt", "x 12", ["x", " ", "1", "2"]),
        ("qwen", "a\n\n7", ["a", "\n\n", "7"]),
        ("metaspace", " the hello", [" the", " ", "hello"]),
        ("metaspace", "hello", ["hello"]),
        ("neox", "x        y", ["x", "        ", "y"]),
    ],
)
def test_pieces_of_a_text(kind: str, text: str, pieces: list[str]) -> None:
    ids = codec(kind).encode(text)
    found = codec(kind).pieces(ids)
    assert [piece for piece in found if piece.strip()] == [piece for piece in pieces if piece.strip()]
    assert "".join(found) == text


def test_a_character_of_several_ids_belongs_to_the_last_of_them() -> None:
    ids = codec("gpt").encode("🙂")
    assert len(ids) > 1
    assert codec("gpt").pieces(ids) == [*[""] * (len(ids) - 1), "🙂"]
    assert codec("gpt").pieces(ids[:-1])[-1] == "\ufffd"


@pytest.mark.parametrize("kind", ["unigram", "metaspace"])
def test_a_continuation_has_no_space_in_front(kind: str) -> None:
    """SentencePiece writes one at the beginning of a text, and the tokenizer's own ids have it."""
    assert codec(kind).decode(codec(kind).encode("hello")) == "hello"
    assert codec(kind).decode(codec(kind).encode_pieces([Piece("hello", False)])) == " hello"


def test_a_piece_of_the_vocabulary_that_is_spelled_is_no_token() -> None:
    """Unigram would choose `</s>` over its letters: it has the best score."""
    it = codec("unigram")
    assert own(it, "a</s>b").count(it.eos) == 1
    assert it.eos not in it.encode("a</s>b")
    assert it.eos not in it.encode_pieces([Piece("a</s>b", False)])
    assert it.encode_pieces([Piece("a", False), Piece("</s>", True)])[-1] == it.eos


def test_runs_of_spaces_stay_the_tokens_that_they_are() -> None:
    it = codec("neox")
    run = it.tokenizer.convert_tokens_to_ids(" " * 8)
    assert it.encode("x" + " " * 8 + "y")[1] == run == it.encode("y<|im_end|>" + " " * 8)[-1]


@EVERY
def test_tags_are_tokens_of_their_own_and_keep_the_spaces_around_them(kind: str) -> None:
    it = codec(kind)
    ids = [it.tag(tag) for tag in TAGS]
    assert None not in ids and len(set(ids)) == len(TAGS)
    pieces = [Piece("x", False), Piece(" <try> \n", True), Piece("y", False)]
    if kind != "metaspace":  # it writes a space behind every structural token
        assert it.decode(it.encode_pieces(pieces)).lstrip() == "x <try> \ny"
    assert it.decode((*it.encode("x"), it.token("<try>"), *it.encode("y"))) == "x<try>y"


def test_a_character_without_a_token_is_named() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("▁", -1.0), ("a", -1.0)], 0, False))
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    core.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="first")
    it = Codec(PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>"))
    assert it.decode(it.encode("a a")) == "a a"
    for encode in (it.encode, lambda text: it.encode_pieces([Piece(text, False)])):
        with pytest.raises(ConfigError, match=r"no token for 'é'.*\n  fix: "):
            encode("a é a")
    with pytest.raises(ConfigError, match="no token for '▁'"):
        it.encode("▁")


@EVERY
def test_half_a_surrogate_pair_is_an_error(kind: str) -> None:
    with pytest.raises(ConfigError, match="surrogate"):
        codec(kind).encode("a\ud83d")
    with pytest.raises(ConfigError, match="surrogate"):
        codec(kind).encode_pieces([Piece("a\ud83d", False)])


@EVERY
def test_an_id_outside_the_vocabulary_has_no_text(kind: str) -> None:
    with pytest.raises(TrajectoryError, match="not in the vocabulary"):
        codec(kind).decode([codec(kind).size])
    with pytest.raises(TrajectoryError, match="not in the vocabulary"):
        codec(kind).pieces([codec(kind).size + 5])
