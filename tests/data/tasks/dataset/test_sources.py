"""Rows through `datasets.load_dataset`: a local folder of its own, and a hub that cannot be reached."""

import pyarrow
import pyarrow.parquet
import pytest
from own_data import gsm8k_rows, write_rows

from data.errors import ConfigError
from data.tasks.dataset.params import Source
from data.tasks.dataset.sources import label, read_source


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def test_a_folder_as_on_the_hub_has_its_splits(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write_rows(folder / "train.jsonl", gsm8k_rows(5))
    write_rows(folder / "test.jsonl", gsm8k_rows(7)[5:])
    source = Source(hub=str(folder))
    assert [placed.row for placed in read_source(source, "train")] == gsm8k_rows(5)
    rows = read_source(source, "test")
    assert [placed.row for placed in rows] == gsm8k_rows(7)[5:]
    assert rows[1].where == f"{folder}, split test, row 1" and label(source, "test") in rows[1].where
    other = Source(hub=str(folder), split="train[:2]")
    assert len(read_source(other, "validation")) == 2


def test_columns_without_a_value_are_absent(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    table = pyarrow.Table.from_pylist([{"prompt": "a", "answer": 1}, {"prompt": "b", "answer": None}])
    pyarrow.parquet.write_table(table, folder / "train.parquet")
    rows = read_source(Source(hub=str(folder)), "train")
    assert [placed.row for placed in rows] == [{"prompt": "a", "answer": 1}, {"prompt": "b"}]


def test_a_split_or_a_folder_that_is_not_there(tmp_path):
    write_rows(tmp_path / "train.jsonl", gsm8k_rows(5))
    with pytest.raises(ConfigError, match=r"split other: datasets.load_dataset cannot(?s:.*)fix: check name"):
        read_source(Source(hub=str(tmp_path), split="other"), "train")
    with pytest.raises(ConfigError, match=r"nowhere, split train: datasets.load_dataset cannot load it"):
        read_source(Source(hub=str(tmp_path / "nowhere")), "train")


def test_a_hub_that_cannot_be_reached(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        ConfigError,
        match=r"someone/set \(main\), split train: (?s:.*network.*)task.params.train={file: ROWS.parquet}",
    ):
        read_source(Source(hub="someone/set", config="main"), "train")
