"""Problem files: round trips, and one clear message for each way a file can be wrong."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import ConfigError
from data.tasks.countdown import Countdown
from data.tasks.problem import Problem, ensure_disjoint, load_problems, save_problems


def test_round_trip(tmp_path):
    problems = [
        *Countdown().problems("train", 30, seed=0),
        Problem("q", "other", {"question": "2 × 3?", "n": 6}),
    ]
    path = tmp_path / "folder" / "problems.jsonl"
    save_problems(path, problems)
    assert load_problems(path) == problems
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {"numbers": st.lists(st.integers(), min_size=1), "text": st.text('aé\n" ▁1\u2028\r\x1b')}
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_fields_round_trip(tmp_path, rows):
    problems = [Problem(str(i), "any", row) for i, row in enumerate(rows)]
    save_problems(tmp_path / "p.jsonl", problems)
    assert load_problems(tmp_path / "p.jsonl") == problems


def test_a_changed_file_is_read_anew(tmp_path):
    path = tmp_path / "p.jsonl"
    for name in ("a", "b"):
        save_problems(path, [Problem(name, "any", {})])
        assert load_problems(path)[0].id == name


GOOD = {"id": "a", "task": "countdown", "numbers": [1, 2], "target": 3}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([json.dumps(GOOD), "{not json"], r"row 1: is not JSON"),
        ([json.dumps(GOOD), "[1, 2]"], r"row 1: is not a JSON object"),
        (
            [json.dumps(GOOD), json.dumps({**GOOD, "id": "b", "numbers": "1 2"})],
            r"row 1: problem 'b': `numbers`",
        ),
        ([json.dumps(GOOD), "", json.dumps({**GOOD, "id": ""})], r"row 1: 'id' must be a non-empty string"),
        (
            [json.dumps(GOOD), json.dumps({"id": "b", "numbers": [1]})],
            r"row 1: 'task' must be a non-empty string",
        ),
        ([json.dumps(GOOD), json.dumps(GOOD)], r"row 1: id 'a' was used in row 0"),
        (
            [json.dumps(GOOD), json.dumps({**GOOD, "id": "b", "target": None})],
            r"row 1: problem 'b': `target`",
        ),
        ([json.dumps({**GOOD, "numbers": [1, 61]})], r"row 0: problem 'a': holds a number above"),
        ([], "holds no problems"),
    ],
)
def test_a_bad_row_is_named(tmp_path, lines, message):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=message) as error:
        load_problems(path, validate=Countdown().validate)
    assert str(path) in str(error.value)


def test_a_column_may_change_its_type_and_nothing_is_converted(tmp_path):
    answers = [5, "5", ["5", "five"], 5.0, 1e-12, 2**63, "37", "2024-05-01", {"a": 1}, {"b": None}, True]
    problems = [Problem(str(i), "any", {"answer": answer}) for i, answer in enumerate(answers)]
    save_problems(tmp_path / "p.jsonl", problems)
    loaded = load_problems(tmp_path / "p.jsonl")
    assert [repr(problem.fields["answer"]) for problem in loaded] == [repr(answer) for answer in answers]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", b"id,task", r"data files end in .jsonl, .json, .csv, .parquet, .arrow"),
        ("p.parquet", b"no parquet", r"cannot be read as parquet"),
        ("missing.jsonl", None, r"there is no such file"),
        ("empty.parquet", b"", "holds no problems"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        load_problems(path)
    assert str(path) in str(error.value)


def test_a_field_may_not_shadow_a_column(tmp_path):
    with pytest.raises(ConfigError, match="row 0: a field must not have the name 'id'"):
        save_problems(tmp_path / "p.jsonl", [Problem("a", "any", {"id": 1})])


def test_overlap_is_found_whatever_the_ids_and_the_order_of_numbers():
    train = [Problem("t1", "countdown", {"numbers": [9, 4, 2], "target": 38})]
    held = [
        Problem("h1", "countdown", {"numbers": [9, 4, 2], "target": 37}),
        Problem("h2", "countdown", {"numbers": [2, 9, 4], "target": 38}),
    ]
    key = Countdown().key
    ensure_disjoint(train, held[:1], key=key, train_name="train.jsonl", heldout_name="test.jsonl")
    with pytest.raises(ConfigError, match=r"test.jsonl shares 1 problem.* train.jsonl: its 'h2'.* 't1'"):
        ensure_disjoint(train, held, key=key, train_name="train.jsonl", heldout_name="test.jsonl")


NESTED = '{"id": "b", "task": "countdown", "numbers": ' + "[" * 1_000_000 + "]" * 1_000_000 + "}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (NESTED, "row 1: nests brackets more than 64 deep"),
        ("[" * 1_000_000, "row 1: is not JSON"),
        ('{"a": ' * 1_000_000, "row 1: is not JSON"),
        (
            json.dumps({**GOOD, "id": "b\x1b[31m"}),
            r"row 1: 'id' must be .* printable .*, found 'b\\x1b\[31m'",
        ),
    ],
)
def test_a_hostile_row_is_named_and_crashes_nothing(tmp_path, line, message):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + line)
    with pytest.raises(ConfigError, match=message):
        load_problems(path)


def test_brackets_in_strings_and_long_flat_lists_are_no_nesting(tmp_path):
    rows = [
        Problem("a", "any", {"text": "[" * 500 + '"\\', "lists": [[i] for i in range(200)]}),
        Problem("b", "any", {"text": "]", "lists": [[1]]}),
    ]
    save_problems(tmp_path / "p.jsonl", rows)
    assert load_problems(tmp_path / "p.jsonl") == rows
