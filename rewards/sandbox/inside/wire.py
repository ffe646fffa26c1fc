"""Messages over a file descriptor: four bytes of length, then one encoded value."""

from __future__ import annotations

import os

from rewards.sandbox.inside.values import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_BYTES = 64 * 2**20
"""Longest message that is read, in bytes."""


class Closed(BaseException):
    """The other side is gone, or sends what is no message. A BaseException, so that no test's `except
    Exception` swallows it.
    """


def read_exact(descriptor: int, size: int) -> bytes:
    """Exactly `size` bytes, never more: what follows may be for another process.

    Raises:
        Closed: the other side ended first.
    """
    parts = []
    while size:
        part = os.read(descriptor, min(size, 1 << 20))
        if not part:
            raise Closed("ended")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_bytes(descriptor: int) -> bytes:
    """The next message's bytes.

    Raises:
        Closed: the other side ended, or claims too many bytes.
    """
    size = int.from_bytes(read_exact(descriptor, 4), "big")
    if size > MOST_BYTES:
        raise Closed("a message of too many bytes")
    return read_exact(descriptor, size)


def read_message(descriptor: int) -> Any:
    """The next message: plain values only.

    Raises:
        Closed: the other side ended, or what came is no message.
    """
    try:
        return decode(read_bytes(descriptor))
    except ValueError as error:
        raise Closed(str(error)) from None


def framed(body: bytes) -> bytes:
    """A message of these bytes, as it goes over the line."""
    return len(body).to_bytes(4, "big") + body


def write_all(descriptor: int, data: bytes) -> None:
    """Write `data` until nothing of it is left.

    Raises:
        Closed: the other side is gone.
    """
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except (BrokenPipeError, ConnectionResetError):
        raise Closed("ended") from None


def write_message(descriptor: int, message: object) -> None:
    """Write one message of plain values, whole.

    Raises:
        Closed: the other side is gone.
        ValueError: a value in it is not plain.
    """
    write_all(descriptor, framed(encode(message)))
