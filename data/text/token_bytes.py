"""The bytes that each id of a pretrained tokenizer stands for."""

import re
from typing import Any

from data.errors import ConfigError, TrajectoryError
from data.text.structure import is_white

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACED = {"Replace", "Metaspace", "ByteFallback", "Fuse", "Strip"}
"""Decoders of SentencePiece's kind. What they strip at the beginning of a text is kept here."""


class TokenBytes:
    """The bytes of each id, read when they are asked for."""

    def __init__(self, description: dict[str, Any], tokenizer: Any, name: str) -> None:
        """`description`: tokenizer.json. Raises ConfigError for a decoder that does not keep the text."""
        self._core = tokenizer.backend_tokenizer
        self._name = name
        self._found: dict[int, bytes] = {}
        self._added = {int(index): str(t.content) for index, t in tokenizer.added_tokens_decoder.items()}
        decoders = _decoders(description["decoder"])
        kinds = {decoder["type"] for decoder in decoders}
        self._letters = _byte_letters() if "ByteLevel" in kinds else None
        self.writes_spaces = self._letters is None
        """Whether a sign of its own stands for a space, as in SentencePiece."""
        self._fallback = "ByteFallback" in kinds
        self._replaced = [pair for decoder in decoders for pair in _replaced(decoder)]
        if self._letters is None and not (kinds and kinds <= _SPACED and self._replaced):
            kind = ", ".join(sorted(kinds - _SPACED)) or "none"
            raise ConfigError(
                f"{name}: its decoder ({kind}) does not keep spaces, so ids cannot stand for exact text\n"
                "  fix: use a model with a byte-level or SentencePiece tokenizer"
            )

    def __getitem__(self, index: int) -> bytes:
        """The bytes of an id. Raises TrajectoryError for one without a token."""
        found = self._found.get(index)
        if found is None:
            token = self._core.id_to_token(index) if index >= 0 else None
            if token is None:
                raise TrajectoryError(f"{self._name}: id {index} is not in the vocabulary")
            found = self._found[index] = self._read(index, token)
        return found

    def _read(self, index: int, token: str) -> bytes:
        content = self._added.get(index)
        if content is not None and not is_white(content):
            return content.encode()
        if self._letters is not None:
            letters = None if content is not None else [self._letters.get(letter) for letter in token]
            if letters is None or None in letters:
                return token.encode()
            return bytes(letter for letter in letters if letter is not None)
        byte = _BYTE.fullmatch(token) if self._fallback else None
        if byte is not None:
            return bytes([int(byte[1], 16)])
        for old, new in self._replaced:
            token = token.replace(old, new)
        return token.encode()


def _decoders(decoder: Any) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    if decoder["type"] != "Sequence":
        return [decoder]
    return [each for one in decoder["decoders"] for each in _decoders(one)]


def _replaced(decoder: dict[str, Any]) -> list[tuple[str, str]]:
    if decoder["type"] == "Metaspace":
        return [(decoder["replacement"], " ")]
    if decoder["type"] == "Replace" and "String" in decoder["pattern"]:
        return [(decoder["pattern"]["String"], decoder["content"])]
    return []


def _byte_letters() -> dict[str, int]:
    """The letter that byte-level tokenizers write for each byte: printable ones are themselves, the others
    are letters from U+0100 on, in order.
    """
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(itself)]
    return {
        **{chr(byte): byte for byte in itself},
        **{chr(256 + number): byte for number, byte in enumerate(others)},
    }
