"""Episodes as OpenTelemetry spans: episode > thread > call, so that any tracing program draws a waterfall.

    episode                 braid.* attributes: problem, reward, correct, tokens
      thread 0              the root; each thread is a child span of the thread that opened it
        parent              a call, named by its role: gen_ai.* attributes, the sampled text
        thread 1
          child

A call that waited for calls of other threads has links to them (a join). Ids derive from the episode's place,
so an export that is repeated gives the same spans. The record has no clock times: the last episode of a file
ends when the file was written.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import xxhash
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from data.episodes.topology import critical_tokens, total_tokens
from data.episodes.trajectory import Call, EdgeKind, Episode, StopReason, ThreadOutcome
from data.errors import StorageError
from data.whole_file import json_line, whole_file
from rl.episode_export.source import Source
from rl.reporting.contents import Shown

_BATCH = 512
"""Spans that are sent or written at once."""


def write_spans(found: Iterable[Source], out: Path) -> int:
    """Write the spans as OTLP JSON, one export request a line, whole or not at all. -> number of episodes."""
    with whole_file(out) as file:
        total = 0
        for count, batch in _batches(found):
            file.write(json_line(_request(batch)))
            total = count
    return total


def send_spans(found: Iterable[Source], endpoint: str) -> int:
    """Send the spans to an OTLP endpoint (http/protobuf). -> number of episodes.

    Raises StorageError when the endpoint does not take them.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter, total = OTLPSpanExporter(endpoint=endpoint, timeout=10), 0
    for count, batch in _batches(found):
        if exporter.export(batch) is not SpanExportResult.SUCCESS:
            raise StorageError(
                f"{endpoint}: does not take the spans\n"
                "  fix: see that a collector listens there, or write a file"
            )
        total = count
    exporter.shutdown()  # type: ignore[no-untyped-call]
    return total


def _batches(found: Iterable[Source]) -> Iterator[tuple[int, list[ReadableSpan]]]:
    """(episodes so far, spans); an episode is never split."""
    spans: list[ReadableSpan] = []
    count = 0
    for source in found:
        for shown in source.episodes():
            count += 1
            spans += episode_spans(source, shown)
            if len(spans) >= _BATCH:
                yield count, spans
                spans = []
    if spans:
        yield count, spans


def episode_spans(source: Source, shown: Shown) -> list[ReadableSpan]:
    """The spans of one episode, parents before children."""
    return _Spans(source, shown).made()


