"""Files of better and worse answers in TRL's preference layout, as pairs of a reward model.

    {"prompt": "...", "chosen": "...", "rejected": "...", "margin": 0.5}
    {"chosen": [{"role": "user", "content": ".."}, {"role": "assistant", "content": ".."}], "rejected": [..]}

`prompt` may be left out where both sides hold it; `margin` is optional. Messages are laid out by the
tokenizer's chat template, up to the token that ends the last one, where a hosted scorer looks: TRL 1.16 goes
on to the line break that ChatML writes behind it. A text is followed by the end-of-sequence token, as in TRL;
a special token that it spells stays text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from data.errors import ConfigError
from data.tasks.rows import Row, read_rows
from data.text.codec import Codec
from data.text.piece import Piece
from data.text.prompt import Message
from rl.imitation.recorded_episodes import matching_files
from rl.scorers.pairs import Pair
from rl.scorers.target_rows import JudgedCall

Side = str | tuple[Message, ...]


class _RowError(Exception):
    """What is wrong with a row, and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference:
    """One row: two texts or conversations, prompt included."""

    asked: str
    """What both sides answer: the prompt, or a conversation up to its last message; of texts without a prompt
    the words with which both begin.
    """
    better: Side
    worse: Side
    margin: float | None


def read_preferences(patterns: Sequence[Path]) -> list[tuple[Preference, str]]:
    """All rows, each with its place (file and row). Raises ConfigError for the first that is wrong."""
    found: list[tuple[Preference, str]] = []
    for file in (file for pattern in patterns for file in matching_files(pattern, "file of preferences")):
        for index, row in enumerate(read_rows(file)):
            where = f"{file}, row {index}"
            try:
                found.append((_preference(row), where))
            except _RowError as error:
                raise ConfigError(f"{where}: {error}") from error
    return found


def preference_pairs(
    rows: Sequence[tuple[Preference, str]], codec: Codec, *, margin: float
) -> Iterator[Pair]:
    """The pairs of rows, with `margin` where a row has none of its own. Rows that ask the same are of one
    problem.

    Raises ConfigError, naming the row, for a text that the tokenizer cannot spell or its template refuses.
    """
    for row, where in rows:
        try:
            better, worse = (side_ids(side, codec) for side in (row.better, row.worse))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        problem = xxhash.xxh3_64_hexdigest(row.asked.encode())
        yield Pair(
            better=_call(problem, f"{where}, chosen", better, 1.0),
            worse=_call(problem, f"{where}, rejected", worse, 0.0),
            margin=margin if row.margin is None else row.margin,
        )


def side_ids(side: Side, codec: Codec) -> tuple[int, ...]:
    """Ids of a text or conversation with its end. Raises ConfigError as `Codec.encode` and `Codec.chat`."""
    if isinstance(side, str):
        text = side.removesuffix(str(codec.tokenizer.eos_token))
        return (*codec.opening, *codec.encode_pieces([Piece(text, structure=False)]), codec.eos)
    asked = codec.encode_pieces(codec.chat(side[:-1]))
    return (*asked, *codec.encode(side[-1].content), codec.eos)


def _preference(row: Row) -> Preference:
    missing = [name for name in ("chosen", "rejected") if row.get(name) is None]
    if missing:
        have = ", ".join(sorted(row)) or "no keys"
        raise _RowError(f"has no {' and no '.join(missing)} (it has {have})\n  fix: rename the keys")
    if row.get("tools"):
        raise _RowError("has tools, which are not laid out\n  fix: remove them, or the row")
    margin = row.get("margin")
    if margin is not None and (isinstance(margin, bool) or not isinstance(margin, int | float)):
        raise _RowError(f"margin must be a number, found {margin!r}\n  fix: correct it, or leave it out")
    better, worse = (_side(row, name) for name in ("chosen", "rejected"))
    if type(better) is not type(worse):
        raise _RowError("chosen and rejected must both be texts, or both be messages\n  fix: correct it")
    if better == worse:
        raise _RowError("chosen and rejected are the same\n  fix: remove the row")
    asked = (
        repr(better[:-1]) if isinstance(better, tuple) else row.get("prompt") or _shared(better, str(worse))
    )
    margin = None if margin is None else float(margin)
    return Preference(asked=asked, better=better, worse=worse, margin=margin)


def _side(row: Row, name: str) -> Side:
    prompt, said = row.get("prompt"), row[name]
    if isinstance(said, str) and isinstance(prompt, str | None):
        return (prompt or "") + said
    if not isinstance(said, list) or not isinstance(prompt, list | None):
        raise _RowError(
            f"prompt and {name} must both be texts, or both be lists of messages\n  fix: correct them"
        )
    messages = tuple(_message(item, name) for item in [*(prompt or []), *said])
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise _RowError(
            f"{name} must be a conversation that ends with a message of the role assistant\n"
            "  fix: correct it, or put what comes before the answer into prompt"
        )
    return messages


def _message(item: Any, name: str) -> Message:
    role, content = (item.get("role"), item.get("content")) if isinstance(item, dict) else (None, None)
    if not isinstance(role, str) or not isinstance(content, str):
        raise _RowError(
            f"a message of {name} is no object with a role and a content that are texts\n  fix: correct it"
        )
    return Message(role, content)


def _shared(one: str, other: str) -> str:
    """The beginning that two texts share, up to its last whole word."""
    size = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    same = one[: min(len(one), len(other)) if size is None else size]
    return same.rpartition(" ")[0]


def _call(problem: str, episode: str, ids: tuple[int, ...], target: float) -> JudgedCall:
    return JudgedCall.of(problem, episode, ids, len(ids) - 1, {0: target})
