"""Text of a pretrained tokenizer, byte for byte: nothing is added, stripped or normalised.

`encode` is a continuation: the ids of a text that follows another. It leaves out what the tokenizer does at
the beginning of a text (a space in front, as SentencePiece writes one) and its Unicode normal form (NFC in
Qwen's), and it never finds structure: a text that spells `<|im_end|>` or a tag is encoded as other text is.
`encode_joined` gives the tokenizer's own ids of a whole text instead, structure included where it is allowed.
"""

import codecs
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from data.errors import ConfigError
from data.text.structure import SPACE, Structure, is_white
from data.text.text_stream import ByteStream
from data.text.token_bytes import TokenBytes


class ExactText:
    """Ids of any text and back."""

    def __init__(self, tokenizer: Any, structure: Structure, name: str) -> None:
        """Wraps a transformers tokenizer. Raises ConfigError for one whose ids do not keep the text."""
        self._tokenizer = tokenizer
        self._structure = structure
        self._name = name
        description: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        self._bytes = TokenBytes(description, tokenizer, name)
        self._middle = PlainTokenizer(description, structure, in_middle=True)
        self._unknown = _unknown_id(description)
        core = tokenizer.backend_tokenizer
        spelled = [core.token_to_id(f"<0x{byte:02X}>") for byte in SPACE.encode()]
        self._space_bytes = None if None in spelled else tuple(int(index) for index in spelled)

    @cached_property
    def _first(self) -> "PlainTokenizer":
        """For text at the beginning; seldom needed, and half a second to make."""
        description = json.loads(self._tokenizer.backend_tokenizer.to_str())
        return PlainTokenizer(description, self._structure, in_middle=False)

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text that continues another. Raises ConfigError for a character without a token."""
        self._require_unicode(text)
        if self._bytes.writes_spaces and SPACE in text:
            return self._with_space_signs(text)
        return tuple(self._text_ids(text, self._middle))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are no UTF-8 are replacement signs."""
        return b"".join(self._bytes[index] for index in ids).decode("utf-8", "replace")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """[T] what each id adds to the text; a character of several ids belongs to the last of them."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        last = len(ids) - 1
        return [decoder.decode(self._bytes[index], position == last) for position, index in enumerate(ids)]

    def stream(self) -> ByteStream:
        """The text of ids that arrive bit by bit."""
        return ByteStream(self._bytes.__getitem__)

    def encode_joined(
        self, text: str, allowed: Sequence[tuple[int, int]], *, continues: bool = False
    ) -> tuple[int, ...]:
        """Ids of a whole text. Structure is matched within the character ranges `allowed` only.

        The tokenizer's own ids where the text spells no structure elsewhere. `continues`: it follows another
        text, so that nothing is done as at the beginning of one.
        """
        self._require_unicode(text)
        matches = self._matches(text, allowed)
        if continues:
            return tuple(self._between(text, matches, continues=True))
        own: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        found = [index for index in own if index in self._structure.texts]
        if found == [index for _, _, index in matches] and (
            self._unknown in self._structure.texts or self._unknown not in own
        ):
            return tuple(own)
        return tuple(self._between(text, matches))

    def _with_space_signs(self, text: str) -> tuple[int, ...]:
        """Ids of a text that has SentencePiece's own sign for a space, which the vocabulary reads as one."""
        if self._space_bytes is None:
            raise self._no_token(SPACE, text)
        ids: list[int] = []
        for number, part in enumerate(text.split(SPACE)):
            ids += [*(self._space_bytes if number else ()), *self._text_ids(part, self._middle)]
        return tuple(ids)

    def _matches(self, text: str, allowed: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
        """(start, stop, id) of the structure in a text."""
        pattern = self._structure.pattern
        if pattern is None:
            return []
        return [
            (match.start(), match.end(), self._structure.ids[match.group()])
            for start, stop in allowed
            for match in pattern.finditer(text, start, stop)
        ]

    def _between(
        self, text: str, matches: Sequence[tuple[int, int, int]], *, continues: bool = False
    ) -> Iterator[int]:
        """Ids of a text, with structure at these places and nowhere else."""
        done = 0
        begins = not continues
        for start, stop, index in matches:
            left, right = self._structure.strips.get(index, (False, False))
            before = text[done:start]
            yield from self._segment(before.rstrip() if left else before, begins=begins)
            yield index
            done, begins = stop, self._first.always_first
            if right:
                done += len(text[stop:]) - len(text[stop:].lstrip())
        yield from self._segment(text[done:], begins=begins)

    def _segment(self, text: str, *, begins: bool) -> list[int]:
        """Ids of text between structure; `begins`: as at the beginning of a text."""
        return self._text_ids(text, self._first if begins else self._middle)

    def _text_ids(self, text: str, plain: "PlainTokenizer") -> list[int]:
        """Ids without structure: where the vocabulary itself spells a structural token as one piece, the text
        is cut within it.
        """
        ids: list[int] = []
        rest = text
        while rest:
            found = plain.encode(rest)
            cut = self._first_cut(rest, found)
            if cut is None:
                return ids + [index for index, _, _ in found]
            head = self._text_ids(rest[:cut], plain) if cut < len(rest) else self._one(rest, text)
            ids += head
            rest, plain = rest[cut:], self._middle
        return ids

    def _first_cut(self, text: str, found: Sequence[tuple[int, int, int]]) -> int | None:
        """Where to cut so that no structure is found; None when there is none. Raises ConfigError for a
        character that has no token.
        """
        for index, start, stop in found:
            spelled = self._structure.texts.get(index)
            if spelled is None and index != self._unknown:
                continue
            if index == self._unknown and text[start:stop] != spelled:
                raise self._no_token(text[start:stop], text)
            return start + 1
        return None

    def _one(self, character: str, text: str) -> list[int]:
        raise ConfigError(
            f"{self._name}: {character!r} is a structural token and cannot be written as text "
            f"(in {text[:80]!r})\n  fix: take it out of the text"
        )

    def _no_token(self, characters: str, text: str) -> ConfigError:
        return ConfigError(
            f"{self._name}: has no token for {characters!r} (in {text[:80]!r})\n"
            "  fix: take it out of the text, or use a model whose tokenizer knows every byte"
        )

    def _require_unicode(self, text: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"{self._name}: a text holds half of a surrogate pair, which is no Unicode ({text[:80]!r})\n"
                "  fix: write the file again as UTF-8"
            ) from error


class PlainTokenizer:
    """A tokenizer without its structural tokens; ids are those of the original."""

    def __init__(self, description: dict[str, Any], structure: Structure, *, in_middle: bool) -> None:
        """`description`: tokenizer.json. `in_middle`: without what happens at the beginning of a text and
        without normalisation.
        """
        added = [token for token in description["added_tokens"] if is_white(str(token["content"]))]
        pre, normalizer = description["pre_tokenizer"], description["normalizer"]
        changed = {
            **description,
            "added_tokens": added,
            "post_processor": None,
            "truncation": None,
            "padding": None,
            "normalizer": _spaces_only(normalizer) if in_middle else normalizer,
            "pre_tokenizer": _without_prefix(pre) if in_middle else pre,
        }
        self.always_first = _prefixes_always(pre) or _prefixes_always(normalizer)
        """Whether the tokenizer treats what follows a structural token as the beginning of a text."""
        self._core = Tokenizer.from_str(json.dumps(changed))
        self._ids = {self._core.token_to_id(token["content"]): int(token["id"]) for token in added}
        self._structural = structure.texts

    def encode(self, text: str) -> list[tuple[int, int, int]]:
        """(id, start, stop) of each token, in characters of the text."""
        encoding = self._core.encode(text, add_special_tokens=False)
        return [
            (self._ids.get(index, index), start, stop)
            for index, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
        ]


def _unknown_id(description: dict[str, Any]) -> int | None:
    """The id that the model writes for what it does not know; None where it knows everything."""
    model = description["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    token = model.get("unk_token")
    index = model["vocab"].get(token) if token is not None and isinstance(model["vocab"], dict) else None
    return int(index) if index is not None else None


def _parts(part: Any) -> list[dict[str, Any]]:
    """The normalisers or pre-tokenisers in a row that a part of tokenizer.json stands for."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    inner = part.get("normalizers") or part.get("pretokenizers") or []
    return [each for one in inner for each in _parts(one)]


def _spaces_only(normalizer: Any) -> Any:
    """A normaliser that writes spaces as the vocabulary has them, and does nothing else."""
    kept = [
        part
        for part in _parts(normalizer)
        if part["type"] == "Replace" and part["pattern"] == {"String": " "} and part["content"] == SPACE
    ]
    return {"type": "Sequence", "normalizers": kept} if kept else None


def _without_prefix(pre_tokenizer: Any) -> Any:
    """A pre-tokeniser that puts no space in front."""
    changed = [
        {
            **part,
            **({"prepend_scheme": "never"} if part["type"] == "Metaspace" else {}),
            **({"add_prefix_space": False} if part["type"] == "ByteLevel" else {}),
        }
        for part in _parts(pre_tokenizer)
    ]
    return {"type": "Sequence", "pretokenizers": changed} if changed else None


def _prefixes_always(part: Any) -> bool:
    """Whether a space is put in front of every text between structural tokens, not of the first alone."""
    return any(
        one["type"] == "Prepend"
        or (one["type"] == "Metaspace" and one["prepend_scheme"] == "always")
        or (one["type"] == "ByteLevel" and one["add_prefix_space"])
        for one in _parts(part)
    )
