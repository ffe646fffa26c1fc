"""A piece of a text that is tokenised as a whole."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """Text, and whether special tokens and tags in it are meant."""

    text: str
    structure: bool
    """True: a special token or tag that it spells is one. False: all of it is text."""
