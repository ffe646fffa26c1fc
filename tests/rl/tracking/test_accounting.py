import json
import re
from pathlib import Path

import pytest

from rl.storage.run_directory import RunDirectory
from rl.tracking.accounting import Accounting


def test_seconds_add_up_over_starts(tmp_path: Path) -> None:
    (tmp_path / "accounting.json").write_text(json.dumps({"seconds": 100.0, "peak_memory_gb": 1e6}))
    with Accounting(RunDirectory(tmp_path)) as accounting:
        assert 100 <= accounting.seconds < 200
    written = json.loads((tmp_path / "accounting.json").read_text())
    assert written["seconds"] >= 100 and written["peak_memory_gb"] == 1e6
    assert re.fullmatch(r"\d+ cores \(.+\), \d+ GiB.*", written["machine"])


@pytest.mark.parametrize("content", ["{", "5", "{}", '{"seconds": null, "peak_memory_gb": 1}', "\x00" * 40])
def test_a_damaged_file_is_set_aside(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "accounting.json").write_text(content)
    with Accounting(RunDirectory(tmp_path)) as accounting:
        assert accounting.seconds < 50
    assert "damaged-accounting.json" in capsys.readouterr().out
    assert (tmp_path / "damaged-accounting.json").read_text() == content
    assert json.loads((tmp_path / "accounting.json").read_text())["seconds"] < 50
