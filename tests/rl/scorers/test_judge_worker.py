"""A judge as a scorer: its scores are the probabilities of its verdicts, computed by plain transformers."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from qwen_lab import tiny_model
from transformers import AutoModelForCausalLM

from data.episodes.trajectory import Episode
from data.errors import ConfigError
from data.steps.label import cut_steps
from data.steps.step import StepKind
from data.tasks.countdown import Countdown
from data.tasks.judge.question import MARKER, JudgeFormat
from data.tasks.judge.task import JudgeParams, JudgeSteps, judged_problem
from data.tasks.problem import Problem
from data.text.codec import Codec, load_codec
from rl.config.judges import judge_protocol
from rl.imitation.demonstrations import GoldAnswers
from rl.scorers.judge_worker import JudgeWorker, JudgeWorkerSettings
from rl.scorers.label_file import unlabelled_rows, write_labels
from rollout.offline import drive
from rollout.protocols import build_protocol
from rollout.protocols.sequential import SequentialParams
from rollout.protocols.shared.base import Continue
from tests.support.scorer_lab import truncated

PROBLEM = Problem("p", "countdown", {"numbers": [10, 9, 4, 2], "target": 41})
STEPS = ["9 * 4 = 36", "10 / 2 = 5", "36 + 5 = 41"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random chat model."""
    return tiny_model(tmp_path_factory.mktemp("judge"))


def settings(model: Path, **changes: object) -> JudgeWorkerSettings:
    given: dict[str, object] = {
        "protocol": judge_protocol(100), "format": JudgeFormat(words="none"), "step": StepKind.PARAGRAPH,
        "forest_tokens": 4096,
    } | changes  # fmt: skip
    return JudgeWorkerSettings(model_dir=model, tokenizer_dir=model, **given)  # type: ignore[arg-type]


def solution(codec: Codec, steps: list[str]) -> Episode:
    """One call of some paragraphs."""
    said = (*codec.encode("\n\n".join(steps)), codec.eos)
    protocol = build_protocol(SequentialParams(name="sequential"), codec)
    return drive(protocol, Countdown().prompt(PROBLEM), lambda _: said, max_length=4000)


def question(codec: Codec, steps: list[str]) -> tuple[int, ...]:
    """The ids of what the judge reads first, as it reads them when it is trained."""
    task = JudgeSteps(JudgeParams(format=JudgeFormat(words="none")))
    fields = {"problem": Countdown().prompt(PROBLEM).text, "context": "", "steps": steps}
    opened = build_protocol(judge_protocol(100), codec).open(task.prompt(judged_problem("x", fields)))
    assert isinstance(opened, Continue)
    return sum((span.ids for span in opened.ask.context), ())  # type: ignore[union-attr]


def test_scores_are_those_of_the_verdicts_by_plain_transformers(model: Path) -> None:
    codec = load_codec(model)
    worker = JudgeWorker(settings(model), Countdown().params)
    worker.ready()
    short, long = solution(codec, STEPS[:1]), solution(codec, STEPS)
    one, found = worker.score_group(PROBLEM, [short, short, long], 1)
    assert isinstance(one, tuple) and isinstance(found, tuple)
    assert [len(one), len(found)] == [1, 3]
    plain, asked = AutoModelForCausalLM.from_pretrained(model).eval(), question(codec, STEPS)
    for place, step in enumerate(found):
        front = f"{MARKER} " + "".join(f"{number} right, " for number in range(1, place + 1))
        logs = []
        for verdict in ("right", "wrong"):
            said = codec.encode(f"{front}{place + 1} {verdict}")
            with torch.no_grad():
                logits = plain(input_ids=torch.tensor([asked + said])).logits[0][:, : codec.size]
            taken = logits.log_softmax(-1)[len(asked) - 1 : -1].gather(1, torch.tensor(said)[:, None])
            logs.append(taken.sum())
        expected = torch.stack(logs).softmax(0)[0].item()
        assert step.value == pytest.approx(expected, abs=1e-5)
        text = "".join(codec.pieces(long.calls[0].output[step.start : step.stop]))
        assert text.strip() == STEPS[place]
    assert len({round(step.value, 4) for step in found}) == 3


def test_a_judge_is_asked_with_the_ids_that_it_was_trained_on(model: Path, tmp_path: Path) -> None:
    codec = load_codec(model)
    worker, long = JudgeWorker(settings(model), Countdown().params), solution(codec, STEPS)
    steps = cut_steps(Countdown(), long, codec, StepKind.PARAGRAPH)
    labelled = [
        replace(row, labels=(1.0,) * 3)
        for row in unlabelled_rows(Countdown(), PROBLEM, long, codec, StepKind.PARAGRAPH)
    ]
    write_labels(tmp_path / "labels.jsonl", labelled)
    params = {"file": tmp_path / "labels.jsonl", "validation_percent": 0, "test_percent": 0}
    task = JudgeSteps(JudgeParams(**params, format=JudgeFormat(words="none")))  # type: ignore[arg-type]
    source = GoldAnswers(
        task=task, protocol=build_protocol(judge_protocol(100), codec), codec=codec, seed=0, pivot_weight=1.0,
        problems=task.problems("train", 9, 0), max_length=4000, count=1,
    )  # fmt: skip
    ((episode,),) = source.windows()
    (trained,) = source.rows(episode)
    asked = worker.rows(PROBLEM, long, 0, steps)
    assert len(asked) == 6
    for right, wrong in zip(asked[::2], asked[1::2], strict=True):
        assert right.first == wrong.first == trained.first
        assert right.ids == trained.ids[: len(right)] != wrong.ids[: len(right)]
    assert trained.ids[len(asked[-2]) :] == (codec.eos,)


def test_what_is_too_long_has_no_opinion(model: Path) -> None:
    codec = load_codec(model)
    long = solution(codec, STEPS)
    (said,) = JudgeWorker(settings(model, forest_tokens=100), Countdown().params).score_group(PROBLEM, [long])
    assert said == "a question is longer than scorer.forest_tokens = 100"
    few = settings(model, format=JudgeFormat(words="none", most_steps=2))
    (said,) = JudgeWorker(few, Countdown().params).score_group(PROBLEM, [long])
    assert said == "a call has more steps than the judge's most_steps = 2"


def test_a_damaged_judge_is_refused_by_name(model: Path, tmp_path: Path) -> None:
    broken = truncated(model, tmp_path / "broken")
    with pytest.raises(ConfigError, match="broken: the judge cannot be read"):
        JudgeWorker(
            JudgeWorkerSettings(
                model_dir=broken, tokenizer_dir=model, protocol=judge_protocol(9),
                format=JudgeFormat(words="none"), step=StepKind.PARAGRAPH, forest_tokens=64,
            ),
            Countdown().params,
        )  # fmt: skip
    shutil.rmtree(broken)
