"""Layouts of public data sets: each row of the table is recognised, and gives this prompt and this answer."""

import base64
import json
import pickle
import zlib

import pytest

from data.errors import ConfigError
from data.tasks.dataset.layouts import LAYOUTS, recognise
from data.tasks.dataset.reading import gold_texts
from data.text.prompt import Message, Prompt

USER = [{"role": "user", "content": "2 + 2?"}]
TALK = [{"role": "system", "content": "Be brief."}, *USER]
Q = Prompt("2 + 2?")
T = Prompt("2 + 2?", (Message("system", "Be brief."),))
MESSAGES_OF_PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "2 + "}, {"type": "text", "text": "2?"}]}
]
CASES = [{"input": "1 2", "output": "3", "testtype": "stdin"}]
CALLS = [{"input": '[1, 2]\n"a"', "output": "3", "testtype": "functional"}]

TABLE = [
    ("trl", {"prompt": "2 + 2?", "answer": "4"}, Q, ("4",)),
    ("trl", {"prompt": TALK, "solution": 4}, T, ("4",)),
    ("trl", {"prompt": MESSAGES_OF_PARTS, "ground_truth": ["4", "four"]}, Q, ("4", "four")),
    (
        "verl",
        {
            "data_source": "x",
            "prompt": TALK,
            "ability": "math",
            "extra_info": {"index": 0},
            "reward_model": {"style": "rule", "ground_truth": "4"},
        },
        T,
        ("4",),
    ),
    ("verl", {"prompt": json.dumps(TALK), "reward_model": json.dumps({"ground_truth": "4"})}, T, ("4",)),
    (
        "dapo",
        {"data_source": "math_dapo", "prompt": USER, "reward_model": {"ground_truth": "34"}},
        Q,
        ("34",),
    ),
    ("dapo", {"prompt": "2 + 2?", "solution": "4", "reward_model": {"ground_truth": "4"}}, Q, ("4",)),
    (
        "skyrl",
        {"prompt": USER, "env_class": "gsm8k", "reward_spec": {"method": "rule", "ground_truth": 4.5}},
        Q,
        ("4.5",),
    ),
    (
        "open_instruct",
        {"messages": TALK, "ground_truth": ["4", "four"], "dataset": "gsm8k"},
        T,
        ("4", "four"),
    ),
    ("nemo_rl", {"messages": [*TALK, {"role": "assistant", "content": "4"}], "task_name": "math"}, T, ("4",)),
    ("nemo_math", {"problem": "2 + 2?", "expected_answer": "4", "generated_solution": "..."}, Q, ("4",)),
    ("nemo_pairs", {"input": "2 + 2?", "output": "4"}, Q, ("4",)),
    ("gsm8k", {"question": "2 + 2?", "answer": "2 + 2 = <<2+2=4>>4\n#### 1,604"}, Q, ("1,604",)),
    (
        "math",
        {"problem": "2 + 2?", "solution": r"\boxed{5} no: \boxed{\frac{8}{2}}.", "level": "1"},
        Q,
        (r"\frac{8}{2}",),
    ),
    ("math_500", {"problem": "2 + 2?", "solution": r"\boxed{4}", "answer": "4", "subject": "s"}, Q, ("4",)),
    ("aime", {"ID": "2024-I-1", "Problem": "2 + 2?", "Solution": "..", "Answer": 204}, Q, ("204",)),
    ("aime", {"id": 0, "problem": "2 + 2?", "answer": 142.0, "url": "u"}, Q, ("142",)),
    ("ifeval", {"key": 1, "prompt": "2 + 2?", "instruction_id_list": ["a:b"], "kwargs": [{}]}, Q, ()),
    ("messages", {"messages": TALK, "answer": True}, T, ("true",)),
    ("question_answer", {"question": "2 + 2?", "answer": "4", "metadata": {}}, Q, ("4",)),
    (
        "mmlu",
        {"question": "2 + 2?", "choices": ["3", "4"], "answer": 1, "subject": "s"},
        Prompt("2 + 2?\n\nA. 3\nB. 4"),
        ("B",),
    ),
    (
        "mmlu",
        {"question": "2 + 2?", "choices": ["3", "4"], "answer": "A"},
        Prompt("2 + 2?\n\nA. 3\nB. 4"),
        ("A",),
    ),
    (
        "arc",
        {"question": "2 + 2?", "choices": {"text": ["3", "4"], "label": ["1", "2"]}, "answerKey": "2"},
        Prompt("2 + 2?\n\nA. 3\nB. 4"),
        ("B",),
    ),
    (
        "humaneval",
        {
            "prompt": "def f():\n",
            "entry_point": "f",
            "canonical_solution": "    return 4\n",
            "test": "def check(f):\n    assert f() == 4",
        },
        Prompt("def f():\n"),
        ("def f():\n    return 4",),
    ),
    (
        "mbpp",
        {
            "text": "Write f.",
            "code": "def f(): return 4",
            "test_list": ["assert f() == 4"],
            "test_setup_code": "",
        },
        Prompt("Write f.\n\nYour code should pass this test:\nassert f() == 4"),
        ("def f(): return 4",),
    ),
    (
        "livecodebench",
        {
            "question_content": "Add.",
            "public_test_cases": json.dumps(CASES),
            "private_test_cases": "",
            "starter_code": "",
        },
        Prompt("Add."),
        (),
    ),
]


@pytest.mark.parametrize(("name", "row", "prompt", "gold"), TABLE)
def test_a_row_of_each_layout(name, row, prompt, gold):
    assert recognise(row) == name
    reading = LAYOUTS[name](row)
    assert reading is not None and reading.prompt == prompt
    assert (gold_texts(reading.answer) if reading.answer is not None else ()) == gold
    assert reading.needs_answer or name in ("ifeval", "humaneval", "mbpp", "livecodebench")


