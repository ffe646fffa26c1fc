"""Rows of any shape: a layout reads them or says what is wrong, and what is read can be saved and sent."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import ConfigError
from data.tasks.dataset.layouts import LAYOUTS
from data.tasks.dataset.params import DatasetParams
from data.tasks.dataset.task import Dataset
from data.tasks.problem import load_problems, save_problems

COLUMNS = [
    *("prompt", "messages", "question", "problem", "answer", "solution", "ground_truth", "expected_answer"),
    *("dataset", "task_name", "input", "output", "reward_model", "reward_spec", "data_source", "kwargs"),
    *("instruction_id_list", "choices", "answerKey", "Question", "Correct Answer", "Incorrect Answer 1"),
    *("Incorrect Answer 2", "test", "text", "entry_point", "canonical_solution", "test_list", "code"),
    *("question_content", "public_test_cases", "private_test_cases", "metadata", "starter_code"),
    *("year", "url", "ID", "Problem", "Answer"),
]
MESSAGES = '[{"role": "user", "content": "q"}]'
TESTS = '{"inputs": [1], "outputs": [2], "fn_name": 3}'
NESTED = '{"inputs": [' + "[" * 60 + "]" * 60 + '], "outputs": [2]}'
WORDS = st.sampled_from(
    [
        *("", " ", "x", "4", "####", "a #### 5", r"\boxed{3}", r"\boxed{", "[{", "null", "[" * 300, "\u2028"),
        *("\x00", "NaN", "[NaN, 1e999]", "1e999", "assert f(", '{"ground_truth": "4"}', '"\\ud800"'),
        *(MESSAGES, TESTS, NESTED),
    ]
)
NAMES = st.sampled_from(
    [
        *("role", "content", "text", "label", "ground_truth", "inputs", "outputs", "fn_name", "input"),
        *("output", "testtype", "func_name", "type"),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    WORDS,
    st.sampled_from(["user", "assistant", "system", "functional", "stdin"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)
TURN = st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "assistant"]), "content": WORDS})
ROWS = st.dictionaries(
    st.sampled_from(COLUMNS), st.one_of(VALUES, st.lists(TURN, min_size=1, max_size=3)), max_size=6
)


@pytest.mark.medium
@settings(max_examples=1500, deadline=None)
@given(ROWS)
def test_a_layout_reads_a_row_or_refuses_it(row):
    for layout in LAYOUTS.values():
        try:
            reading = layout(row)
        except ConfigError:
            continue
        assert reading is None or reading.prompt.text.strip()


@pytest.mark.medium
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROWS, min_size=1, max_size=3), st.booleans())
def test_a_file_becomes_problems_or_is_refused(tmp_path, rows, open_json):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    for columns in ({}, {"prompt": "prompt", "answer": "answer"}, {"messages": "messages", "id": "ID"}):
        given = {"train": {"file": path}, "columns": columns, "open_json": open_json, "duplicates": "keep"}
        task = Dataset(DatasetParams.model_validate(given))
        try:
            problems = [placed.problem for placed in task.load()["train"].problems]
        except ConfigError as error:
            assert str(path) in str(error)
            continue
        assert len(problems) == len(rows)
        save_problems(tmp_path / "saved.jsonl", problems)
        assert load_problems(tmp_path / "saved.jsonl", validate=task.validate) == problems
        assert all(isinstance(text, str) and text for problem in problems for text in task.gold(problem))
