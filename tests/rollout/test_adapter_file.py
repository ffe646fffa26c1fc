"""What an engine makes of a published adapter, without an engine."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from data.checksum import ChecksumMemory, file_checksum
from rollout.engines.adapter_file import write_adapter_file
from rollout.engines.tensor_spec import TensorSpec, read_metadata, read_specs
from rollout.engines.weight_file import find_problem, read_weights

EXPECTED = {
    "embed.weight": TensorSpec(shape=(2, 2), dtype="F32"),
    "norm.weight": TensorSpec(shape=(2,), dtype="F32"),
    "up.bias": TensorSpec(shape=(3,), dtype="F32"),
    "up.weight": TensorSpec(shape=(3, 2), dtype="F32"),
}
Tensors = dict[str, torch.Tensor]


def base_tensors() -> Tensors:
    return {
        "embed.weight": torch.eye(2),
        "norm.weight": torch.tensor([1.0, 2.0]),
        "up.bias": torch.tensor([7.0, 8.0, 9.0]),
        "up.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
    }


def adapter() -> Tensors:
    """Rank 1: B A = [[1, -2], [0, 0], [3, -6]]."""
    return {
        "up.lora_A.weight": torch.tensor([[1.0, -2.0]]),
        "up.lora_B.weight": torch.tensor([[1.0], [0.0], [3.0]]),
    }


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The directory of the base model."""
    folder = tmp_path / "base"
    folder.mkdir()
    save_file(base_tensors(), folder / "model.safetensors")
    return folder


def write(base: Path, tensors: Tensors, scaling: float = 0.5) -> Path:
    path = base.parent / "adapter"
    checksum = file_checksum(base / "model.safetensors")
    write_adapter_file(path, tensors, base=base, base_checksum=checksum, scaling=scaling)
    return path


def problem_of(path: Path, serving: str = "F32") -> str | None:
    return find_problem(path, file_checksum(path), EXPECTED, serving)


def test_an_adapter_file_says_what_it_stands_on(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base.parent)
    checksum = file_checksum(base / "model.safetensors")
    write_adapter_file(base / "a", adapter(), base=Path("base"), base_checksum=checksum, scaling=32 / 3)
    assert read_metadata(base / "a") == {
        "format": "braid_adapter",
        "base": str(base),
        "base_checksum": checksum,
        "scaling": "10.666666666666666",
    }
    assert float("10.666666666666666") == 32 / 3


def test_the_sum_by_hand(base: Path) -> None:
    path = write(base, adapter())
    assert problem_of(path) is None
    found = dict(read_weights(path, EXPECTED))
    assert list(found) == list(EXPECTED), "every tensor the engine asked for, in its order"
    assert found.pop("up.weight").tolist() == [[1.5, 1.0], [3.0, 4.0], [6.5, 3.0]]
    expected = base_tensors()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_the_sum_is_made_in_float32(tmp_path: Path) -> None:
    """In bfloat16 tensors 256 + 1 does not exist, and nobody rounds it before the engine does."""
    base = tmp_path / "base"
    base.mkdir()
    weights = base_tensors() | {"up.weight": torch.full((3, 2), 256.0)}
    save_file({name: tensor.bfloat16() for name, tensor in weights.items()}, base / "model.safetensors")
    ones = {"up.lora_A.weight": torch.ones(1, 2), "up.lora_B.weight": torch.ones(3, 1)}
    path = write(base, {name: tensor.bfloat16() for name, tensor in ones.items()}, scaling=1.0)
    assert problem_of(path, "BF16") is None
    found = dict(read_weights(path, EXPECTED))["up.weight"]
    assert found.dtype == torch.float32
    assert found.tolist() == [[257.0, 257.0]] * 3


