"""Arrow tables of what a run recorded: what pandas, polars and DuckDB open without a copy."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import pyarrow as pa

from data.episodes.topology import critical_seconds, critical_tokens, depth, total_tokens, width

Column = tuple[pa.DataType, Callable[[Any], Any]]
"""(type, function from a row's dataclass to the value)."""
EPISODES: Mapping[str, Column] = {
    "stage": (pa.string(), attrgetter("stage")),
    "place": (pa.string(), attrgetter("place")),
    "episode": (pa.string(), attrgetter("episode.id")),
    "problem": (pa.string(), attrgetter("episode.problem_id")),
    "protocol": (pa.string(), attrgetter("episode.protocol")),
    "reward": (pa.float64(), attrgetter("reward")),
    "correct": (pa.bool_(), attrgetter("correct")),
    "outcome": (pa.string(), attrgetter("episode.outcome.value")),
    "total_tokens": (pa.int64(), lambda row: total_tokens(row.episode)),
    "critical_tokens": (pa.int64(), lambda row: critical_tokens(row.episode)),
    "critical_seconds": (pa.float64(), lambda row: critical_seconds(row.episode)),
    "threads": (pa.int64(), lambda row: width(row.episode)),
    "depth": (pa.int64(), lambda row: depth(row.episode)),
    "calls": (pa.int64(), lambda row: len(row.episode.calls)),
    "violations": (pa.int64(), lambda row: len(row.episode.violations)),
    "parts": (pa.map_(pa.string(), pa.float64()), lambda row: list(row.parts.items())),
}
"""Columns of a table of `RecordedEpisode`; `threads` counts those beside the root."""
TOKENS: Mapping[str, Column] = {
    "stage": (pa.string(), attrgetter("stage")),
    "place": (pa.string(), attrgetter("place")),
    "episode": (pa.string(), attrgetter("episode")),
    "call": (pa.int32(), attrgetter("call")),
    "thread": (pa.int32(), attrgetter("thread")),
    "role": (pa.string(), attrgetter("role")),
    "position": (pa.int32(), attrgetter("position")),
    "id": (pa.int32(), attrgetter("id")),
    "text": (pa.string(), attrgetter("text")),
    "logprob": (pa.float64(), attrgetter("logprob")),
    "version": (pa.int64(), attrgetter("version")),
    "trained": (pa.bool_(), attrgetter("trained")),
}
"""Columns of a table of `Token`."""
_BATCH = 65_536
"""Rows that are turned into Arrow at once."""


def table(columns: Mapping[str, Column], rows: Iterable[object]) -> pa.Table:
    """The table of rows; with no rows it has its columns all the same."""
    schema = pa.schema([(name, kind) for name, (kind, _) in columns.items()])
    batches: list[pa.RecordBatch] = []
    pending: list[list[Any]] = [[] for _ in columns]
    for row in rows:
        for values, (_, get) in zip(pending, columns.values(), strict=True):
            values.append(get(row))
        if len(pending[0]) == _BATCH:
            batches.append(_batch(pending, schema))
            pending = [[] for _ in columns]
    return pa.Table.from_batches([*batches, _batch(pending, schema)], schema)


def _batch(columns: Sequence[list[Any]], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _metric(name: str, row: tuple[str, int, Mapping[str, float]]) -> float | None:
    return row[2].get(name)


def metrics_table(rows: Sequence[tuple[str, int, Mapping[str, float]]]) -> pa.Table:
    """A row for each (stage, step, metrics), a column for each metric that any of them has, by name."""
    names = sorted({name for _, _, values in rows for name in values})
    columns: dict[str, Column] = {
        "stage": (pa.string(), lambda row: row[0]),
        "step": (pa.int64(), lambda row: row[1]),
        **{name: (pa.float64(), partial(_metric, name)) for name in names},
    }
    return table(columns, rows)
