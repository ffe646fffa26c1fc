"""The prompt of a problem: its text, and the turns of a conversation that come before it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """Role as the chat template knows it: system, user, assistant, ..."""
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text of a problem as a framing lays it out for a model. All of it is text, never structure: a tag or a
    special token that it spells is not one.
    """

    text: str
    """The problem; for a conversation, its last user turn."""
    history: tuple[Message, ...] = ()
    """Turns before it: the problem's own system prompt, and earlier turns."""
