"""Data files: rows come back as they were written, and a bad row is the one that is named."""

import datetime
import decimal
import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from data.errors import ConfigError
from data.tasks.rows import file_format, read_rows

EXACT = [
    {"id": "a", "when": "2024-05-01", "small": 1e-12, "large": 2**63, "text": "37", "whole": 5, "real": 5.0},
    {"id": "b", "extra": {"x": 1}, "messages": [{"role": "user", "content": "hi"}]},
    {
        "id": "c",
        "extra": {"y": None},
        "messages": [{"role": "user", "content": "hi", "name": "n"}],
        "none": None,
    },
    {"id": "d", "extra": "text", "whole": "5", "when": 20240501, "huge": 10**400, "text": "\u2028 \r é\x85"},
]


@pytest.mark.parametrize(
    ("name", "array"),
    [("p.jsonl", False), ("p.jsonl.gz", False), ("p.json", False), ("p.json", True), ("p.json.gz", True)],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_rows_are_exactly_as_written(tmp_path, name, array, ascii_only):
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in EXACT]
    content = ("[" + ",\n".join(lines) + "]" if array else "\n\n".join(lines)).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    rows = read_rows(tmp_path / name)
    assert rows == EXACT
    assert [repr(row) for row in rows] == [repr(row) for row in EXACT], "5 is not 5.0, and True is not 1"


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"a": 1}')
    assert read_rows(tmp_path / "p.jsonl") == [{"a": 1}]


@pytest.mark.parametrize("name", ["p.csv", "p.csv.gz"])
def test_csv_is_all_text(tmp_path, name):
    content = b'id,question,answer\r\n1,"a ""b"", c\nd",007\r\n\r\n2,,1e-12\r\n'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert read_rows(tmp_path / name) == [
        {"id": "1", "question": 'a "b", c\nd', "answer": "007"},
        {"id": "2", "question": "", "answer": "1e-12"},
    ]


def _write_table(path: Path, table: pyarrow.Table, kind: str) -> None:
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path)
        return
    make = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
    with make(str(path), table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("kind", ["parquet", "stream", "file"])
def test_tables_keep_their_types_and_dates_become_text(tmp_path, kind):
    table = pyarrow.Table.from_pylist(
        [
            {
                "n": 2**62,
                "x": 1e-12,
                "when": datetime.date(2024, 5, 1),
                "d": decimal.Decimal("1.50"),
                "l": [1],
            },
            {"n": None, "x": 0.5, "when": datetime.date(2024, 5, 2), "d": None, "l": []},
        ]
    )
    path = tmp_path / ("p.parquet" if kind == "parquet" else "p.arrow")
    _write_table(path, table, kind)
    assert read_rows(path) == [
        {"n": 2**62, "x": 1e-12, "when": "2024-05-01", "d": "1.50", "l": [1]},
        {"x": 0.5, "when": "2024-05-02", "l": []},
    ]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, float("nan")], "row 1: 'c' is nan"),
        ([None, b"png"], "row 1: 'c' holds bytes, which is no text"),
    ],
)
def test_a_value_without_text_is_named(tmp_path, column, message):
    pyarrow.parquet.write_table(pyarrow.table({"c": column}), tmp_path / "p.parquet")
    with pytest.raises(ConfigError, match=message):
        read_rows(tmp_path / "p.parquet")


GOOD = '{"a": 1}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", GOOD + '\n{"a": NaN}', r"row 1: is not JSON \(NaN is not a number"),
        ("p.jsonl", GOOD + '{"a": -Infinity}', r"row 1: is not JSON \(-Infinity is not a number"),
        ("p.jsonl", GOOD + '{"a": 1e999}', r"row 1: is not JSON \(1e999 is too large"),
        ("p.jsonl", GOOD + '{"a": 1, "a": 2}', r"row 1: is not JSON \(the key 'a' is there twice"),
        ("p.jsonl", GOOD + '{"a": "\\ud800"}', "row 1: holds half a character"),
        ("p.jsonl", GOOD.encode() + b'{"a": "\xff"}', "row 1: is not UTF-8"),
        ("p.jsonl", GOOD + "3", "row 1: is not a JSON object"),
        ("p.jsonl", GOOD + '{"a": 1} {"a": 2}', "row 1: is not JSON"),
        ("p.json", '[{"a": 1}, "b"]', "row 1: is not a JSON object"),
        ("p.json", '[{"a": 1}, {"a"]', "is not JSON"),
        ("p.json", "[" * 1_000_000, "nests brackets more than 64 deep"),
        ("p.json", '{\n "a": 1\n}', "row 0: is not JSON"),
        ("p.csv", "a,b\n1,2\n3\n", r"row 1 \(line 3\): has 1 cells, but the first line names 2 columns"),
        ("p.csv", "a,a\n1,2\n", "must name every column once"),
        ("p.csv", 'a,b\n1,"2\n', "is not CSV"),
        ("p.csv", b"a,b\n1,\xff\n", "is not UTF-8"),
        ("p.jsonl.gz", GOOD, "cannot be read"),
        ("p.jsonl.gz", gzip.compress(GOOD.encode() * 100, mtime=0)[:-9], "cannot be read"),
        ("p.arrow", GOOD, "cannot be read as arrow"),
        ("p.arrow", b"ARROW1\0\0", "cannot be read as arrow"),
        ("p.parquet.gz", GOOD, "data files end in"),
    ],
)
def test_a_bad_file_is_named_with_its_row(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message) as error:
        read_rows(path)
    assert str(path) in str(error.value)


def test_an_empty_file_has_no_rows(tmp_path):
    for name in ("p.jsonl", "p.json", "p.csv", "p.parquet"):
        (tmp_path / name).write_bytes(b"")
        assert read_rows(tmp_path / name) == []


def test_the_format_is_in_the_name():
    names = {
        "a.JSONL": ".jsonl",
        "a.json.gz": ".json",
        "a.arrow": ".arrow",
        "a.arrow.gz": None,
        "jsonl": None,
    }
    assert {name: file_format(Path(name)) for name in names} == names
