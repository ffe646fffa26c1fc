import json
from pathlib import Path

import numpy as np
import pytest

from data.errors import ConfigError
from rl.tracking.metrics import MetricsWriter, make_record, read_metrics, strip_time


def steps(run_dir: Path) -> list[tuple[str, int]]:
    return [(record["stage"], record["step"]) for record in read_metrics(run_dir / "metrics.jsonl")]


def test_record_keeps_time_apart() -> None:
    record = make_record(
        "rl",
        4,
        {
            "reward/mean": 0.5, "time/share": 0.1, "wait_s": 3.0, "tokens_per_s": 9, "n": 2,
            "canary/rms": 1e-7,
        },
    )  # fmt: skip
    assert record == {
        "reward/mean": 0.5,
        "canary/rms": 1e-7,
        "n": 2,
        "stage": "rl",
        "step": 4,
        "time": {"time/share": 0.1, "wait_s": 3.0, "tokens_per_s": 9},
    }
    assert strip_time(record) == {"reward/mean": 0.5, "n": 2, "stage": "rl", "step": 4}


def test_lines_are_sorted_and_floats_exact(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, "rl") as writer:
        writer.write(0, {"z": 1 / 3, "a": np.float32(0.1), "count": np.int64(3), "lost": float("nan")})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == (
        '{"a": 0.10000000149011612, "count": 3, "lost": "nan", "stage": "rl", "step": 0, '
        '"z": 0.3333333333333333}\n'
    )
    assert next(read_metrics(tmp_path / "metrics.jsonl"))["z"] == 1 / 3


def test_what_is_known_later_is_part_of_the_same_record(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, "rl") as writer:
        writer.write(0, {})
        writer.add({"validation/accuracy": 0.5})
        writer.write(1, {"loss": 1.0, "step_s": 2.0})
        writer.add({"validation/accuracy": 0.6, "validation_s": 3.0})
        writer.write(2, {"loss": 0.5})
    with MetricsWriter(tmp_path, "rl", resumed_step=1) as writer:
        writer.write(2, {"loss": 0.4})
    assert list(read_metrics(tmp_path / "metrics.jsonl", "rl")) == [
        {"stage": "rl", "step": 0, "validation/accuracy": 0.5},
        {
            "stage": "rl", "step": 1, "loss": 1.0, "validation/accuracy": 0.6,
            "time": {"step_s": 2.0, "validation_s": 3.0},
        },
        {"stage": "rl", "step": 2, "loss": 0.4},
    ]  # fmt: skip


def test_two_equal_runs_differ_in_time_only(tmp_path: Path) -> None:
    for name, seconds in (("one", 1.0), ("two", 2.0)):
        with MetricsWriter(tmp_path / name, "rl") as writer:
            for step in range(3):
                writer.write(step, {"loss": 0.1 * step, "step_s": seconds})
    one, two = (list(read_metrics(tmp_path / name / "metrics.jsonl")) for name in ("one", "two"))
    assert one != two
    assert [strip_time(record) for record in one] == [strip_time(record) for record in two]


def test_resume_drops_what_will_be_made_again(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, "sft") as writer:
        writer.write(0, {"loss": 1.0})
        writer.write(9, {"loss": 0.5})
    with MetricsWriter(tmp_path, "rl") as writer:
        for step in range(5):
            writer.write(step, {"loss": float(step)})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"loss": 5.0, "sta')  # killed within a write
    with MetricsWriter(tmp_path, "rl", resumed_step=2) as writer:
        writer.write(3, {"loss": 30.0})
    assert steps(tmp_path) == [("sft", 0), ("sft", 9), ("rl", 0), ("rl", 1), ("rl", 2), ("rl", 3)]
    assert [record["loss"] for record in read_metrics(path, "rl")] == [0.0, 1.0, 2.0, 30.0]


def test_stage_that_starts_afresh_forgets_its_steps_only(tmp_path: Path) -> None:
    for stage in ("sft", "rl", "rl"):
        with MetricsWriter(tmp_path, stage) as writer:
            writer.write(0, {"loss": 1.0})
    assert steps(tmp_path) == [("sft", 0), ("rl", 0)]


def test_steps_increase(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, "rl", resumed_step=4) as writer:
        with pytest.raises(AssertionError, match="step 4 after step 4"):
            writer.write(4, {})
        writer.write(7, {})


def test_bad_metrics_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        list(read_metrics(tmp_path / "metrics.jsonl"))
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"stage": "rl", "step": 0}) + "\nnot json\n")
    with pytest.raises(ConfigError, match=r"metrics\.jsonl, line 2: not a metrics record"):
        list(read_metrics(tmp_path / "metrics.jsonl"))


@pytest.mark.parametrize(
    "garbage",
    [b"not json", b"\xff\x00", b"5", b"{}", b'{"stage": "rl", "step": "1"}', b'{"stage": 3, "step": 1}', b"",
     b'{"stage": "rl", "step": 1, "time": 2}', b"[" * 100_000],
)  # fmt: skip
def test_a_damaged_line_does_not_keep_a_run_from_going_on(
    garbage: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with MetricsWriter(tmp_path, "rl") as writer:
        for step in range(3):
            writer.write(step, {"loss": float(step)})
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:1], garbage + b"\n", *lines[1:]])
    path.write_bytes(damaged)
    with MetricsWriter(tmp_path, "rl", resumed_step=2) as writer:
        writer.write(3, {"loss": 3.0})
    assert [record["loss"] for record in read_metrics(path)] == [0.0, 1.0, 2.0, 3.0]
    assert "line 2 cannot be read; 3 good lines are kept" in capsys.readouterr().out
    assert (tmp_path / "damaged-metrics.jsonl").read_bytes() == damaged
