"""One way to write a file: whole or not at all, and never a number that JSON lacks."""

import json
import math
from pathlib import Path

import pytest

from data.whole_file import json_line, whole_file, write_json, write_text


def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with whole_file(path) as file:
        file.write("ü".encode())
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text(encoding="utf-8") == "ü"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_never_written(tmp_path: Path, value: float) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": [value]})
    with pytest.raises(ValueError, match="JSON compliant"):
        json_line({"a": value})
    assert json.loads(path.read_text()) == {"a": 1.0}
