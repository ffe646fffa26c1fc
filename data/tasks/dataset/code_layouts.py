"""Layouts of programming tasks: prompt, and the tests that a program must pass as field `tests`.

`tests` has one of two forms:
    {"setup": code, "asserts": [code, ...]}                       run behind the program, one after the other
    {"inputs": [...], "outputs": [...], "fn_name": name or None}  texts on standard input and output; with
                                                                  `fn_name`, lists of arguments and a result
"""

from collections.abc import Mapping
from typing import Any

from data.tasks.dataset.reading import Reading, RowError, opened, text_prompt
from data.tasks.rows import Row


def humaneval(row: Row) -> Reading | None:
    """HumanEval: `prompt`, `entry_point`, `test`, `canonical_solution`."""
    if not {"prompt", "entry_point", "test"} <= row.keys():
        return None
    prompt = text_prompt(row["prompt"], "prompt")
    solution = row.get("canonical_solution")
    check = f"{_code(row, 'test')}\ncheck({_code(row, 'entry_point')})"
    return Reading(
        prompt=prompt,
        answer=prompt.text + solution if isinstance(solution, str) and solution else None,
        needs_answer=False,
        fields={"tests": {"setup": "", "asserts": [check]}},
    )


def mbpp(row: Row) -> Reading | None:
    """MBPP: `text` (or `prompt`), `test_list`, `code`, `test_setup_code` (or `test_imports`)."""
    name = "text" if "text" in row else "prompt"
    tests = row.get("test_list")
    if name not in row or not isinstance(tests, list):
        return None
    if not tests or not all(isinstance(test, str) for test in tests):
        raise RowError("`test_list` must be a list of assert statements, at least one")
    text = text_prompt(row[name], name).text
    setup = row.get("test_setup_code") or row.get("test_imports") or ""
    setup = "\n".join(map(str, setup)) if isinstance(setup, list) else str(setup)
    # The tests name the function that is asked for; the text alone does not.
    example = f"\n\nYour code should pass this test:\n{tests[0]}"
    return Reading(
        prompt=text_prompt(text + example, name),
        answer=row.get("code") or None,
        needs_answer=False,
        fields={"tests": {"setup": setup, "asserts": list(tests)}},
    )


def livecodebench(row: Row) -> Reading | None:
    """LiveCodeBench: `question_content`, `starter_code`, `public_test_cases`, `private_test_cases` (JSON)."""
    if not {"question_content", "public_test_cases"} <= row.keys():
        return None
    cases = [*_cases(row, "public_test_cases"), *_cases(row, "private_test_cases")]
    if not cases:
        raise RowError("has no test cases; remove the row")
    kinds = {case["testtype"] for case in cases}
    if len(kinds) > 1:
        raise RowError(f"mixes test cases of kinds {', '.join(sorted(map(str, kinds)))}; keep one kind")
    name = None
    if kinds == {"functional"}:
        metadata = opened(row["metadata"]) if isinstance(row.get("metadata"), str) else row.get("metadata")
        name = metadata.get("func_name") if isinstance(metadata, Mapping) else None
        if not isinstance(name, str):
            raise RowError("has functional test cases, but `metadata` names no `func_name`")
    text = text_prompt(row["question_content"], "question_content").text
    starter = row.get("starter_code")
    if isinstance(starter, str) and starter.strip():
        text += f"\n\nBegin with this code:\n```python\n{starter.rstrip()}\n```"
    return Reading(
        prompt=text_prompt(text, "question_content"),
        needs_answer=False,
        fields={"tests": _calls(cases, name) if name else _streams(cases)},
    )


def tests_in(truth: Any) -> dict[str, Any] | None:
    """The tests in a ground truth of verl's code tasks (object or JSON text); None for other tasks."""
    value = opened(truth) if isinstance(truth, str) and truth.lstrip().startswith("{") else truth
    if not isinstance(value, Mapping) or not {"inputs", "outputs"} <= value.keys():
        return None
    inputs, outputs = value["inputs"], value["outputs"]
    if (
        not isinstance(inputs, list)
        or not isinstance(outputs, list)
        or len(inputs) != len(outputs)
        or not inputs
    ):
        raise RowError("its tests must have lists `inputs` and `outputs` of one length, at least one")
    return {"inputs": inputs, "outputs": outputs, "fn_name": value.get("fn_name")}


def _streams(cases: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "inputs": [case["input"] for case in cases],
        "outputs": [case["output"] for case in cases],
        "fn_name": None,
    }


def _calls(cases: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Functional cases: each line of the input is one argument in JSON."""
    return {
        "inputs": [[opened(line) for line in case["input"].splitlines()] for case in cases],
        "outputs": [opened(case["output"]) for case in cases],
        "fn_name": name,
    }


def _cases(row: Row, name: str) -> list[dict[str, Any]]:
    value = row.get(name)
    if value is None or value == "":
        return []
    cases = opened(value) if isinstance(value, str) else value
    if isinstance(cases, str):
        raise RowError(
            f"`{name}` is not JSON but packed (base64, zlib, pickle); pickles can run code and are never "
            "read: write the cases as JSON, or remove the column"
        )
    if not isinstance(cases, list) or not all(_is_case(case) for case in cases):
        raise RowError(f"`{name}` must be a list of objects with texts `input`, `output`, `testtype`")
    return cases


def _is_case(case: Any) -> bool:
    keys = ("input", "output", "testtype")
    return isinstance(case, dict) and all(isinstance(case.get(key), str) for key in keys)


def _code(row: Row, name: str) -> str:
    if not isinstance(row[name], str) or not row[name].strip():
        raise RowError(f"{name!r} must be text, found {row[name]!r}")
    return str(row[name])
