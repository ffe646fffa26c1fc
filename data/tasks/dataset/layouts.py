"""Layouts of public data sets: pure functions from a row to its prompt and answer.

A layout returns None for a row that it does not know. `LAYOUTS` is tried from the top: the most particular
layouts come first.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from data.tasks.dataset.choice_layouts import arc, gpqa, mmlu
from data.tasks.dataset.code_layouts import humaneval, livecodebench, mbpp, tests_in
from data.tasks.dataset.math_layouts import aime, gsm8k, math, math_500
from data.tasks.dataset.reading import Reading, conversation, opened, text_prompt
from data.tasks.rows import Row
from data.text.prompt import Prompt

Layout: TypeAlias = Callable[[Row], Reading | None]

_ANSWERS = ("answer", "ground_truth", "solution", "expected_answer", "target", "label")
"""Columns that hold an answer, in order of preference."""


def any_prompt(value: Any, name: str) -> Prompt:
    """The prompt in a column: text, or a list of messages, also as JSON text. Raises RowError."""
    if isinstance(value, str) and value.lstrip().startswith("[{") and isinstance(opened(value), list):
        return conversation(opened(value), name)
    return conversation(value, name) if isinstance(value, list) else text_prompt(value, name)


def verl(row: Row) -> Reading | None:
    """verl, and DAPO's and Parallel-R1's sets: `prompt` (messages), `reward_model: {ground_truth}`."""
    return _with_truth(row, "reward_model")


def skyrl(row: Row) -> Reading | None:
    """SkyRL: `prompt` (messages), `reward_spec: {method, ground_truth}`."""
    return _with_truth(row, "reward_spec")


def dapo(row: Row) -> Reading | None:
    """DAPO-Math: as verl, with `data_source: math_dapo`, or with `prompt` as text (processed by open-r1)."""
    is_processed = isinstance(row.get("prompt"), str) and "solution" in row
    is_dapo = is_processed or row.get("data_source") == "math_dapo"
    return _with_truth(row, "reward_model") if is_dapo else None


def _with_truth(row: Row, column: str) -> Reading | None:
    spec = row.get(column)
    spec = opened(spec) if isinstance(spec, str) else spec
    if not isinstance(spec, Mapping) or "ground_truth" not in spec or "prompt" not in row:
        return None
    truth = spec["ground_truth"]
    tests = tests_in(truth)
    return Reading(
        prompt=any_prompt(row["prompt"], "prompt"),
        answer=None if tests else truth,
        needs_answer=tests is None,
        fields={"tests": tests} if tests else {},
    )


def ifeval(row: Row) -> Reading | None:
    """IFEval: `prompt`, `instruction_id_list`, `kwargs`; nothing but the instructions says what is right."""
    if not {"prompt", "instruction_id_list", "kwargs"} <= row.keys():
        return None
    return Reading(prompt=any_prompt(row["prompt"], "prompt"), needs_answer=False)


def open_instruct(row: Row) -> Reading | None:
    """open-instruct: `messages`, `ground_truth` (one text or alternatives), `dataset`."""
    if not {"messages", "ground_truth", "dataset"} <= row.keys():
        return None
    return Reading(prompt=conversation(row["messages"], "messages"), answer=row["ground_truth"])


def nemo_rl(row: Row) -> Reading | None:
    """NeMo-RL: `messages` whose last turn is the assistant's, which is the answer, and `task_name`."""
    messages = row.get("messages")
    if "task_name" not in row or not isinstance(messages, list) or len(messages) < 2:
        return None
    last = messages[-1]
    if not isinstance(last, Mapping) or last.get("role") != "assistant":
        return None
    return Reading(prompt=conversation(messages[:-1], "messages"), answer=last.get("content"))


def nemo_math(row: Row) -> Reading | None:
    """NeMo-RL's sources (OpenMathInstruct-2): `problem`, `expected_answer`."""
    if not {"problem", "expected_answer"} <= row.keys():
        return None
    return Reading(prompt=text_prompt(row["problem"], "problem"), answer=row["expected_answer"])


def nemo_pairs(row: Row) -> Reading | None:
    """NeMo-RL's plain pairs: `input`, `output`."""
    if not {"input", "output"} <= row.keys():
        return None
    return Reading(prompt=any_prompt(row["input"], "input"), answer=row["output"])


def trl(row: Row) -> Reading | None:
    """TRL: `prompt` (text or messages) and `answer`, `ground_truth` or `solution`."""
    return _pair(row, "prompt")


def messages(row: Row) -> Reading | None:
    """AReaL and others: `messages` and `answer`, `ground_truth` or `solution`."""
    return _pair(row, "messages")


def question_answer(row: Row) -> Reading | None:
    """Plain pairs, also those of reasoning_gym and verifiers: `question` and `answer`."""
    return _pair(row, "question")


def _pair(row: Row, prompt: str) -> Reading | None:
    answer = next((name for name in _ANSWERS if name in row), None)
    if prompt not in row or answer is None:
        return None
    return Reading(prompt=any_prompt(row[prompt], prompt), answer=row[answer])


LAYOUTS: dict[str, Layout] = {
    "livecodebench": livecodebench,
    "humaneval": humaneval,
    "mbpp": mbpp,
    "gpqa": gpqa,
    "mmlu": mmlu,
    "arc": arc,
    "dapo": dapo,
    "verl": verl,
    "skyrl": skyrl,
    "ifeval": ifeval,
    "open_instruct": open_instruct,
    "nemo_rl": nemo_rl,
    "nemo_math": nemo_math,
    "aime": aime,
    "math_500": math_500,
    "math": math,
    "gsm8k": gsm8k,
    "trl": trl,
    "messages": messages,
    "question_answer": question_answer,
    "nemo_pairs": nemo_pairs,
}
"""Name -> layout, the most particular first."""


def recognise(row: Row) -> str | None:
    """Name of the first layout that knows a row, or None. Raises RowError for a row that it cannot read."""
    return next((name for name, layout in LAYOUTS.items() if layout(row) is not None), None)