def test_a_whole_file_is_read_as_before(base: Path) -> None:
    path = base / "model.safetensors"
    assert problem_of(path) is None
    found = dict(read_weights(path, EXPECTED))
    assert all(torch.equal(found[name], tensor) for name, tensor in base_tensors().items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.clear(), "an adapter without a tensor"),
        (lambda t: t.pop("up.lora_B.weight"), "up.lora_B.weight is missing"),
        (lambda t: t.pop("up.lora_A.weight"), "up.lora_A.weight is missing"),
        (lambda t: t.update({"up.weight": torch.ones(3, 2)}), "up.weight adapts no matrix"),
        (lambda t: t.update({"up.bias": torch.ones(3)}), "up.bias adapts no matrix"),
        (lambda t: t.update({"up": torch.ones(1, 2)}), "up adapts no matrix"),
        (lambda t: t.update({"down.lora_A.weight": torch.ones(1, 2)}), "down.lora_A.weight adapts no matrix"),
        (lambda t: t.update({"norm.lora_A.weight": torch.ones(1, 2)}), "norm.lora_A.weight adapts no matrix"),
        (
            lambda t: t.update({"up.lora_B.weight.lora_A.weight": torch.ones(1, 2)}),
            "up.lora_B.weight.lora_A.weight adapts no matrix",
        ),
        (
            lambda t: t.update({"up.lora_A.weight": torch.ones(1, 3)}),
            "up has A (1, 3) and B (3, 1), whose product is not (3, 2)",
        ),
        (lambda t: t.update({"up.lora_A.weight": torch.ones(2, 2)}), "up has A (2, 2) and B (3, 1)"),
        (lambda t: t.update({"up.lora_A.weight": torch.ones(2)}), "up has A (2,) and B (3, 1)"),
        (lambda t: t.update({"up.lora_B.weight": torch.ones(2, 1)}), "up has A (1, 2) and B (2, 1)"),
        (lambda t: t.update({"up.lora_B.weight": torch.ones(1, 3)}), "up has A (1, 2) and B (1, 3)"),
        (
            lambda t: t.update({"up.lora_A.weight": torch.ones(0, 2), "up.lora_B.weight": torch.ones(3, 0)}),
            "up has A (0, 2) and B (3, 0)",
        ),
        (
            lambda t: t.update({"up.lora_A.weight": torch.ones(1, 2, dtype=torch.int32)}),
            "up.lora_A.weight has dtype I32, not F32 or BF16",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(base: Path, change: Callable[[Tensors], None], said: str) -> None:
    tensors = adapter()
    change(tensors)
    assert said in str(problem_of(write(base, tensors)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": None}, "4 parameters are missing"),
        ({"base": None, "scaling": None}, "an adapter whose metadata lack base, scaling"),
        ({"base_checksum": None}, "an adapter whose metadata lack base_checksum"),
        ({"scaling": "two"}, "its scaling is 'two', not a number"),
        ({"scaling": "nan"}, "its scaling is 'nan', not a number"),
        ({"scaling": "inf"}, "its scaling is 'inf', not a number"),
        ({"base": "base"}, "its base 'base' is not an absolute path"),
        ({"base": "/nonexistent"}, "its base cannot be read"),
        ({"base_checksum": "0" * 64}, f"not {'0' * 64}"),
    ],
)
def test_metadata_that_cannot_be_used_are_named(
    base: Path, change: dict[str, str | None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)  # where a relative base would be found
    metadata = read_metadata(write(base, adapter())) | change
    path = base.parent / "changed"
    save_file(adapter(), path, metadata={key: value for key, value in metadata.items() if value is not None})
    assert said in str(problem_of(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("norm.weight"), "1 parameters are missing, the first is norm.weight"),
        (lambda t: t.update(more=torch.ones(1)), "unknown to the model, the first is more"),
        (lambda t: t.update({"up.weight": torch.ones(4, 2)}), "up.weight has shape (4, 2), not (3, 2)"),
        (lambda t: t.update({"up.bias": torch.ones(3).double()}), "up.bias has dtype F64, not F32"),
    ],
)
def test_a_base_that_is_not_the_engines_model_is_refused(
    base: Path, change: Callable[[Tensors], None], said: str
) -> None:
    tensors = base_tensors()
    change(tensors)
    save_file(tensors, base / "model.safetensors")
    found = str(problem_of(write(base, adapter())))
    assert f"in its base {base / 'model.safetensors'}: " in found
    assert said in found


def test_a_base_that_is_no_safetensors_file_is_refused(base: Path) -> None:
    (base / "model.safetensors").write_bytes(b"nothing")
    found = str(problem_of(write(base, adapter())))
    assert f"its base {base / 'model.safetensors'} is not a valid safetensors file" in found


def test_a_changed_or_truncated_adapter_is_refused(base: Path) -> None:
    path = write(base, adapter())
    assert "its checksum is" in str(find_problem(path, "0" * 64, EXPECTED, "F32"))
    path.write_bytes(path.read_bytes()[:-4])
    assert "it is not a valid safetensors file" in str(problem_of(path))


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file was touched long ago."""
    monkeypatch.setattr("data.checksum.time_ns", lambda: time.time_ns() + 10**10)


def test_a_base_that_changed_is_noticed_though_its_checksum_is_remembered(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed in place, of the same size, and its time of change set back: all a careless copy could do."""
    later(monkeypatch)
    file, path, memory = base / "model.safetensors", write(base, adapter()), ChecksumMemory()

    def problem() -> str | None:
        return find_problem(path, file_checksum(path), EXPECTED, "F32", memory)

    assert problem() is None
    before, content = file.stat(), file.read_bytes()
    while file.stat().st_ctime_ns == before.st_ctime_ns:  # until the clock has ticked
        file.write_bytes(content[:-1] + b"\x00")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    )
    assert "the checksum of its base" in str(problem())
    file.write_bytes(content)
    assert problem() is None
    file.unlink()
    assert "its base cannot be read" in str(problem())


@pytest.mark.parametrize(("old", "times"), [(True, 1), (False, 3)])
def test_an_untouched_file_is_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool, times: int
) -> None:
    """But one that was just written is not trusted: it may be written again within the same tick."""
    asked: list[Path] = []

    def counted(path: Path) -> str:
        asked.append(path)
        return file_checksum(path)

    monkeypatch.setattr("data.checksum.file_checksum", counted)
    if old:
        later(monkeypatch)
    memory = ChecksumMemory()
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"braid")
    two.write_bytes(b"plait")
    for _ in range(3):
        assert memory(one) == file_checksum(one)
        assert memory(two) == file_checksum(two)
    assert asked == [one, two] * times


def test_the_file_is_small(base: Path) -> None:
    """A header and the two factors: nothing of the base."""
    path = write(base, adapter())
    assert read_specs(path).keys() == adapter().keys()
    header = int.from_bytes(path.read_bytes()[:8], "little")
    assert json.loads(path.read_bytes()[8 : 8 + header])["__metadata__"]["format"] == "braid_adapter"
    assert path.stat().st_size == 8 + header + (2 + 3) * 4
