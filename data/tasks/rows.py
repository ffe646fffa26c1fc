"""Rows of data files, as they were written.

JSON is read with `json`, so that nothing is converted: nested objects are not padded, whole numbers stay
whole, dates stay text. CSV is all text. Only parquet and arrow, which have types of their own, go through
pyarrow.
"""

import csv
import datetime
import decimal
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data.errors import ConfigError

Row = dict[str, Any]
"""Column -> value: what JSON has, and nothing else."""

TEXT_SUFFIXES = (".jsonl", ".json", ".csv")
"""Formats of text; each may be compressed (.gz)."""
TABLE_SUFFIXES = (".parquet", ".arrow")
SUFFIXES = (*TEXT_SUFFIXES, *TABLE_SUFFIXES)

DEEPEST = 64
"""Deepest nesting of brackets in a row; JSON readers crash on hundreds of thousands."""
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
"""A string, to skip its content, or a bracket."""
_LARGEST_CELL = 2**28
"""Longest cell of a CSV file, in characters; the csv module's own limit is 128 KiB."""


def file_format(path: Path) -> str | None:
    """The suffix that says how a file is read ("train.jsonl.gz" -> ".jsonl"); None when it is unknown."""
    name = path.name.lower()
    inner = name.removesuffix(".gz")
    known = TEXT_SUFFIXES if inner != name else SUFFIXES
    return next((suffix for suffix in known if inner.endswith(suffix)), None)


def read_rows(path: Path, *, deepest: int = DEEPEST) -> list[Row]:
    """All rows of a file, in its order.

    Args:
        path: the file; its suffix says how it is read.
        deepest: levels of brackets that a row of JSON may have.

    Raises:
        ConfigError: naming the file, and the row (counted from 0; blank lines do not count) that causes it.
    """
    kind = file_format(path)
    if kind is None:
        raise ConfigError(
            f"{path}: data files end in {', '.join(SUFFIXES)} (text also in .gz), not {path.suffix!r}"
        )
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; check the path")
    if kind in TABLE_SUFFIXES:
        return plain_rows(_table_rows(path, kind), str(path))
    content = _content(path)
    if kind == ".csv":
        return _csv_rows(path, _text(content, str(path)))
    if kind == ".json" and content.lstrip()[:1] == b"[":
        return _array_rows(path, content, deepest)
    # Many files that end in .json hold one object per line.
    return [_object(line, f"{path}, row {index}", deepest) for index, line in enumerate(_lines(content))]


def plain_rows(rows: Iterable[Row], source: str) -> list[Row]:
    """Rows of a typed table as JSON has them: dates and decimals become text, and columns without a value go.

    Raises:
        ConfigError: naming the source, row and column of a value that has no text (bytes, images, NaN).
    """
    return [
        {
            name: _plain(value, f"{source}, row {index}: {name!r}")
            for name, value in row.items()
            if value is not None
        }
        for index, row in enumerate(rows)
    ]


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(
                f"{where} is {value}, which no text has a number for; correct or remove the row"
            )
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    raise ConfigError(f"{where} holds {type(value).__name__}, which is no text; remove that column")


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); write it again") from error
    return content.removeprefix(b"\xef\xbb\xbf")


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: is not UTF-8 ({error.reason}); convert the file to UTF-8") from error


def _lines(content: bytes) -> Iterator[bytes]:
    """Lines that are not blank, without surrounding space."""
    for line in content.split(b"\n"):
        if stripped := line.strip():
            yield stripped


def _object(line: bytes, where: str, deepest: int) -> Row:
    if line.startswith(b"{") and line.endswith(b"}") and _is_deeper(line, deepest):
        raise ConfigError(f"{where}: nests brackets more than {deepest} deep; flatten the row")
    return _row(_parse(_text(line, where), where), where)


def _array_rows(path: Path, content: bytes, deepest: int) -> list[Row]:
    if _is_deeper(content, deepest + 1):
        raise ConfigError(f"{path}: a row nests brackets more than {deepest} deep; flatten it")
    rows = _parse(_text(content, str(path)), str(path))
    assert isinstance(rows, list), "the caller has seen its bracket"
    return [_row(row, f"{path}, row {index}") for index, row in enumerate(rows)]


def _row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: is not a JSON object; write one object per row")
    return value


def parse_json(text: str, *, deepest: int) -> Any:
    """What a JSON text spells.

    Raises:
        ValueError: it is not JSON, holds NaN, an infinity, half a character or a key twice, or nests deeper
            than `deepest`.
        RecursionError: it opens very many brackets and closes none.
    """
    if _is_deeper(text.encode(errors="replace"), deepest):
        raise ValueError(f"nests brackets more than {deepest} deep")
    return _loads(text)


def _loads(text: str) -> Any:
    value = json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_number)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be encoded
    return value


def _parse(text: str, where: str) -> Any:
    try:
        return _loads(text)
    except UnicodeEncodeError as error:
        raise ConfigError(f"{where}: holds half a character (a lone surrogate); remove it") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: is not JSON ({error}); write one object per row") from error


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return row


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large for a number; write it as text")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number; leave the key out, or write null")


def _is_deeper(content: bytes, limit: int) -> bool:
    """Whether brackets outside strings are nested more than `limit` deep."""
    if content.count(b"[") + content.count(b"{") <= limit:
        return False
    depth = 0
    for match in _BRACKET.finditer(content):
        if match[0] in b"[{":
            depth += 1
            if depth > limit:
                return True
        elif match[0] in b"]}":
            depth -= 1
    return False


def _csv_rows(path: Path, text: str) -> list[Row]:
    csv.field_size_limit(_LARGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    try:
        header = next(reader, [])
        if len(set(header)) < len(header) or not all(header):
            raise ConfigError(f"{path}: its first line must name every column once, found {header!r}")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise ConfigError(
                    f"{path}, row {len(rows)} (line {reader.line_num}): has {len(cells)} cells, but the "
                    f"first line names {len(header)} columns; quote cells that hold commas"
                )
            rows.append(dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise ConfigError(
            f"{path}, row {len(rows)} (line {reader.line_num}): is not CSV ({error})"
        ) from error
    return rows


def _table_rows(path: Path, kind: str) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    if not path.stat().st_size:
        return []
    try:
        table = pyarrow.parquet.ParquetFile(path).read() if kind == ".parquet" else _arrow_table(path)
        return list(table.to_pylist())
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as {kind[1:]} ({error}); write it again") from error


def _arrow_table(path: Path) -> Any:
    """The table of an .arrow file: a stream, as `datasets` writes it, or a file with an index."""
    import pyarrow

    with path.open("rb") as file:
        is_file = file.read(6) == b"ARROW1"
    open_table = pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream
    with pyarrow.memory_map(str(path)) as source, open_table(source) as reader:
        return reader.read_all()
