"""Rows to problems: sources, splits, duplicates, overlap, ids, and what a bad row is told."""

import gzip
import json
from collections import Counter

import pytest
from own_data import gsm8k_rows, write_rows
from pydantic import ValidationError

from data.errors import ConfigError
from data.tasks.dataset.params import DatasetParams
from data.tasks.dataset.task import Dataset
from data.tasks.problem import load_problems, save_problems
from data.tasks.sampler import ProblemSampler
from data.text.prompt import Message, Prompt


def dataset(path, **params):
    return Dataset(DatasetParams.model_validate({"train": {"file": path}, **params}))


def rows_file(folder, *rows, name="train.jsonl"):
    path = folder / name
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def texts(loaded):
    return [placed.problem.fields["prompt"] for placed in loaded.problems]


def test_a_file_of_own_rows_is_recognised(tmp_path):
    task = dataset(write_rows(tmp_path / "mine.jsonl"))
    loaded = task.load()["train"]
    assert str(loaded) == f"200 of 200 rows of {tmp_path / 'mine.jsonl'} (layout gsm8k)"
    first, row = task.problems("train", 200, 0)[0], gsm8k_rows()[0]
    assert task.prompt(first) == Prompt(row["question"])
    assert task.gold(first) == (row["answer"].split("#### ")[1],)
    assert task.fields(first) == row
    assert task.check(first, f" {task.gold(first)[0]} ") and not task.check(first, "x")
    task.validate(first)


