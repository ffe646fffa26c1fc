"""Chat templates: rendered by the tokenizer, and cut into the template's own words and the messages."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from data.errors import ConfigError
from data.text.piece import Piece
from data.text.prompt import Message

_MARK = re.compile("\ue000([0-9]+)\ue001")
_SHOWN = 60
"""Most characters of a message in an error."""


def has_template(tokenizer: Any) -> bool:
    """Whether the tokenizer has a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def render_chat(
    tokenizer: Any, name: str, messages: Sequence[Message], arguments: Mapping[str, Any]
) -> list[Piece]:
    """The template over a conversation as pieces; see `Codec.chat`.

    It is rendered twice: as it is, and with a mark for each message. The marks show which words are the
    template's; the first rendering, what it makes of a message (most trim it, some drop its thinking).
    """
    text = _render(tokenizer, name, messages, arguments)
    marked = [
        Message(message.role, f"\ue000{number}\ue001" if message.content.strip() else message.content)
        for number, message in enumerate(messages)
    ]
    parts = _MARK.split(_render(tokenizer, name, marked, arguments))
    words, numbers = parts[0::2], [int(number) for number in parts[1::2]]
    lost = [n for n, message in enumerate(messages) if message.content.strip() and n not in numbers]
    if lost:
        raise _changed(name, messages[lost[0]], "leaves it out")
    pieces = [Piece(words[0], structure=True)]
    at = len(words[0])
    if not text.startswith(words[0]):
        raise _changed(name, messages[numbers[0]], "words around it depend on what it says")
    for place, number in enumerate(numbers):
        follows = words[place + 1]
        content = _found(text, at, messages[number].content, follows, last=place + 1 == len(numbers))
        if content is None:
            raise _changed(name, messages[number], "writes it in another way")
        pieces += [Piece(content, structure=False), Piece(follows, structure=True)]
        at += len(content) + len(follows)
    if at != len(text):
        raise _changed(name, messages[numbers[-1]], "words around it depend on what it says")
    return [piece for piece in pieces if piece.text]


def _found(text: str, at: int, content: str, follows: str, *, last: bool) -> str | None:
    """What the template made of a message: the message, trimmed or a part of it; None for anything else."""
    for candidate in dict.fromkeys((content, content.strip(), content.lstrip(), content.rstrip())):
        end = at + len(candidate)
        fits = text.startswith(candidate, at) and text.startswith(follows, end)
        if fits and (not last or end + len(follows) == len(text)):
            return candidate
    stop = len(text) - len(follows) if last else text.find(follows, at)
    part = text[at:stop] if follows and stop >= at else None
    return part if part is not None and part in content else None


def _render(tokenizer: Any, name: str, messages: Sequence[Message], arguments: Mapping[str, Any]) -> str:
    if not has_template(tokenizer):
        raise ConfigError(
            f"{name}: its tokenizer has no chat template\n"
            "  fix: set protocol.framing.kind: plain, or take the chat (instruct) version of the model"
        )
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text: str = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **arguments
        )
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
        roles = ", ".join(message.role for message in messages)
        raise ConfigError(
            f"{name}: its chat template refuses the conversation ({roles}): {error}\n"
            "  fix: use roles in the order that the template asks for, or another template"
        ) from error
    return text


def _changed(name: str, message: Message, how: str) -> ConfigError:
    shown = message.content if len(message.content) <= _SHOWN else message.content[:_SHOWN] + "..."
    return ConfigError(
        f"{name}: its chat template changes the {message.role} message {shown!r}: {how}\n"
        "  fix: set protocol.framing.template_arguments, or another template"
    )


def prefix_preserving(tokenizer: Any, name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a longer conversation begins with the shorter one: what the assistant said in an earlier turn
    stays as it was sampled, thinking included.

    A protocol that continues earlier turns of the assistant needs such a template; Qwen3's drops thinking.
    """
    asked = Message("user", "One")
    first = _render(tokenizer, name, [asked], arguments)
    for said in ("Two", "<think>\nThree\n</think>\n\nTwo"):
        turns = [asked, Message("assistant", said), Message("user", "Four")]
        if not _render(tokenizer, name, turns, arguments).startswith(first + said):
            return False
    return True
