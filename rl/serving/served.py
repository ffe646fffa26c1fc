"""One request while it is served: its episodes, what happens to their threads, and their end."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from data.episodes.trajectory import Episode
from data.errors import EngineError
from data.text.codec import Codec
from rl.serving.asked import Asked
from rollout.give_up import GiveUp
from rollout.host import EpisodeHost
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec
from rollout.thread_events import Ended, Restarted, Said, ThreadEvent, ThreadWatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """New text of a thread."""

    event: Said | Restarted
    text: str
    """What the event adds to the text of its call, without the end of the sequence."""
    visible: str
    """The part of it that the reply's own text gains: the root's, up to a stop text."""


Happening = Delta | ThreadEvent


@dataclass(kw_only=True, slots=True)
class Choice:
    """One episode of a request."""

    index: int
    spec: EpisodeSpec
    watch: ThreadWatch
    give_up: GiveUp
    root: "RootText"
    task: "asyncio.Task[Episode] | None" = None
    episode: Episode | None = None
    """The finished episode; None also when it was given up before it began."""
    first_token_s: float | None = None
    """Seconds from the request to the first sampled token."""


@dataclass(slots=True)
class RootText:
    """The root thread's text as the reply has it: up to the first stop text."""

    stops: tuple[str, ...]
    text: str = ""
    stopped: bool = False
    """Whether a stop text was found: the text ends before it."""
    _pending: str = ""
    """Text that may be the beginning of a stop text."""

    def push(self, text: str, *, last: bool = False) -> str:
        """Add text of the current call. -> what can be shown; `last`: the call has ended."""
        if self.stopped:
            return ""
        pending = self._pending + text
        found = min((at for stop in self.stops if (at := pending.find(stop)) >= 0), default=None)
        if found is not None:
            self.stopped, shown, self._pending = True, pending[:found], ""
        else:
            held = 0 if last else max((_overlap(pending, stop) for stop in self.stops), default=0)
            shown, self._pending = pending[: len(pending) - held], pending[len(pending) - held :]
        self.text += shown
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of a text that a stop text begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


@dataclass(kw_only=True, eq=False)
class Served:
    """All episodes of one request. `async for` gives what happens, then `choices` have the episodes."""

    id: str
    model: str
    asked: Asked
    params: AnyParams
    codec: Codec
    choices: list[Choice] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    """When the request was admitted, by the monotonic clock."""
    given_up: bool = False
    cancelled_at: dict[tuple[int, int], int] = field(default_factory=dict)
    """(choice, call) -> tokens that were known when the client went away."""
    _queue: "asyncio.Queue[tuple[int, Happening] | None]" = field(default_factory=asyncio.Queue)
    _streams: "dict[tuple[int, int], CallText]" = field(default_factory=dict)
    _after_stop: dict[tuple[int, int], int] = field(default_factory=dict)

    def start(self, host: EpisodeHost, specs: Sequence[EpisodeSpec], *, tokens: bool) -> None:
        """Start every episode. `tokens`: happenings hold the tokens of each step."""
        for index, spec in enumerate(specs):
            choice = Choice(
                index=index,
                spec=spec,
                watch=ThreadWatch(lambda event, i=index: self._on_event(i, event), wants_tokens=tokens),  # type: ignore[misc]
                give_up=GiveUp(),
                root=RootText(self.asked.stops),
            )
            self.choices.append(choice)
            choice.task = asyncio.create_task(
                host.run(self.params, spec, watch=choice.watch, give_up=choice.give_up)
            )
            choice.task.add_done_callback(lambda _: self._queue.put_nowait(None))

    async def happenings(self) -> AsyncIterator[tuple[int, Happening]]:
        """(choice, what happened), until all episodes have ended. Raises what an episode raised."""
        running = len(self.choices)
        while running:
            item = await self._queue.get()
            if item is None:
                running -= 1
            else:
                yield item
        await self.finish()

    async def finish(self) -> None:
        """Wait for all episodes. Raises EngineError when one could not be finished."""
        for choice in self.choices:
            assert choice.task is not None
            try:
                choice.episode = await choice.task
            except asyncio.CancelledError:
                if not choice.task.cancelled():
                    raise

    def stop(self) -> None:
        """Cancel all threads of all episodes; what they have sampled still counts."""
        self.given_up = True
        for choice in self.choices:
            self._stop(choice)

    async def abandon(self) -> None:
        """End whatever still runs, at once; only for a server that ends or an engine that is dead."""
        tasks = [choice.task for choice in self.choices if choice.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cancel_steps(self) -> list[int]:
        """Tokens that each call in flight sampled after the request had been given up, for calls whose tokens
        were told step by step.
        """
        return [self._after_stop[key] for key in self.cancelled_at if key in self._after_stop]

    def _stop(self, choice: Choice) -> None:
        if choice.watch.has_begun:
            for call, known in choice.watch.tokens.items():
                self.cancelled_at.setdefault((choice.index, call), known)
            choice.give_up.now()
        elif choice.task is not None:
            choice.task.cancel()

    def _on_event(self, index: int, event: ThreadEvent) -> None:
        choice = self.choices[index]
        if isinstance(event, Said | Restarted):
            if choice.first_token_s is None and isinstance(event, Said):
                choice.first_token_s = time.monotonic() - self.begun
            delta = self._delta(choice, event)
            if delta is not None:
                self._queue.put_nowait((index, delta))
            return
        if isinstance(event, Ended):
            known = self.cancelled_at.get((index, event.call))
            if known is not None and choice.watch.wants_tokens:
                self._after_stop[index, event.call] = len(event.record.output) - known
            text = self._streams.pop((index, event.call), None)
            rest = "" if text is None else text.end()
            shown = choice.root.push(rest, last=True) if event.path == () else ""
            if rest or shown:
                said = Said(path=event.path, seconds=event.seconds, call=event.call, ids=())
                self._queue.put_nowait((index, Delta(event=said, text=rest, visible=shown)))
        self._queue.put_nowait((index, event))

    def _delta(self, choice: Choice, event: Said | Restarted) -> Delta | None:
        key = (choice.index, event.call)
        text = self._streams.get(key)
        if text is None:
            text = self._streams[key] = CallText(self.codec)
        if isinstance(event, Restarted):
            text.restart()
            return Delta(event=event, text="", visible="")
        added = text.push(event.ids)
        shown = choice.root.push(added) if event.path == () else ""
        if choice.root.stopped and not choice.give_up.given:
            self._stop(choice)
        return Delta(event=event, text=added, visible=shown)


class CallText:
    """Text of one call, without the ids that end it. After a restart what was told already is told once."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._stream = codec.stream()
        self._told: list[int] = []
        self._again: list[int] = []
        """Ids that the restarted call is expected to repeat."""

    def push(self, ids: Sequence[int]) -> str:
        """What new ids add to the text that was told. Raises EngineError when a restarted call differs."""
        shown = [index for index in ids if index not in self._codec.ends]
        repeated = 0
        while self._again and repeated < len(shown):
            if self._again.pop(0) != shown[repeated]:
                raise EngineError("the engine was replaced, and the call that was sampled again differs")
            repeated += 1
        new = shown[repeated:]
        self._told += new
        return self._stream.push(new) if new else ""

    def restart(self) -> None:
        """The call begins anew."""
        self._again = [*self._told]

    def end(self) -> str:
        """What the last ids add: the rest of an incomplete character."""
        return self._stream.push((), last=True)
