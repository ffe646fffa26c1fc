"""Episodes as versioned JSON, one per line: the format of the rollout record.

A record is plain data and can be read without this package. A reader of another version refuses it. Floats
are written by `repr`, so log-probabilities survive bit for bit.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data.episodes.trajectory import (
    Call,
    Edge,
    EdgeKind,
    Episode,
    Forced,
    Limit,
    Probe,
    Ref,
    Scoring,
    Span,
    StopReason,
    Thread,
    ThreadOutcome,
    VersionSpan,
    Violation,
    ViolationKind,
)
from data.errors import StorageError, TrajectoryError
from data.whole_file import json_line, whole_file

WIRE_VERSION = 2


def _spans_out(spans: tuple[Span, ...]) -> list[list[Any]]:
    return [
        ["forced", list(span.ids)] if isinstance(span, Forced) else ["ref", span.call, span.start, span.stop]
        for span in spans
    ]


def _spans_in(rows: list[list[Any]]) -> tuple[Span, ...]:
    return tuple(
        Forced(ids=tuple(row[1])) if row[0] == "forced" else Ref(call=row[1], start=row[2], stop=row[3])
        for row in rows
    )


def _call_out(call: Call) -> dict[str, Any]:
    return {
        "thread": call.thread,
        "role": call.role,
        "context": _spans_out(call.context),
        "output": list(call.output),
        "logprobs": list(call.logprobs),
        "versions": [[span.version, span.start, span.stop] for span in call.versions],
        "stop": call.stop.value,
        "after": [[edge.kind.value, edge.call] for edge in call.after],
        "trained": call.num_trained,
        "seed": call.seed,
        "cached_tokens": call.cached_tokens,
        "started_s": call.started_s,
        "finished_s": call.finished_s,
    }


def _call_in(index: int, row: dict[str, Any]) -> Call:
    return Call(
        index=index,
        thread=row["thread"],
        role=row["role"],
        context=_spans_in(row["context"]),
        output=tuple(row["output"]),
        logprobs=tuple(row["logprobs"]),
        versions=tuple(VersionSpan(version=v, start=a, stop=b) for v, a, b in row["versions"]),
        stop=StopReason(row["stop"]),
        after=tuple(Edge(kind=EdgeKind(kind), call=call) for kind, call in row["after"]),
        num_trained=row["trained"],
        seed=row["seed"],
        cached_tokens=row["cached_tokens"],
        started_s=row["started_s"],
        finished_s=row["finished_s"],
    )


def _thread_out(thread: Thread) -> list[Any]:
    limit = None if thread.limit is None else thread.limit.value
    return [
        *(thread.parent, thread.key, thread.opened_by, thread.depth),
        *(thread.outcome.value, limit, thread.success),
    ]


def _thread_in(index: int, row: list[Any]) -> Thread:
    parent, key, opened_by, depth, outcome, limit, success = row
    return Thread(
        index=index,
        parent=parent,
        key=key,
        opened_by=opened_by,
        depth=depth,
        outcome=ThreadOutcome(outcome),
        limit=None if limit is None else Limit(limit),
        success=success,
    )


def _scoring_out(scoring: Scoring) -> dict[str, Any]:
    return {
        "thread": scoring.thread,
        "calls": list(scoring.calls),
        "scores": [list(each) for each in scoring.scores],
        "failure": scoring.failure,
        "started_s": scoring.started_s,
        "finished_s": scoring.finished_s,
    }


def _scoring_in(row: dict[str, Any]) -> Scoring:
    scores = tuple(tuple(each) for each in row["scores"])
    return Scoring(**{**row, "calls": tuple(row["calls"]), "scores": scores})


def _probe_out(probe: Probe) -> dict[str, Any]:
    answer = None if probe.answer is None else list(probe.answer)
    return {"of": probe.of, "read": probe.stop, "answer": answer, **_call_out(probe.call)}


def _probe_in(index: int, row: dict[str, Any]) -> Probe:
    answer = None if row["answer"] is None else tuple(row["answer"])
    return Probe(call=_call_in(index, row), of=row["of"], stop=row["read"], answer=answer)


def encode_episode(episode: Episode) -> dict[str, Any]:
    """JSON-ready dict; `decode_episode` inverts it exactly."""
    # Only where there are some, so that the record of every other episode stays as it was.
    scorings = {"scorings": list(map(_scoring_out, episode.scorings))} if episode.scorings else {}
    probes = {"probes": list(map(_probe_out, episode.probes))} if episode.probes else {}
    return {
        "wire": WIRE_VERSION,
        "id": episode.id,
        "problem": episode.problem_id,
        "protocol": episode.protocol,
        "calls": [_call_out(call) for call in episode.calls],
        "threads": [_thread_out(thread) for thread in episode.threads],
        "answer": None if episode.answer is None else _spans_out(episode.answer),
        "violations": [[v.kind.value, v.call, v.position, v.detail] for v in episode.violations],
        **scorings,
        **probes,
    }


def decode_episode(row: dict[str, Any]) -> Episode:
    """Raises TrajectoryError for another wire version, a missing field or a broken invariant."""
    if row.get("wire") != WIRE_VERSION:
        raise TrajectoryError(
            f"episode record has wire version {row.get('wire')!r}; this Braid reads {WIRE_VERSION}"
        )
    try:
        return Episode(
            id=row["id"],
            problem_id=row["problem"],
            protocol=row["protocol"],
            calls=tuple(_call_in(index, call) for index, call in enumerate(row["calls"])),
            threads=tuple(_thread_in(index, thread) for index, thread in enumerate(row["threads"])),
            answer=None if row["answer"] is None else _spans_in(row["answer"]),
            violations=tuple(
                Violation(kind=ViolationKind(kind), call=call, position=position, detail=detail)
                for kind, call, position, detail in row["violations"]
            ),
            scorings=tuple(map(_scoring_in, row.get("scorings", []))),
            probes=tuple(
                _probe_in(index, probe)
                for index, probe in enumerate(row.get("probes", ()), start=len(row["calls"]))
            ),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise TrajectoryError(f"episode record {row.get('id')!r} is damaged: {error!r}") from error


def write_episodes(path: Path, episodes: Iterable[Episode]) -> None:
    """Write gzipped JSON lines, whole or not at all. No timestamp inside: equal episodes give equal files.

    Raises TrajectoryError for a number that is not finite.
    """
    with (
        whole_file(path) as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0, compresslevel=3) as file,
    ):
        for episode in episodes:
            try:
                file.write(json_line(encode_episode(episode)))
            except ValueError as error:
                raise TrajectoryError(
                    f"{path}: episode {episode.id} holds a number that is not finite, so it is not written\n"
                    "  fix: see that the engines' weights are finite; resume from the last checkpoint"
                ) from error


def read_episodes(path: Path) -> Iterator[Episode]:
    """The episodes of a file, in order, read as they are asked for.

    Raises:
        StorageError: the file is truncated, damaged or not gzip.
        TrajectoryError: naming file and line, a record that is no episode of this version.
    """
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                yield _decode_line(path, number, line)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise StorageError(
            f"{path}: cannot be read beyond line {number} ({error})\n"
            "  fix: restore the file from a copy, or leave out the step (or source) that needs it"
        ) from error


def _decode_line(path: Path, number: int, line: str) -> Episode:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise TrajectoryError("is not a JSON object")
        return decode_episode(row)
    except (ValueError, RecursionError) as error:
        raise TrajectoryError(
            f"{path}, line {number}: {error or 'is nested too deeply'}\n"
            "  fix: restore the file from a copy, or leave out the step (or source) that needs it"
        ) from error
