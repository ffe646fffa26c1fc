"""Task `judge`: problems from files of labelled steps, its question, and what verdicts earn."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.errors import ConfigError
from data.steps.formats.files import write_steps
from data.steps.formats.row import StepRow
from data.tasks.judge.question import JudgeFormat, question
from data.tasks.judge.task import JudgeParams, JudgeSteps, judged_problem
from data.tasks.problem import Problem, load_problems, save_problems
from rewards.verifiers.base import OutcomeKind
from rewards.verifiers.verdict import Judge, Verdict


def row(number: int, **changes: Any) -> StepRow:
    given: dict[str, Any] = {
        "id": f"r{number}", "prompt": f"What is {number} + 1?", "steps": ("a", "b", "c"),
        "labels": (1.0, 0.75, 0.0),
    }  # fmt: skip
    return StepRow(**given | changes)


def task(tmp_path: Path, rows: list[StepRow], **params: Any) -> JudgeSteps:
    write_steps(tmp_path / "labels.jsonl", rows, "trl")
    return JudgeSteps(JudgeParams(file=tmp_path / "labels.jsonl", **params))


def test_labelled_rows_become_problems_and_solutions_of_one_problem_share_a_split(tmp_path: Path) -> None:
    rows = [row(number // 3, id=f"r{number}", steps=(f"{number}", "b", "c")) for number in range(120)]
    rows += [row(90, labels=(None, None, None)), row(91, steps=("a",) * 65, labels=(1.0,) * 65)]
    made = task(tmp_path, rows, validation_percent=20, test_percent=20)
    splits = {split: made.problems(split, 1000, 0) for split in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert sum(map(len, splits.values())) == 120, "rows without labels, or with too many steps, are left out"
    texts = [{each.fields["problem"] for each in part} for part in splits.values()]
    assert all(texts) and sum(map(len, texts)) == len(set.union(*texts)) == 40
    (first,) = made.problems("train", 1, 7)
    assert first.fields["labels"] == [True, True, False] and first.fields["context"] == ""
    save_problems(tmp_path / "problems.jsonl", splits["train"])
    assert load_problems(tmp_path / "problems.jsonl", validate=made.validate) == splits["train"]


def test_rows_of_one_name_and_steps_that_a_limit_cut_off(tmp_path: Path) -> None:
    line = {"prompt": "p", "completions": ["a", "b"], "labels": [True, None], "id": "x", "cut_off": True}
    (tmp_path / "labels.jsonl").write_text(f"{json.dumps(line)}\n" * 2)
    made = JudgeSteps(
        JudgeParams(file=tmp_path / "labels.jsonl", validation_percent=0, test_percent=0)
    ).problems("train", 9, 0)
    assert [each.id for each in made] == ["x", "x#1"] and made[0].fields["steps"] == ["a"]


def test_another_file_for_the_test(tmp_path: Path) -> None:
    write_steps(
        tmp_path / "bench.jsonl", [row(n, labels=(1.0, 1.0, 0.0)) for n in range(500, 520)], "processbench"
    )
    made = task(tmp_path, [row(number) for number in range(20)], validation_percent=0, test_percent=50)
    params = made.params.model_copy(update={"test_file": tmp_path / "bench.jsonl"})
    assert len(made.problems("train", 99, 0)) < 20
    made = JudgeSteps(params)
    assert len(made.problems("train", 99, 0)) == 20
    test = made.problems("test", 99, 0)
    assert len(test) == 20 and test[0].fields["problem"] == "What is 500 + 1?"


def test_no_labels_no_problems(tmp_path: Path) -> None:
    made = task(tmp_path, [row(1), row(2, labels=(None,) * 3)], validation_percent=0, test_percent=0)
    assert made.problems("test", 5, 0) == [] and len(made.problems("train", 5, 0)) == 1
    with pytest.raises(ConfigError, match="no labelled solution to train on"):
        task(tmp_path, [row(2, labels=(None,) * 3)]).problems("train", 5, 0)
    with pytest.raises(ConfigError, match="of stage 'mc', which is not done yet"):
        JudgeSteps(JudgeParams(stage="mc")).problems("train", 5, 0)
    for fields in ({}, {"problem": "p", "context": "", "steps": ["a"], "labels": [None]}):
        with pytest.raises(ConfigError, match="problem 'x'"):
            JudgeSteps(JudgeParams()).validate(Problem("x", "judge", fields))


def test_the_question_has_problem_context_steps_and_what_to_write() -> None:
    plain = question(JudgeFormat(words="none"), "What is 1 + 1?", "", ["It is 2.", "So 2."])
    assert plain == (
        "Problem:\nWhat is 1 + 1?\n\nSolution:\nStep 1: It is 2.\nStep 2: So 2.\n\n"
        "Say whether each step is right or wrong, and nothing else.\n"
        "End with the first wrong step: nothing is asked of those behind it.\n"
        "The final answer is the list of verdicts, as in: 1 right, 2 wrong."
    )
    long = question(JudgeFormat(words="principles", until="all"), "p", "a result", ["x"])
    assert (
        "What the writer of the solution has read:\na result\n\nSolution:\nStep 1: x\n\nFirst write" in long
    )
    assert "Judge every step by itself" in long and long.endswith("as in: 1 right.")


MADE = judged_problem(
    "x", {"problem": "p", "context": "", "steps": ["a", "b", "c"], "labels": [True, False, True]}
)


@pytest.mark.parametrize(
    ("params", "answer", "verdict", "share"),
    [
        ({}, "1 right, 2 wrong", Verdict.CORRECT, 1.0),
        ({}, "1 right, 2 right, 3 right", Verdict.WRONG, 0.0),
        ({}, "1 right", Verdict.NONE, 0.0),
        ({"marks": "share", "format": JudgeFormat(until="all")}, "1 wrong, 2 wrong, 3 right",
         Verdict.WRONG, 2 / 3),
        ({"marks": "f1", "format": JudgeFormat(until="all")}, "1 wrong, 2 wrong, 3 right",
         Verdict.WRONG, 2 / 3),
        ({"marks": "first_error", "format": JudgeFormat(until="all")}, "1 right, 2 wrong, 3 wrong",
         Verdict.CORRECT, 1.0),
        ({"format": JudgeFormat(until="all")}, "1 right, 2 wrong", Verdict.NONE, 0.0),
    ],
)  # fmt: skip
def test_what_verdicts_earn(params: dict[str, Any], answer: str, verdict: Verdict, share: float) -> None:
    judge = Judge(JudgeSteps(JudgeParams(**params)), None)
    (found,) = judge.judge_texts(MADE, [answer])
    assert found.verdict is verdict and found.share == pytest.approx(share)
    if verdict is Verdict.NONE:
        assert found.outcome is OutcomeKind.ANSWER_UNPARSABLE


def test_the_labels_as_an_answer_earn_full_marks() -> None:
    unknown = judged_problem("x", {**MADE.fields, "labels": [None, False, None]})
    for until, gold in (("first_error", "1 right, 2 wrong"), ("all", "1 right, 2 wrong, 3 right")):
        made = JudgeSteps(JudgeParams(format=JudgeFormat(until=until)))  # type: ignore[arg-type]
        assert made.gold(MADE) == (gold,) and made.check(MADE, gold)
        assert made.gold(unknown) == ()