class _Spans:
    """Makes the spans of one episode."""

    def __init__(self, source: Source, shown: Shown) -> None:
        self._source, self._shown, self._episode = source, shown, shown.episode
        self._key = f"{source.run}/{source.stage}/{source.place}/{shown.episode.id}"
        self._trace = int.from_bytes(xxhash.xxh3_128_digest(self._key.encode()))
        length = max((call.finished_s for call in self._episode.calls), default=0.0)
        self._began = source.written - length
        self._resource = Resource({"service.name": "braid", "braid.run": source.run})
        self._times = _thread_times(self._episode)

    def made(self) -> list[ReadableSpan]:
        """The episode, its threads, its calls."""
        episode = self._episode
        first = min((start for start, _ in self._times), default=0.0)
        last = max((stop for _, stop in self._times), default=0.0)
        spans = [self._span("episode", f"episode {episode.id}", None, (first, last), self._about_episode())]
        for thread in episode.threads:
            parent = "episode" if thread.parent is None else f"thread {thread.parent}"
            failed = thread.outcome is not ThreadOutcome.RETURNED
            about = {
                "braid.thread": thread.index,
                "braid.outcome": thread.outcome.value,
                **({} if thread.limit is None else {"braid.limit": thread.limit.value}),
            }
            name = f"thread {thread.index}"
            spans.append(self._span(name, name, parent, self._times[thread.index], about, failed=failed))
        return [*spans, *(self._call(call) for call in episode.calls)]

    def _call(self, call: Call) -> ReadableSpan:
        episode = self._episode
        about: dict[str, Any] = {
            "gen_ai.operation.name": "text_completion",
            "gen_ai.provider.name": "braid",
            "gen_ai.request.model": f"{self._source.run}/{self._source.stage}",
            "gen_ai.request.seed": call.seed,
            "gen_ai.usage.input_tokens": len(episode.context_ids(call)),
            "gen_ai.usage.output_tokens": len(call.output),
            "gen_ai.response.finish_reasons": (call.stop.value,),
            "braid.cached_tokens": call.cached_tokens,
            "braid.versions": tuple(span.version for span in call.versions),
            "braid.output": self._source.decode(call.output),
        }
        joins = [f"call {edge.call}" for edge in call.after if edge.kind is EdgeKind.JOIN]
        return self._span(
            f"call {call.index}",
            call.role,
            f"thread {call.thread}",
            (call.started_s, call.finished_s),
            about,
            links=joins,
            failed=call.stop is StopReason.ERROR,
        )

    def _about_episode(self) -> dict[str, Any]:
        shown, episode = self._shown, self._episode
        known = {
            "braid.reward": shown.reward,
            "braid.correct": shown.correct,
            "braid.reason": shown.reason or None,
        }
        return {
            "braid.stage": self._source.stage,
            "braid.place": self._source.place,
            "braid.episode": episode.id,
            "braid.problem": episode.problem_id,
            "braid.protocol": episode.protocol,
            "braid.total_tokens": total_tokens(episode),
            "braid.critical_tokens": critical_tokens(episode),
            **{name: value for name, value in known.items() if value is not None},
            **{f"braid.reward.{term}": value for term, value in shown.parts.items()},
        }

    def _span(
        self,
        id: str,
        name: str,
        parent: str | None,
        times: tuple[float, float],
        about: dict[str, Any],
        *,
        links: Sequence[str] = (),
        failed: bool = False,
    ) -> ReadableSpan:
        start, stop = (round((self._began + seconds) * 1e9) for seconds in times)
        return ReadableSpan(
            name=name,
            context=self._context(id),
            parent=None if parent is None else self._context(parent),
            resource=self._resource,
            attributes=about,
            links=[Link(self._context(link)) for link in links],
            status=Status(StatusCode.ERROR if failed else StatusCode.OK),
            start_time=start,
            end_time=stop,
        )

    def _context(self, id: str) -> SpanContext:
        span = int.from_bytes(xxhash.xxh3_64_digest(f"{self._key}/{id}".encode()))
        return SpanContext(self._trace, span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _thread_times(episode: Episode) -> list[tuple[float, float]]:
    """[threads] (start, stop) in seconds since the episode began: from the first call of a thread or of one
    that it opened to the last. A thread that made no call is where its parent opened it.

    Example: a root of calls (0, 3) and (9, 10) whose child has the call (3, 9): ((0, 10), (3, 9)).
    """
    times: list[tuple[float, float] | None] = [None] * len(episode.threads)
    for call in episode.calls:
        times[call.thread] = _hull(times[call.thread], (call.started_s, call.finished_s))
    for thread in reversed(episode.threads):
        at = 0.0 if thread.opened_by is None else episode.calls[thread.opened_by].finished_s
        own = times[thread.index] = times[thread.index] or (at, at)
        if thread.parent is not None:
            times[thread.parent] = _hull(times[thread.parent], own)
    return [each or (0.0, 0.0) for each in times]


def _hull(one: tuple[float, float] | None, other: tuple[float, float]) -> tuple[float, float]:
    return other if one is None else (min(one[0], other[0]), max(one[1], other[1]))


def _request(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """An export request as OTLP's JSON has it: ids in hexadecimal, where protobuf's own JSON has base64."""
    made: dict[str, Any] = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    by_id = {f"{span.context.span_id:016x}": span for span in spans}
    flat = [
        span
        for resource in made["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    # The encoder keeps the order of spans of one resource.
    for span, (span_id, source) in zip(flat, by_id.items(), strict=True):
        span["traceId"], span["spanId"] = f"{source.context.trace_id:032x}", span_id
        if source.parent is not None:
            span["parentSpanId"] = f"{source.parent.span_id:016x}"
        for link, target in zip(span.get("links", ()), source.links, strict=True):
            link["traceId"], link["spanId"] = (
                f"{target.context.trace_id:032x}",
                f"{target.context.span_id:016x}",
            )
    return made
