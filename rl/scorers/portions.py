"""Results that are made while others travel.

A message of Ray's stream takes about two milliseconds of its sender, which is half of what a small scorer
takes for an episode. So results are made in a thread of their own, and each message has all that were made
while the last one was on its way.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

Result = TypeVar("Result")
_LOOK_S = 0.1
"""Seconds after which a thread whose results nobody takes looks whether they are still wanted."""


@dataclass(frozen=True, slots=True)
class _End:
    """The last thing in the queue."""

    error: BaseException | None


def portions(results: Iterator[Result], ahead: int) -> Iterator[list[Result]]:
    """An empty list at once, then lists of one or more results, in order, each result as soon as there is
    someone to take it.

    At most `ahead` are made and wait; with 0 the next one is begun when the last one has been taken. What
    `results` raises is raised behind the results before it.
    """
    yield []
    if not ahead:
        for result in results:
            yield [result]
        return
    made: Queue[Result | _End] = Queue(ahead)
    unwanted = Event()
    Thread(target=_make, args=(results, made, unwanted), name="portions", daemon=True).start()
    try:
        while True:
            portion, end = _taken(made)
            if portion:
                yield portion
            if end is not None:
                if end.error is not None:
                    raise end.error
                return
    finally:
        unwanted.set()


def _taken(made: "Queue[Result | _End]") -> tuple[list[Result], _End | None]:
    """All that is there, at least one; and the end, when it is among it."""
    portion: list[Result] = []
    found = made.get()
    with suppress(Empty):
        while not isinstance(found, _End):
            portion.append(found)
            found = made.get_nowait()
        return portion, found
    return portion, None


def _make(results: Iterator[Result], made: "Queue[Result | _End]", unwanted: Event) -> None:
    end = _End(None)
    try:
        for result in results:
            if not _put(made, result, unwanted):
                return
    except BaseException as error:  # handed over: it is raised where the results are taken
        end = _End(error)
    _put(made, end, unwanted)


def _put(made: "Queue[Result | _End]", found: Result | _End, unwanted: Event) -> bool:
    """Whether it is in the queue; not once nobody wants it any more."""
    while not unwanted.is_set():
        try:
            made.put(found, timeout=_LOOK_S)
        except Full:
            continue
        return True
    return False
