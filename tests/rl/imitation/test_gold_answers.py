"""Gold answers as demonstrations: verdicts that a judge begins with."""

from pathlib import Path

from tokenizer_lab import codec_of

from data.steps.formats.files import write_steps
from data.steps.formats.row import StepRow
from data.tasks.judge.task import JudgeParams, JudgeSteps
from rl.config.judges import judge_protocol
from rl.imitation.demonstrations import GoldAnswers
from rollout.protocols import build_protocol

CODEC = codec_of("gpt")


def test_each_problem_is_answered_with_its_gold_answer_alone(tmp_path: Path) -> None:
    labels = [(1.0, 0.0, None), (1.0, 1.0, 1.0), (None, 0.0, 1.0)]
    rows = [
        StepRow(id=f"r{number}", prompt=f"{number} + 1?", steps=("a", "b", "c"), labels=each)
        for number, each in enumerate(labels)
    ]
    write_steps(tmp_path / "labels.jsonl", rows, "trl")
    params = JudgeParams(file=tmp_path / "labels.jsonl", validation_percent=0, test_percent=0)
    task = JudgeSteps(params)
    source = GoldAnswers(
        task=task, protocol=build_protocol(judge_protocol(64), CODEC), codec=CODEC, seed=0, pivot_weight=1.0,
        problems=task.problems("train", 9, 0), max_length=2000, count=3,
    )  # fmt: skip
    (episodes,) = source.windows()
    said = {}
    for episode in episodes:
        ids = episode.answer_ids()
        assert ids is not None and not episode.violations
        said[episode.problem_id] = "".join(CODEC.pieces(ids))
        (row,) = source.rows(episode)
        assert all(weight == 1.0 for weight in row.weights)
        assert "".join(CODEC.pieces(episode.calls[0].output)).startswith("Verdicts: ")
    # The third has no label for its first step, so nobody knows its verdicts.
    assert said == {"r0": "1 right, 2 wrong", "r1": "1 right, 2 right, 3 right"}
