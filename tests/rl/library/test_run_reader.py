"""A run read from Python: what the dataclasses and the Arrow tables say of files that are known."""

import math
from dataclasses import replace
from pathlib import Path

import ledger_lab
import pytest
from run_lab import Made, write_run

from rl import api
from rl.storage.rollout_record import RECORD, write_step
from rl.tracking.metrics import METRICS_FILE

STEP = Made(calls=1, tokens=10, rollout_s=1.0, wait_s=2.0, learner_s=0.75)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two steps whose record has one group: two episodes of 4 + 6 + 9 + 2 tokens, one right."""
    run = write_run(tmp_path, [STEP, STEP])
    record = run / "stages/rl" / RECORD
    for path in record.iterdir():
        path.unlink()
    group = ledger_lab.scored(0, (1.0, 0.0))
    named = tuple(replace(each, id=f"0/{number}") for number, each in enumerate(group.episodes))
    write_step(record, 0, [replace(group, episodes=named)], {})
    return run


def test_metrics(run: Path) -> None:
    with (run / METRICS_FILE).open("a") as file:
        file.write('{"stage": "rl", "step": 3, "loss": "nan"}\n')
    first, _, last = api.read(run).metrics("rl")
    assert (first.stage, first.step, first.values["time/learner_s"]) == ("rl", 1, 0.75)
    assert last.step == 3 and math.isnan(last.values["loss"])
    table = api.read(run).metrics_table()
    assert table.column("step").to_pylist() == [1, 2, 3]
    assert table.column("time/learner_s").to_pylist() == [0.75, 0.75, None]
    assert table.to_pandas()["time/publish_s"].sum() == 0.5


def test_episodes(run: Path) -> None:
    right, wrong = api.read(run).episodes()
    assert (right.stage, right.place, right.episode.id) == ("rl", "record/step-000000", "0/0")
    assert (right.reward, right.correct, wrong.reward, wrong.correct) == (1.0, True, 0.0, False)
    assert right.parts == {"correct": 0.9, "format": 0.1}
    (row, _) = api.read(run).episodes_table("rl").to_pylist()
    assert (row["total_tokens"], row["critical_tokens"]) == (21, 4 + 9 + 2)
    assert (row["threads"], row["calls"]) == (2, 4)
    assert row["reward"] == 1.0 and dict(row["parts"]) == {"correct": 0.9, "format": 0.1}


def test_tokens(run: Path) -> None:
    tokens = list(api.read(run).tokens())
    assert len(tokens) == 2 * 21
    assert [token.position for token in tokens[:5]] == [0, 1, 2, 3, 0]
    assert (tokens[4].call, tokens[4].thread, tokens[4].logprob, tokens[4].version) == (1, 1, -1.0, 0)
    frame = api.read(run).tokens_table("rl").to_pandas()
    assert frame.groupby(["episode", "call"])["id"].count().tolist() == [4, 6, 9, 2] * 2
    assert frame["trained"].all()


def test_what_is_not_there_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(api.ConfigError, match="is not a run directory"):
        api.read(tmp_path)
    with pytest.raises(api.ConfigError, match="no such stage"):
        list(api.read(run).episodes("nothing"))
    with pytest.raises(api.ConfigError, match="no episode is recorded by stage sft"):
        api.read(run).tokens_table("sft")
    with pytest.raises(api.ConfigError, match="does not say how to think"):
        (tmp_path / "config.json").write_text("{}")
        api.load(tmp_path)
