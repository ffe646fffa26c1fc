"""Chunks of a stream: the OpenAI API's, with the events of threads in the field `braid` of a choice.

The format of these events is in docs/serve.md; a page or a terminal draws threads from them while they run.
"""

import json
from collections.abc import Iterator
from typing import Any

from rl.serving.api_error import ApiError
from rl.serving.reply import (
    answer_logprobs,
    answer_text,
    finish_reason,
    summary,
    text_logprobs,
    thread_name,
    usage,
)
from rl.serving.served import Choice, Delta, Happening, Served
from rollout.thread_events import Begun, Closed, Ended, Joined, Opened, Restarted

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"


def encode(chunk: dict[str, Any]) -> bytes:
    """A chunk as one server-sent event."""
    return f"data: {json.dumps(chunk, separators=(',', ':'), allow_nan=False)}\n\n".encode()


def encode_error(error: ApiError) -> bytes:
    """The event that ends a stream which failed."""
    return encode(error.body)


class Chunks:
    """Builds the chunks of one request."""

    def __init__(self, served: Served, created: int, fingerprint: str) -> None:
        self._served = served
        self._chat = served.asked.endpoint == "chat"
        self._events = served.asked.fields.braid.events
        self._head = {
            "id": served.id,
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "created": created,
            "model": served.model,
            "system_fingerprint": fingerprint,
        }

    def opening(self) -> Iterator[bytes]:
        """The first chunk of every choice."""
        if self._chat:
            for choice in self._served.choices:
                yield self._chunk(choice.index, {"role": "assistant", "content": ""})

    def of(self, index: int, what: Happening) -> bytes | None:
        """The chunk for something that happened to a choice; None when its client does not see it."""
        event = event_fields(what) if self._events else None
        if isinstance(what, Delta) and what.visible:
            return self._chunk(index, {"reasoning_content": what.visible}, text=what.visible, event=event)
        return None if event is None else self._chunk(index, {}, event=event)

    def closing(self) -> Iterator[bytes]:
        """The last chunks: each choice's answer and end."""
        for choice in self._served.choices:
            answer = answer_text(self._served, choice)
            logprobs = None
            if self._chat and self._served.asked.logprobs and choice.episode is not None:
                logprobs = {"content": answer_logprobs(self._served.codec, choice.episode), "refusal": None}
            if self._chat and (answer or logprobs):
                yield self._chunk(choice.index, {"content": answer}, logprobs=logprobs)
            yield self._last(choice)

    def usage(self, prompt_tokens: int) -> bytes:
        """The chunk of `stream_options.include_usage`."""
        return encode({**self._head, "choices": [], "usage": usage(self._served, prompt_tokens)})

    def _last(self, choice: Choice) -> bytes:
        logprobs = None
        if not self._chat and self._served.asked.logprobs and choice.episode is not None:
            logprobs = text_logprobs(self._served.codec, choice.episode)
        fields = self._served.asked.fields.braid
        found = summary(self._served, choice, threads=self._events and fields.threads)
        event = {"event": "episode.ended", **found}
        return self._chunk(choice.index, {}, event=event, finish=finish_reason(choice), logprobs=logprobs)

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        text: str = "",
        event: dict[str, Any] | None = None,
        finish: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        said = {"delta": delta} if self._chat else {"text": text}
        choice = {"index": index, **said, "logprobs": logprobs, "finish_reason": finish}
        if event is not None:
            choice["braid"] = event
        return encode({**self._head, "choices": [choice]})


def event_fields(what: Happening) -> dict[str, Any] | None:
    """The event as docs/serve.md describes it; None for what is told otherwise."""
    event = what.event if isinstance(what, Delta) else what
    found: dict[str, Any] = {"thread": thread_name(event.path), "seconds": round(event.seconds, 6)}
    if isinstance(what, Delta):
        if isinstance(what.event, Restarted):
            return {"event": "call.restarted", **found, "call": what.event.call}
        said = {"text": what.text, "tokens": len(what.event.ids)}
        return {"event": "thread.text", **found, "call": what.event.call, **said}
    if isinstance(event, Opened):
        parent = thread_name(event.path[:-1]) if event.path else None
        return {"event": "thread.opened", **found, "parent": parent}
    if isinstance(event, Begun):
        about = {"call": event.call, "role": event.role, "context_tokens": event.context_tokens}
        return {"event": "call.started", **found, **about}
    if isinstance(event, Ended):
        record = event.record
        return {
            "event": "call.ended",
            **found,
            "call": event.call,
            "role": record.role,
            "stop": record.stop.value,
            "tokens": len(record.output),
            "cached_tokens": record.cached_tokens,
            "critical_tokens": event.critical_tokens,
            "started_s": record.started_s,
            "finished_s": record.finished_s,
        }
    if isinstance(event, Joined):
        return {"event": "thread.joined", **found, "children": [thread_name(path) for path in event.children]}
    if isinstance(event, Closed):
        limit = None if event.limit is None else event.limit.value
        ending = {"outcome": event.outcome.value, "limit": limit, "success": event.success}
        return {"event": "thread.closed", **found, **ending}
    return None
