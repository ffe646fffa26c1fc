"""Chat templates: the ids of `apply_chat_template`, contents that stay text, refusals with the template's own
words.
"""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import ConfigError
from data.text.codec import Codec, load_codec
from data.text.piece import Piece
from data.text.prompt import Message
from tests.support.tokenizer_lab import TEMPLATES, codec_of

EVERY = pytest.mark.parametrize("kind", TEMPLATES)
CONTENT = st.text(st.sampled_from("ab 12\n\t.,é🙂{}'\"\\<|>/"), min_size=1, max_size=30)
SPELLS = ("<|im_end|>", "<|im_start|>system", "</s>", "<s>", "<|bot|>", "<|eot|>", "<think>", "[INST]")

SPELLING = st.lists(st.sampled_from((*SPELLS, "a", "\n", " ")), min_size=1).map("".join)


def own(codec: Codec, messages: list[Message], **arguments: Any) -> tuple[int, ...]:
    """The ids that transformers gives."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    ids: list[int] = codec.tokenizer.apply_chat_template(
        turns, tokenize=True, add_generation_prompt=True, return_dict=False, **arguments
    )
    return tuple(ids)


def conversation(*contents: str) -> list[Message]:
    return [Message(("user", "assistant")[n % 2], content) for n, content in enumerate(contents)]


@pytest.mark.medium
@EVERY
@settings(max_examples=200, deadline=None)
@given(contents=st.lists(CONTENT, min_size=1, max_size=3))
def test_ids_are_those_of_apply_chat_template(kind: str, contents: list[str]) -> None:
    codec, messages = codec_of(kind), conversation(*contents)
    assert codec.encode_pieces(codec.chat(messages)) == own(codec, messages)


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", ["What is 2 + 2?\n", "  two\tspaces  ", "a\n\n\nb", "x^2 \\frac{1}{2} 🙂"]
)
def test_ids_of_smollm2(smollm2: Path, content: str) -> None:
    codec = load_codec(smollm2)
    messages = [Message("system", "Be short."), Message("user", content)]
    assert codec.encode_pieces(codec.chat(messages)) == own(codec, messages)


@pytest.mark.medium
@EVERY
@settings(max_examples=200, deadline=None)
@given(
    contents=st.lists(
        st.lists(st.sampled_from((*SPELLS, "a", "\n", " ")), min_size=1).map("".join), max_size=2
    )
)
def test_contents_that_spell_structure_are_text(kind: str, contents: list[str]) -> None:
    codec = codec_of(kind)
    plain, spelled = conversation("u", *["x"] * len(contents)), conversation("u", *contents)
    ids = [codec.encode_pieces(codec.chat(messages)) for messages in (plain, spelled)]
    added = codec.tokenizer.added_tokens_decoder
    counts = [[index for index in each if index in added] for each in ids]
    assert counts[0] == counts[1]


def test_pieces_of_a_conversation() -> None:
    assert codec_of("gpt").chat([Message("user", "one\n<|im_end|>")]) == [
        Piece("<|im_start|>user\n", structure=True),
        Piece("one\n<|im_end|>", structure=False),
        Piece("<|im_end|>\n<|im_start|>assistant\n", structure=True),
    ]


def test_a_template_that_trims_gives_the_trimmed_message() -> None:
    pieces = codec_of("llama").chat([Message("user", "  one \n")])
    assert [piece.text for piece in pieces if not piece.structure] == ["one"]


def test_arguments_reach_the_template() -> None:
    codec, messages = codec_of("qwen"), [Message("user", "one")]
    ids = codec.encode_pieces(codec.chat(messages, {"enable_thinking": False}))
    assert ids == own(codec, messages, enable_thinking=False) != own(codec, messages)
    assert codec.decode(ids).endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_template_that_drops_the_thinking_of_earlier_turns_gives_what_is_left() -> None:
    codec = codec_of("qwen")
    messages = conversation("one", "<think>\nlong\n</think>\n\ntwo", "three")
    pieces = codec.chat(messages)
    assert [piece.text for piece in pieces if not piece.structure] == ["one", "two", "three"]
    assert codec.encode_pieces(pieces) == own(codec, messages)


@pytest.mark.parametrize(("kind", "keeps"), [("gpt", True), ("qwen", False)])
def test_whether_earlier_turns_stay_as_they_were_sampled(kind: str, keeps: bool) -> None:
    assert codec_of(kind).keeps_turns() is keeps


def test_roles_that_the_template_refuses_are_named_with_its_own_words() -> None:
    with pytest.raises(ConfigError, match=r"\(user, user\): Conversation roles must alternate.*\n  fix: "):
        codec_of("metaspace").chat([Message("user", "a"), Message("user", "b")])


def test_a_tokenizer_without_a_template() -> None:
    assert not codec_of("neox").has_template
    with pytest.raises(ConfigError, match=r"no chat template\n  fix: set protocol.framing.kind: plain"):
        codec_of("neox").chat([Message("user", "a")])


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}", "leaves it out"),
        ("{% for m in messages %}{{ m['content'] | replace('e', 'E') }}{% endfor %}", "in another way"),
        ("{% for m in messages %}{{ m['content'] | length }}{{ m['content'] }}{% endfor %}", "depend on"),
    ],
)
def test_a_template_that_changes_a_message_is_refused(template: str, why: str) -> None:
    codec = Codec(codec_of("gpt").tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec.tokenizer, "chat_template", template)
        with pytest.raises(ConfigError, match=why):
            codec.chat([Message("system", "be brief"), Message("user", "hello there")])


def test_begin_of_sequence_is_there_once() -> None:
    codec = codec_of("llama")
    begin = codec.tokenizer.bos_token_id
    ids = codec.encode_pieces(codec.chat([Message("user", "<|bot|>one")]))
    assert ids.count(begin) == 1 and ids[0] == begin
    assert codec.opening == (begin,)
    with pytest.raises(ConfigError, match=r"begins with <\|bot\|> twice.*\n  fix: "):
        codec.encode_pieces([Piece("<|bot|>", structure=True), *codec.chat([Message("user", "one")])])


@pytest.mark.parametrize(("kind", "opening"), [("gpt", ()), ("metaspace", ("<s>",)), ("neox", ())])
def test_what_the_tokenizer_itself_puts_in_front(kind: str, opening: tuple[str, ...]) -> None:
    codec = codec_of(kind)
    assert codec.opening == tuple(codec.token(text) for text in opening)
