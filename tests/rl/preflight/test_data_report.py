"""`braid data`: what it prints of a file, and the exit codes; gold answers are tried on real verifiers."""

import json
from pathlib import Path
from typing import Any

import pytest
from own_data import gsm8k_rows, write_rows
from transformers import AutoTokenizer

from rl.cli import main


def lines_of(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.mark.medium
def test_a_file_of_own_rows(tmp_path: Path, smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = gsm8k_rows(30)
    path = write_rows(tmp_path / "mine.jsonl", [*rows, rows[0]])
    assert main(["data", str(path), "--model", str(smollm2)]) == 0
    said = capsys.readouterr().out
    assert f"train: 30 of 31 rows of {path} (layout gsm8k); left out: 1 duplicates" in said
    assert "columns     question, answer" in said
    assert "gold        30 of 30 gold answers verify against themselves (gsm8k)" in said

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    turns = [[{"role": "user", "content": row["question"]}] for row in rows]
    ids = [
        tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=True, return_dict=False)
        for turn in turns
    ]
    assert f"{max(map(len, ids))} at most" in said and " tokens in the middle" in said
    (shown,) = [line for line in said.splitlines() if " ids: " in line]
    count, _, pieces = shown.strip().partition(" ids: ")
    assert int(count) == len(ids[0])
    numbers = [int(part.split(":")[0]) for part in pieces.split(" ") if part.split(":")[0].isdigit()]
    assert numbers == ids[0], "the ids of the template, special tokens included"
    assert "  <|im_start|>user\n  " + rows[0]["question"] + "<|im_end|>" in said


def test_without_a_model_characters_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines_of(
        tmp_path / "a.jsonl",
        {
            "prompt": [{"role": "system", "content": "s" * 10}, {"role": "user", "content": "q\x1b[31m"}],
            "answer": 5,
        },
        {"prompt": "r" * 20, "answer": ["5", "five"]},
    )
    assert main(["data", str(path)]) == 0
    said = capsys.readouterr().out
    assert "17.5" not in said and f"18 characters in the middle, 20 at most ({path}, row 1)" in said
    assert "2 rows have one, 2 different, 1 rows with alternatives" in said
    assert "not tried; name a verifier: --verifier NAME (" in said
    assert "  user: q\\x1b[31m" in said, "control characters are shown, not obeyed"


@pytest.mark.medium
def test_wrong_gold_answers_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[Any] = [{"prompt": f"q{n}", "answer": n} for n in range(9)]
    path = lines_of(tmp_path / "a.jsonl", *rows, {"prompt": "q", "answer": "many"})
    assert main(["data", str(path), "--verifier", "exact"]) == 0
    assert main(["data", str(path), "--verifier", "numeric"]) == 2
    output = capsys.readouterr()
    assert "gold        9 of 10 gold answers verify against themselves (numeric)" in output.out
    assert f"{path}: 9 of 10 gold answers verify" in output.err
    assert f"not {path}, row 9 ('many': " in output.err
    assert "fix: choose another verifier" in output.err


@pytest.mark.medium
def test_programs_are_tried_on_their_tests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "prompt": 'def half(n):\n    """Half of n."""\n',
        "canonical_solution": "    return n / 2\n",
        "test": "def check(candidate):\n    assert candidate(3) == 1.5\n    assert candidate(0) == 0",
        "entry_point": "half",
    }
    path = lines_of(tmp_path / "a.jsonl", row)
    assert main(["data", str(path)]) == 0
    said = capsys.readouterr().out
    assert (
        "(layout humaneval)" in said
        and "gold        1 of 1 gold answers verify against themselves (code)" in said
    )
    wrong = {**row, "canonical_solution": "    return n\n"}
    assert main(["data", str(lines_of(path, wrong))]) == 2
    assert ", row 0 (" in capsys.readouterr().err
    mbpp = {"text": "Write half.", "code": "def half(n): return n / 2", "test_list": ["assert half(1) == ("]}
    assert main(["data", str(lines_of(path, mbpp))]) == 2


@pytest.mark.medium
def test_rows_that_the_verifier_cannot_grade_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": "q", "instruction_id_list": ["a:b"], "kwargs": [{}]}]
    assert main(["data", str(lines_of(tmp_path / "a.jsonl", *rows)), "--verifier", "exact"]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'a.jsonl'}, row 0 (the problem has no gold answer)" in said
    assert main(["data", str(tmp_path / "a.jsonl"), "--verifier", "code"]) == 2
    assert "row 0 (field tests: " in capsys.readouterr().err


@pytest.mark.medium
def test_overlap_with_held_out_rows_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write_rows(tmp_path / "train.jsonl", gsm8k_rows(10))
    test = write_rows(tmp_path / "test.jsonl", gsm8k_rows(10)[8:])
    assert main(["data", str(train), "--test", str(test)]) == 0
    said = capsys.readouterr().out
    assert "8 of 10 rows" in said and "2 rows of a held-out split" in said


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"a": 1}, [], "row 0: has columns 'a', and no known layout"),
        ({"a": 1, "b": "q"}, ["--columns", "prompt=b", "answer=a"], None),
        ({"a": 1, "b": "q"}, ["--columns", "prompt=c"], "row 0: has no column 'c'"),
        ({"a": 1}, ["--columns", "promt=c"], "columns.promt: Extra inputs"),
        ({"prompt": "q", "answer": None}, [], "row 0: has no answer"),
        ({"prompt": "q", "answer": "5"}, ["--verifier", "maths"], "--verifier maths: is not a verifier"),
        ({"prompt": "q", "answer": "5"}, ["--layout", "gsm9k"], "layout 'gsm9k' is not one of"),
        ({"prompt": "q", "answer": "5"}, ["--split", "x"], "belong to a `hub` name"),
        ({"prompt": "q", "answer": "5"}, ["--model", "nowhere"], "nowhere"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: Any, options: list[str], message: str | None
) -> None:
    path = lines_of(tmp_path / "a.jsonl", row)
    assert main(["data", str(path), *options]) == (0 if message is None else 2)
    assert (message or "") in capsys.readouterr().err


def test_roles_that_a_template_refuses_are_named_with_their_row(
    tmp_path: Path, smollm2: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = tmp_path / "strict"
    strict.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (strict / name).write_bytes((smollm2 / name).read_bytes())
    (strict / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{{ m['content'] }}{% endfor %}"
    )
    users = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    path = lines_of(tmp_path / "a.jsonl", {"prompt": "q", "answer": 1}, {"prompt": users, "answer": 1})
    assert main(["data", str(path), "--model", str(strict)]) == 2
    said = capsys.readouterr().err
    assert f"{path}, row 1: " in said and "Conversation roles must alternate" in said and "fix: " in said


def test_all_wrong_rows_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"prompt": "q", "answer": "5"},
        *({"prompt": "", "answer": "5"} for _ in range(12)),
        {"prompt": "r"},
    ]
    path = lines_of(tmp_path / "a.jsonl", *rows)
    assert main(["data", str(path)]) == 2
    said = capsys.readouterr().err
    assert all(f"row {n}: 'prompt' is empty" in said for n in range(1, 11)) and "13 rows are wrong" in said