def test_the_runs_copy_gives_the_same_problems(tmp_path):
    rows = [
        {
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": f"q{n}"}],
            "answer": answer,
            "extra_info": extra,
            "none": None,
        }
        for n, (answer, extra) in enumerate([(5, {"a": 1}), ("5", {"b": None}), (["5", "five"], [])])
    ]
    task = dataset(rows_file(tmp_path, *rows))
    problems = task.problems("train", 3, 0)
    save_problems(tmp_path / "copy.jsonl", problems)
    assert load_problems(tmp_path / "copy.jsonl", validate=task.validate) == problems
    assert [task.fields(problem) for problem in problems] == rows, "nothing is padded or converted"
    assert [task.gold(problem) for problem in problems] == [("5",), ("5",), ("5", "five")]
    assert task.prompt(problems[2]) == Prompt("q2", (Message("system", "s"),))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", b"prompt,answer\nq,5\n"),
        ("p.json", b'[{"prompt": "q", "answer": 5}]'),
        ("p.jsonl.gz", gzip.compress(b'{"prompt": "q", "answer": "5"}', mtime=0)),
    ],
)
def test_other_formats(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (problem,) = dataset(tmp_path / name).problems("train", 1, 0)
    assert (problem.fields["prompt"], problem.fields["gold"]) == ("q", ["5"])


def test_a_pattern_reads_files_in_order_and_names_rows_in_their_file(tmp_path):
    rows = gsm8k_rows(6)
    write_rows(tmp_path / "part-0.jsonl", rows[:3])
    write_rows(tmp_path / "part-1.jsonl", rows[3:])
    problems = dataset(tmp_path / "part-*.jsonl").problems("train", 6, 0)
    assert [problem.fields["fields"] for problem in problems] == rows
    assert [problem.id for problem in problems] == [f"row-{n}" for n in range(6)]
    write_rows(tmp_path / "part-1.jsonl", [rows[3], {"question": "q"}])
    with pytest.raises(ConfigError, match=r"part-1.jsonl, row 1: has columns 'question', which are not"):
        dataset(tmp_path / "part-*.jsonl").load()
    with pytest.raises(ConfigError, match="no file matches"):
        dataset(tmp_path / "other-*.jsonl").load()


def test_splits_are_by_content_disjoint_and_the_same_in_any_order(tmp_path):
    percents = {"validation_percent": 10, "test_percent": 20}
    rows = gsm8k_rows()
    splits = dataset(write_rows(tmp_path / "a.jsonl", rows), **percents).load()
    other = dataset(write_rows(tmp_path / "b.jsonl", rows[::-1]), **percents).load()
    assert {name: set(texts(part)) for name, part in splits.items()} == {
        name: set(texts(part)) for name, part in other.items()
    }
    sizes = {name: len(part.problems) for name, part in splits.items()}
    assert (
        sum(sizes.values()) == 200 and len({text for part in splits.values() for text in texts(part)}) == 200
    )
    # Binomial: 20 and 40 expected, standard deviations 4.2 and 5.7.
    assert abs(sizes["validation"] - 20) < 17 and abs(sizes["test"] - 40) < 23


DOUBLE = [
    {"prompt": "What is 2 + 2?", "answer": "4"},
    {"prompt": "3?", "answer": "3"},
    {"prompt": "what  is\n2 + 2? ", "answer": "4"},
    {"prompt": "What is 2 + 2?", "answer": "5"},
]


def test_duplicates_are_found_by_normalised_text(tmp_path):
    path = rows_file(tmp_path, *DOUBLE)
    loaded = dataset(path).load()["train"]
    assert texts(loaded) == ["What is 2 + 2?", "3?"]
    assert loaded.dropped == Counter({"duplicates": 1, "duplicates with another answer": 1})
    assert loaded.counts()["dropped"] == {"duplicates": 1, "duplicates with another answer": 1}
    assert "left out: 1 duplicates, 1 duplicates with another answer" in str(loaded)
    assert len(dataset(path, duplicates="keep").load()["train"].problems) == 4
    with pytest.raises(ConfigError, match=r"row 2: its prompt is that of .*row 0\n  fix:.*drop"):
        dataset(path, duplicates="error").load()


def test_overlap_of_splits_is_refused_or_dropped_from_training(tmp_path):
    rows = gsm8k_rows(20)
    train = write_rows(tmp_path / "train.jsonl", rows[:15])
    shouted = [{**row, "question": row["question"].upper()} for row in rows[14:]]
    test = {"file": write_rows(tmp_path / "test.jsonl", shouted)}
    with pytest.raises(ConfigError, match=r"shares 1 problem.*train.jsonl, row 14, .*test.jsonl, row 0"):
        dataset(train, test=test).load()
    splits = dataset(train, test=test, overlap="drop").load()
    assert len(splits["train"].problems) == 14 and len(splits["test"].problems) == 6
    assert splits["train"].dropped == Counter({"rows of a held-out split": 1})


def test_every_problem_comes_once_an_epoch_in_file_order_or_shuffled(tmp_path):
    problems = dataset(write_rows(tmp_path / "a.jsonl", gsm8k_rows(10))).problems("train", 10, 0)
    ids = [problem.id for problem in problems]
    assert ids == [f"row-{n}" for n in range(10)]
    in_order = ProblemSampler(10, 7, shuffled=False)
    assert [problems[in_order.problem_at(position)].id for position in range(20)] == ids * 2
    mixed = [problems[ProblemSampler(10, 7).problem_at(position)].id for position in range(20)]
    assert sorted(mixed[:10]) == sorted(mixed[10:]) == sorted(ids)
    assert mixed[:10] != mixed[10:] != ids


def test_columns_may_be_named(tmp_path):
    rows = [
        {"q": "2?", "meta": {"truth": 2}, "uid": 17},
        {"q": "3?", "meta": '{"truth": ["3", "three"]}', "uid": "x"},
    ]
    columns = {"prompt": "q", "answer": "meta.truth", "id": "uid"}
    task = dataset(rows_file(tmp_path, *rows), columns=columns)
    loaded = task.load()["train"]
    assert loaded.layout == "columns"
    assert [placed.problem.id for placed in loaded.problems] == ["17", "x"]
    assert [task.gold(placed.problem) for placed in loaded.problems] == [("2",), ("3", "three")]
    without = dataset(rows_file(tmp_path, *rows), columns={"prompt": "q"}).load()["train"]
    assert without.problems[0].problem.fields["gold"] == []


GOOD = {"prompt": "q", "answer": "5"}


@pytest.mark.parametrize(
    ("row", "params", "message"),
    [
        ({"prompt": "r"}, {}, r"row 1: has columns 'prompt', which are not those of layout 'trl'"),
        ({"prompt": "r", "answer": None}, {}, r"row 1: has no answer; give one, or remove the row"),
        ({"prompt": "r", "answer": " "}, {}, r"row 1: its answer is empty"),
        ({"prompt": "r", "answer": {"x": 1}}, {}, r"row 1: its answer is an object; name the text in it"),
        ({"prompt": "", "answer": "5"}, {}, r"row 1: 'prompt' is empty"),
        ({"prompt": 5, "answer": "5"}, {}, r"row 1: 'prompt' must be text, found 5"),
        (
            {"prompt": "r", "answer": "5"},
            {"columns": {"answer": "gold"}},
            r"row 0: has no column 'gold', only",
        ),
        ({"prompt": "r", "answer": "5"}, {"columns": {"prompt": "q"}}, r"row 0: has no column 'q', only"),
        ({"prompt": "r", "answer": "5"}, {"columns": {"id": "prompt"}, "duplicates": "keep"}, None),
        ({"prompt": "r", "answer": "5"}, {"columns": {"id": "answer"}}, r"row 1: has the id '5' of .*row 0"),
        (
            {"prompt": "r", "answer": "\x1b[3"},
            {"columns": {"id": "answer"}},
            r"row 1: its id .* cannot be printed",
        ),
        ({"prompt": "r", "answer": "5"}, {"layout": "gsm8k"}, r"row 0: .* not those of layout 'gsm8k'"),
    ],
)
def test_a_bad_row_is_named_with_its_remedy(tmp_path, row, params, message):
    path = rows_file(tmp_path, GOOD, row)
    if message is None:
        dataset(path, **params).load()
        return
    with pytest.raises(ConfigError, match=message) as error:
        dataset(path, **params).load()
    assert str(path) in str(error.value)


def test_unknown_columns_are_listed(tmp_path):
    with pytest.raises(ConfigError, match=r"row 0: has columns 'text', and no known(?s:.*)columns: \{prompt"):
        dataset(rows_file(tmp_path, {"text": "x"})).load()


def test_an_empty_file_and_an_empty_split(tmp_path):
    with pytest.raises(ConfigError, match="holds no rows"):
        dataset(rows_file(tmp_path)).load()
    with pytest.raises(ConfigError, match="no problem is left"):
        dataset(rows_file(tmp_path, GOOD), validation_percent=1, test_percent=1).load()
    with pytest.raises(ConfigError, match=r"has no test split; give task\.params\.test or"):
        dataset(rows_file(tmp_path, GOOD)).problems("test", 1, 0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"train": {}}, "either a `file` or a name"),
        ({"train": {"file": "a", "hub": "b"}}, "either a `file` or a name"),
        ({"train": {"file": "a", "split": "b"}}, "belong to a `hub` name"),
        ({"train": {"file": "a"}, "test": {"file": "b"}, "test_percent": 5}, "two sources of one split"),
        ({"train": {"file": "a"}, "layout": "gsm9k"}, "is not one of aime, arc"),
        ({"train": {"file": "a"}, "columns": {"prompt": "a", "messages": "b"}}, "two columns for one thing"),
        ({"train": {"file": "a"}, "layout": "trl", "columns": {"prompt": "a"}}, "both say where"),
    ],
)
def test_settings_that_contradict_each_other(params, message):
    with pytest.raises(ValidationError, match=message):
        DatasetParams.model_validate_json(json.dumps(params))