def test_every_layout_is_in_the_table():
    assert {name for name, *_ in TABLE} | {"gpqa"} == set(LAYOUTS)


def test_no_layout_knows_other_rows():
    assert recognise({"text": "2 + 2 = 4"}) is None
    assert recognise({}) is None


def test_choices_of_gpqa_are_in_an_order_that_depends_on_the_content_only():
    def letters(number):
        row = {"Question": f"Which, {number}?", "Correct Answer": "right"}
        row |= {f"Incorrect Answer {i}": f"wrong {i}" for i in (1, 2, 3)}
        reading, again = LAYOUTS["gpqa"](row), LAYOUTS["gpqa"](dict(reversed(row.items())))
        assert reading is not None and reading == again
        assert f"{reading.answer}. right" in reading.prompt.text.splitlines()
        return reading.answer

    counts = [[letters(number) for number in range(400)].count(letter) for letter in "ABCD"]
    # 400 draws of four: 100 each, standard deviation 8.7.
    assert all(abs(count - 100) < 35 for count in counts), counts


TESTS = [
    ("humaneval", TABLE[-3][1], {"setup": "", "asserts": ["def check(f):\n    assert f() == 4\ncheck(f)"]}),
    ("mbpp", TABLE[-2][1], {"setup": "", "asserts": ["assert f() == 4"]}),
    ("livecodebench", TABLE[-1][1], {"inputs": ["1 2"], "outputs": ["3"], "fn_name": None}),
    (
        "livecodebench",
        {
            "question_content": "q",
            "public_test_cases": CALLS,
            "metadata": '{"func_name": "f"}',
            "starter_code": "c",
        },
        {"inputs": [[[1, 2], "a"]], "outputs": [3], "fn_name": "f"},
    ),
    (
        "verl",
        {"prompt": USER, "reward_model": {"ground_truth": '{"inputs": ["1"], "outputs": ["2"]}'}},
        {"inputs": ["1"], "outputs": ["2"], "fn_name": None},
    ),
]


@pytest.mark.parametrize(("name", "row", "tests"), TESTS)
def test_tests_of_a_program_become_a_field(name, row, tests):
    reading = LAYOUTS[name](row)
    assert reading is not None and reading.fields["tests"] == tests


def test_packed_tests_are_refused_and_never_unpickled():
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("was unpickled",))

    packed = base64.b64encode(zlib.compress(pickle.dumps(Trap()))).decode()
    row = {"question_content": "q", "public_test_cases": CASES, "private_test_cases": packed}
    with pytest.raises(ConfigError, match="pickles can run code and are never read"):
        LAYOUTS["livecodebench"](row)


BAD = [
    ("math", {"problem": "p", "solution": "no box"}, r"has no \\boxed"),
    ("trl", {"prompt": "  ", "answer": "4"}, "'prompt' is empty"),
    ("trl", {"prompt": None, "answer": "4"}, "'prompt' must be text, found nothing"),
    ("trl", {"prompt": [], "answer": "4"}, "'prompt' must be a list of messages"),
    (
        "trl",
        {"prompt": [*USER, {"role": "assistant", "content": "4"}], "answer": "4"},
        "ends with a turn of 'assistant'",
    ),
    ("trl", {"prompt": [{"role": "user"}], "answer": "4"}, r"'content'|`content`"),
    ("trl", {"prompt": [{"content": "x"}], "answer": "4"}, "must be an object with `role`"),
    ("trl", {"prompt": [{"role": "user", "content": [{"type": "image"}]}], "answer": "4"}, "not text"),
    ("mmlu", {"question": "q", "choices": ["a", "b"], "answer": 2}, "none of the choices"),
    ("mmlu", {"question": "q", "choices": ["a", "a"], "answer": 1}, "each of them once"),
    ("mbpp", {"text": "t", "test_list": []}, "at least one"),
    (
        "verl",
        {"prompt": USER, "reward_model": {"ground_truth": {"inputs": [1], "outputs": []}}},
        "one length",
    ),
]


@pytest.mark.parametrize(("name", "row", "message"), BAD)
def test_a_row_that_a_layout_cannot_read(name, row, message):
    with pytest.raises(ConfigError, match=message):
        LAYOUTS[name](row)


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (5, ("5",)),
        ("5", ("5",)),
        (["5", "five", "5"], ("5", "five")),
        (5.0, ("5.0",)),
        (1e-12, ("1e-12",)),
        (2**63, ("9223372036854775808",)),
        (False, ("false",)),
        (" a b ", ("a b",)),
        ('["5"]', ('["5"]',)),
    ],
)
def test_the_rule_for_answers(value, texts):
    assert gold_texts(value) == texts


def test_json_text_is_opened_when_asked():
    assert gold_texts('["5", 6]', open_json=True) == ("5", "6")
    assert gold_texts('"5"', open_json=True) == ("5",)
    for text in ("no json", "NaN", "[1e999]", '"\\ud800"', "[" * 40 + "]" * 40, '{"a": 1, "a": 2}'):
        assert gold_texts(text, open_json=True) == (text,)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "no answer"),
        ("", "is empty"),
        ([], "empty list"),
        ([None], "no answer"),
        ({"a": 1}, "is an object"),
        ([["5"]], "a list in a list"),
    ],
)
def test_what_is_no_answer(value, message):
    with pytest.raises(ConfigError, match=message):
        gold_texts(value)
