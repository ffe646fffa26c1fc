"""A checkpoint is used only when every byte of it is as it was written."""

import threading
from pathlib import Path

import pytest

from data.errors import StorageError
from rl.storage.checkpoints import (
    Checkpoint,
    CheckpointWriter,
    checkpoints,
    newest_whole,
    save_final_model,
    write_checkpoint,
)
from rl.storage.checksums import CHECKSUMS, damage
from rl.storage.files import read_json


def checkpoint(folder: Path, step: int, keep: int = 3) -> Checkpoint:
    return Checkpoint(folder=folder, step=step, next_group=step * 4, keep=keep)


def save(folder: Path, step: int) -> None:
    def fill(place: Path) -> None:
        (place / "model.safetensors").write_bytes(bytes([step]) * 1000)
        (place / "optimizer.safetensors").write_bytes(b"moments")

    write_checkpoint(checkpoint(folder, step), fill)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    found = bytearray(path.read_bytes())
    found[500 % len(found)] ^= 1
    path.write_bytes(found)


def test_the_newest_serves_and_the_oldest_go(tmp_path: Path) -> None:
    for step in range(1, 6):
        save(tmp_path, step)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000003", "step-000004", "step-000005"]
    found = newest_whole(tmp_path, lambda kind, what: pytest.fail(what))
    assert found is not None and read_json(found / "state.json") == {"step": 5, "next_group": 20}
    final = save_final_model(found, tmp_path / "model")
    assert [path.name for path in final.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", CHECKSUMS])
@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_one_is_put_aside_and_the_one_before_serves(
    tmp_path: Path, name: str, harm: object
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert callable(harm)
    harm(tmp_path / "step-000002" / name)
    said: list[str] = []
    found = newest_whole(tmp_path, lambda kind, what: said.append(f"{kind}: {what}"))
    assert found == tmp_path / "step-000001"
    if harm is Path.unlink and name == CHECKSUMS:
        # Written last: without it the checkpoint was never finished.
        assert not said
        return
    assert len(said) == 1 and said[0].startswith("checkpoint: ") and "damaged-step-000002" in said[0]
    assert (tmp_path / "damaged-step-000002").is_dir()
    assert newest_whole(tmp_path, lambda kind, what: pytest.fail(what)) == found


def test_without_a_whole_one_the_stage_begins_anew(tmp_path: Path) -> None:
    save(tmp_path, 1)
    truncate(tmp_path / "step-000001" / "model.safetensors")
    said: list[str] = []
    assert newest_whole(tmp_path, lambda kind, what: said.append(what)) is None
    assert len(said) == 1 and "model.safetensors is not what was written" in said[0]


def full(place: Path) -> None:
    (place / "model.safetensors").write_bytes(b"half")
    raise OSError(28, "No space left on device")


def test_a_disk_that_is_full_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(StorageError, match=r"after step 2 could not be written .*No space left"):
        write_checkpoint(checkpoint(tmp_path, 2, keep=1), full)
    found = newest_whole(tmp_path, lambda kind, what: pytest.fail(what))
    assert found == tmp_path / "step-000001" and damage(found) is None
    # Once there is room, the same step is written whole over what had been left of it.
    save(tmp_path, 2)
    assert newest_whole(tmp_path, lambda kind, what: pytest.fail(what)) == tmp_path / "step-000002"


def test_a_checkpoint_in_flight_is_none_until_it_is_complete(tmp_path: Path) -> None:
    writer, half, go = CheckpointWriter(), threading.Event(), threading.Event()

    def slow(place: Path) -> None:
        (place / "model.safetensors").write_bytes(b"weights")
        half.set()
        assert go.wait(20)

    writer.wait()  # nothing to wait for
    writer.start(checkpoint(tmp_path, 1), slow)
    assert half.wait(20) and checkpoints(tmp_path) == []
    go.set()
    writer.wait()
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000001"]
    assert damage(tmp_path / "step-000001") is None


def test_the_next_wait_raises_what_a_write_met(tmp_path: Path) -> None:
    writer = CheckpointWriter()
    writer.start(checkpoint(tmp_path, 1), full)
    with pytest.raises(StorageError, match=r"after step 1 could not be written .*No space left"):
        writer.wait()
    writer.wait()  # it is raised once
    writer.start(checkpoint(tmp_path, 2), lambda place: (place / "model.safetensors").write_bytes(b""))
    writer.wait()
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000002"]


def test_what_a_kill_left_incomplete_can_no_longer_be_completed(tmp_path: Path) -> None:
    """The ledger goes back to the checkpoint that a resume finds: a newer one must not appear after that."""
    save(tmp_path, 1)
    writer, half, go = CheckpointWriter(), threading.Event(), threading.Event()

    def slow(place: Path) -> None:
        half.set()
        assert go.wait(20)

    writer.start(checkpoint(tmp_path, 2), slow)
    assert half.wait(20)
    assert newest_whole(tmp_path, lambda kind, what: pytest.fail(what)) == tmp_path / "step-000001"
    go.set()
    with pytest.raises(StorageError):
        writer.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
