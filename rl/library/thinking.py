"""A model that thinks: an export on one vLLM engine in this process, without Ray.

The engine runs on an event loop in a thread of its own, so that plain programs and notebooks can call it.
"""

import asyncio
import queue
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from data.episodes.topology import critical_tokens, total_tokens
from data.episodes.trajectory import Episode
from data.errors import ConfigError
from data.text.codec import Codec, load_codec
from data.text.prompt import Prompt
from rl.harness.model_samples import engine_settings
from rl.harness.target import ModelTarget, find_target
from rollout.host import EpisodeHost
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec
from rollout.thread_events import ThreadEvent, ThreadWatch

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Thought:
    """The end of an episode."""

    answer: str | None
    """The answer as the protocol reads it; None when none was given."""
    total_tokens: int
    """Tokens sampled by all threads, cancelled ones included."""
    critical_tokens: int
    """Sampled tokens on the longest path: what a reader waits for."""
    episode: Episode = field(repr=False)
    """Every call with its tokens, log-probabilities and times."""


class Thinker:
    """A loaded model. Use it in a `with`, or call `close`: the engine is a process of its own."""

    def __init__(self, directory: Path | str, *, protocol: AnyParams | None = None) -> None:
        """directory: an export, or a run, whose last stage is taken. protocol: by default the export's own.

        Raises:
            ConfigError: the directory has no model, or no protocol and none is given.
            EngineError: the engine does not start.
        """
        target = find_target(str(directory), checkpoint=None, model=None, max_length=None)
        params = protocol or (target.protocol if isinstance(target, ModelTarget) else None)
        if not isinstance(target, ModelTarget) or params is None:
            raise ConfigError(
                f"{directory}: does not say how to think with it (protocol.json)\n"
                "  fix: name a directory that `braid export` wrote, or give `protocol`"
            )
        self._params: AnyParams = params
        self._codec: Codec = load_codec(target.directory)
        self._numbers = count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="thinker", daemon=True)
        self._thread.start()
        settings = engine_settings(target, seed=0, words_only=self._codec.words_only)
        self._host = EpisodeHost.with_vllm(settings, target.directory)
        try:
            self._wait(self._host.start())
        except BaseException:
            self._end_loop()
            raise

    def think(self, problem: str, *, seed: int = 0, temperature: float = 1.0) -> Thought:
        """Run one episode to its end. `problem`: its text, as the task that the model was trained on has it.

        Raises EngineError when one engine after the other dies.
        """
        *_, thought = self.stream(problem, seed=seed, temperature=temperature)
        assert isinstance(thought, Thought), "it comes last"
        return thought

    def stream(
        self, problem: str, *, seed: int = 0, temperature: float = 1.0
    ) -> Iterator[ThreadEvent | Thought]:
        """What happens to the threads (`rollout.thread_events`), token by token, while it happens; the last
        one is the thought. Whoever leaves early ends all threads.
        """
        events: queue.SimpleQueue[ThreadEvent | Thought | BaseException] = queue.SimpleQueue()
        spec = EpisodeSpec(
            id=f"think{next(self._numbers)}/0",
            prompt=Prompt(problem),
            temperature=temperature,
            seed=str(seed),
        )

        async def work() -> None:
            watch = ThreadWatch(events.put, wants_tokens=True)
            try:
                events.put(self._thought(await self._host.run(self._params, spec, watch=watch)))
            except BaseException as error:  # handed over: it is raised where the events are read
                events.put(error)

        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            while True:
                event = events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, Thought):
                    return
        finally:
            future.cancel()

    def text(self, ids: tuple[int, ...]) -> str:
        """Tokens as text, tags and special tokens included."""
        return "".join(self._codec.pieces(ids))

    def close(self) -> None:
        """End the engine's process."""
        self._wait(self._shut_down())
        self._end_loop()

    def _thought(self, episode: Episode) -> Thought:
        ids = episode.answer_ids()
        return Thought(
            answer=None if ids is None else self.text(ids).strip(),
            total_tokens=total_tokens(episode),
            critical_tokens=critical_tokens(episode),
            episode=episode,
        )

    async def _shut_down(self) -> None:
        """End the host, and with it what runs on the loop: the engine's own tasks too."""
        self._host.shutdown()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
