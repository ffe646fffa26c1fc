"""The episode DAG's invariants, its topology, and its wire format."""

import dataclasses
import gzip
import json
import math
from pathlib import Path

import pytest

from data.episodes.topology import (
    critical_seconds,
    critical_tokens,
    depth,
    parallel_share,
    total_tokens,
    unique_width,
    width,
)
from data.episodes.trajectory import (
    Call,
    Edge,
    EdgeKind,
    Episode,
    Forced,
    Ref,
    StopReason,
    Thread,
    ThreadOutcome,
    VersionSpan,
)
from data.episodes.wire import decode_episode, encode_episode, read_episodes, write_episodes
from data.errors import StorageError, TrajectoryError


def call(
    index: int, thread: int, size: int, after: tuple[tuple[str, int], ...] = (), **changes: object
) -> Call:
    fields: dict[str, object] = {
        "index": index,
        "thread": thread,
        "role": "any",
        "context": (Forced(ids=(100 + index,)),),
        "output": tuple(range(size)),
        "logprobs": (-0.1,) * size,
        "versions": (VersionSpan(version=3, start=0, stop=size),),
        "stop": StopReason.STOP,
        "after": tuple(Edge(kind=EdgeKind(kind), call=other) for kind, other in after),
        "num_trained": size,
        "started_s": 0.0,
        "finished_s": float(size),
    }
    return Call(**{**fields, **changes})  # type: ignore[arg-type]


def thread(index: int, parent: int | None = None, opened_by: int | None = None, depth: int = 0) -> Thread:
    return Thread(
        index=index, parent=parent, key=0, opened_by=opened_by, depth=depth, outcome=ThreadOutcome.RETURNED
    )


def episode(calls: list[Call], threads: list[Thread], **changes: object) -> Episode:
    fields: dict[str, object] = {"id": "0/0", "problem_id": "p", "protocol": "x", "answer": None}
    return Episode(calls=tuple(calls), threads=tuple(threads), **{**fields, **changes})  # type: ignore[arg-type]


def asynchronous() -> Episode:
    """A parent of 5 forks a worker of 20, goes on for 7, joins the worker, says 3; a second worker of 40 is
    not waited for.
    """
    return episode(
        [
            call(0, 0, 5),
            call(1, 1, 20, (("fork", 0),)),
            call(2, 2, 40, (("fork", 0),)),
            call(3, 0, 7, (("next", 0),)),
            call(4, 0, 3, (("next", 3), ("join", 1))),
        ],
        [thread(0), thread(1, 0, 0, 1), thread(2, 0, 0, 1)],
    )


def test_the_critical_path_is_the_longest_and_an_asynchronous_join_takes_the_later_clock() -> None:
    sample = asynchronous()
    # 5 + 20 + 3 over the join, against 5 + 7 + 3 on the parent, against 5 + 40 that nobody waited for.
    assert critical_tokens(sample) == 45
    joined = episode(
        [*sample.calls[:2], call(2, 0, 7, (("next", 0),)), call(3, 0, 3, (("next", 2), ("join", 1)))],
        list(sample.threads[:2]),
    )
    assert critical_tokens(joined) == 5 + 20 + 3
    assert critical_seconds(joined) == 28.0
    assert total_tokens(joined) == 35
    assert parallel_share(joined) == pytest.approx(20 / 35)
    assert (width(joined), depth(joined)) == (1, 1)


def test_unique_width_counts_threads_that_were_told_different_things() -> None:
    told = (Forced(ids=(7,)),)
    sample = episode(
        [
            call(0, 0, 5),
            *(call(i, i, 4, (("fork", 0),), context=told) for i in (1, 2)),
            call(3, 3, 4, (("fork", 0),)),
        ],
        [thread(0), *(thread(i, 0, 0, 1) for i in (1, 2, 3))],
    )
    assert (width(sample), unique_width(sample)) == (3, 2)


def test_references_resolve_to_the_sampled_ids() -> None:
    sample = episode(
        [
            call(0, 0, 5),
            call(1, 0, 2, (("next", 0),), context=(Forced(ids=(9,)), Ref(call=0, start=1, stop=4))),
        ],
        [thread(0)],
        answer=(Ref(call=1, start=0, stop=1), Forced(ids=(8,))),
    )
    assert sample.context_ids(sample.calls[1]) == (9, 1, 2, 3)
    assert sample.answer_ids() == (0, 8)
    assert sample.oldest_version == 3


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"index": 2}, "carries index"),
        ({"thread": 4}, "unknown thread"),
        ({"logprobs": (-0.1,)}, "one log-probability"),
        ({"num_trained": 6}, "trains 6 of 5"),
        ({"versions": (VersionSpan(version=0, start=0, stop=3),)}, "version spans end at 3"),
        ({"versions": (VersionSpan(version=0, start=1, stop=5),)}, "do not tile"),
        ({"context": (Ref(call=0, start=0, stop=1),)}, "not earlier"),
        ({"after": (Edge(kind=EdgeKind.NEXT, call=0),)}, "not earlier"),
    ],
)
def test_a_broken_call_is_refused_by_name(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(TrajectoryError, match=complaint):
        episode([dataclasses.replace(call(0, 0, 5), **changes)], [thread(0)])  # type: ignore[arg-type]


def test_a_reference_past_the_end_of_an_output_is_refused() -> None:
    with pytest.raises(TrajectoryError, match="refers to 2:9 of 5 tokens"):
        episode([call(0, 0, 5)], [thread(0)], answer=(Ref(call=0, start=2, stop=9),))


def test_the_wire_format_gives_every_bit_back(tmp_path: Path) -> None:
    sample = asynchronous()
    odd = dataclasses.replace(
        sample,
        calls=(
            dataclasses.replace(sample.calls[0], logprobs=(-1e-300, -0.1, -1 / 3, -0.0, -5e-324)),
            *sample.calls[1:],
        ),
    )
    assert decode_episode(json.loads(json.dumps(encode_episode(odd)))) == odd
    first, second = tmp_path / "a.gz", tmp_path / "b.gz"
    write_episodes(first, [sample, odd])
    write_episodes(second, [sample, odd])
    assert list(read_episodes(first)) == [sample, odd]
    assert first.read_bytes() == second.read_bytes()


def test_another_wire_version_or_a_damaged_line_is_refused_by_place(tmp_path: Path) -> None:
    row = encode_episode(asynchronous())
    with pytest.raises(TrajectoryError, match="wire version 99"):
        decode_episode({**row, "wire": 99})
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(json.dumps(row).encode() + b'\n{"wire": 1}\n'))
    with pytest.raises(TrajectoryError, match="line 2"):
        list(read_episodes(path))


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_truncated_record_is_refused_with_its_file_and_a_remedy(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "step.jsonl.gz"
    write_episodes(path, [asynchronous()] * 50)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)] if keep else b"no gzip" + content)
    with pytest.raises(StorageError, match=r"step.jsonl.gz: cannot be read beyond line \d+ .*\n  fix: "):
        list(read_episodes(path))


def test_a_line_nested_beyond_reason_is_refused_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "step.jsonl.gz"
    path.write_bytes(gzip.compress(b"[" * 1_000_000))
    with pytest.raises(TrajectoryError, match=r"step.jsonl.gz, line 1: "):
        list(read_episodes(path))


def test_a_number_that_is_not_finite_is_never_recorded(tmp_path: Path) -> None:
    bad = episode([call(0, 0, 5, started_s=math.inf)], [thread(0)])
    with pytest.raises(TrajectoryError, match="not finite"):
        write_episodes(tmp_path / "step.jsonl.gz", [bad])
    assert not list(tmp_path.iterdir())
