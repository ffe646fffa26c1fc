"""The run directory: atomic writes, one recipe, one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data.errors import ConfigError
from data.whole_file import write_json
from rl.storage.checksums import write_checksums
from rl.storage.files import read_json, whole_directory
from rl.storage.run_directory import START, RunDirectory


def test_a_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    holder = (
        "import sys, time; from pathlib import Path; from rl.storage.run_directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).alone(): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match="another braid process"), directory.alone():
            pass
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    with directory.alone():
        pass


def test_a_directory_that_was_not_filled_whole_never_appears(tmp_path: Path) -> None:
    final = tmp_path / "step-000001"
    with pytest.raises(RuntimeError, match="killed"), whole_directory(final) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError("killed")
    assert not final.exists()
    with whole_directory(final) as folder:
        (folder / "state.json").write_text("{}")
    assert [path.name for path in final.iterdir()] == ["state.json"]


def test_json_is_replaced_whole_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "done.json"
    write_json(path, {"b": 1, "a": [1.5]})
    assert json.loads(path.read_text()) == read_json(path) == {"a": [1.5], "b": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": [1.5], "b": 1}
    path.write_text('{"a": ')
    with pytest.raises(ConfigError, match=r"done\.json: cannot be read"):
        read_json(path)


def test_a_stage_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stage 'rl' has no final weights"):
        RunDirectory(tmp_path).model("rl")
    with pytest.raises(ConfigError, match="the run has no initial weights"):
        RunDirectory(tmp_path).model(START)


@pytest.mark.parametrize("name", [START, "rl"])
def test_weights_are_used_only_when_every_byte_is_as_it_was_written(tmp_path: Path, name: str) -> None:
    directory = RunDirectory(tmp_path)
    folder = tmp_path / START if name == START else directory.stage(name) / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(ConfigError, match=r"checksums\.json cannot be read"):
        directory.model(name)
    write_checksums(folder)
    assert directory.model(name) == folder
    (folder / "model.safetensors").write_bytes(b"weighty")
    with pytest.raises(ConfigError, match=r"model\.safetensors is not what was written") as refused:
        directory.model(name)
    assert f"remove {folder}" in str(refused.value)


def test_what_was_saved_is_progress(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    before = directory.saved()
    (directory.stage("sft") / "checkpoints" / "step-000010").mkdir(parents=True)
    (directory.stage("rl") / "step-000002").mkdir()
    (directory.stage("rl") / "record").mkdir()
    directory.finish("sft", {})
    assert before == set()
    assert {path.name for path in directory.saved()} == {"step-000010", "step-000002", "done.json"}
