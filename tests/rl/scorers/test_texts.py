"""Texts of running episodes: which steps count, what exact labels say, and what a reward model says."""

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from data.steps.step import StepKind
from data.tasks.countdown import Countdown
from data.tasks.problem import Problem
from data.text.codec import Codec, load_codec
from rl.learner.scorer_model import ScorerTarget
from rl.scorers.label_worker import LabelWorker
from rl.scorers.local import LocalScorer
from rl.scorers.texts import as_episode, ends_in_output
from rl.scorers.worker import ScorerSettings, ScorerWorker
from rollout.commands import ScoredText
from rollout.scoring import ScoreRequest
from tests.support.outcome_lab import save_scorer

PROBLEM = Problem("p", "countdown", {"numbers": [10, 9, 4, 2], "target": 41})
ASKED = "<solo> 41 10 9 4 2 <think>"
LINES = "<try> 9 * 4 10 2 36"


def text(codec: Codec, context: str, output: str, *, ended: bool = True) -> ScoredText:
    ids = [tuple(codec.tokenizer(part)["input_ids"]) for part in (context, output)]
    return ScoredText(context=ids[0], output=ids[1], ended=ended)


def scores(worker: LabelWorker | ScorerWorker, *texts: ScoredText) -> object:
    return next(iter(worker.score_texts(PROBLEM, [ScoreRequest(problem=PROBLEM, texts=texts)])))


def test_steps_that_end_in_the_output_count() -> None:
    said = ScoredText(context=(1,) * 5, output=(2,) * 4, ended=False)
    # Steps end behind tokens 3, 6 and 9: the last two in the output, at its places 0 and 3.
    assert ends_in_output(said, [3, 6, 9]) == [0, 3]
    assert ends_in_output(said, [3, 5]) == [3], "none: its last token"
    episode = as_episode([said, said])
    assert [call.output for call in episode.calls] == [(1,) * 5 + (2,) * 4] * 2
    assert [call.thread for call in episode.calls] == [1, 2]


@pytest.mark.parametrize(
    ("claim", "context", "output", "ended", "found"),
    [
        # 9 * 4 = 36, and 36 + 10 / 2 = 41.
        ("both", ASKED, LINES, True, (1.0,)),
        ("both", ASKED, f"{LINES} <try> 10 / 2 5 36", True, (1.0, 1.0)),
        # 9 * 4 is not 35.
        ("valid", ASKED, "<try> 9 * 4 10 2 35", True, (0.0,)),
        # 10 - 9 = 1 is right, but 41 cannot be made of 1, 4 and 2.
        ("valid", ASKED, "<try> 10 - 9 4 2 1", True, (1.0,)),
        ("reachable", ASKED, "<try> 10 - 9 4 2 1", True, (0.0,)),
        ("both", ASKED, "<try> 10 - 9 4 2 1", True, (0.0,)),
        # A line that began in the context ends in the output.
        ("both", f"{ASKED} <try> 9 * 4", "10 2 36", True, (1.0,)),
        # Half a line says nothing yet: the text is as good as before, or unknown.
        ("both", f"{ASKED} {LINES}", "<try> 10 /", False, (1.0,)),
        ("both", ASKED, "<try> 9 *", False, (0.5,)),
        ("both", f"{ASKED} {LINES}", "<answer> 9 * 4 10 / 2 36 + 5 <eos>", True, (1.0,)),
    ],
)
def test_exact_labels(
    tiny_model_dir: Path, claim: str, context: str, output: str, ended: bool, found: tuple[float, ...]
) -> None:
    codec = load_codec(tiny_model_dir)
    worker = LabelWorker(claim, Countdown().params, tiny_model_dir)  # type: ignore[arg-type]
    worker.ready()
    assert scores(worker, text(codec, context, output, ended=ended)) == (found,)


@pytest.mark.parametrize("target", ["steps", "outcome"])
def test_a_reward_model_scores_texts_as_plain_transformers_does(
    tiny_model_dir: Path, tmp_path: Path, target: ScorerTarget
) -> None:
    codec, model_dir = load_codec(tiny_model_dir), save_scorer(tiny_model_dir, tmp_path, target)
    settings = ScorerSettings(
        model_dir=model_dir, tokenizer_dir=tiny_model_dir, target=target,
        step=StepKind.LINE, forest_tokens=256,
    )  # fmt: skip
    worker = ScorerWorker(settings, Countdown().params)
    first = text(codec, ASKED, f"{LINES} <try> 10 / 2 5 36")
    second = text(codec, f"{ASKED} {LINES}", "<try> 10 /", ended=False)
    found = scores(worker, first, second, first)
    assert isinstance(found, tuple) and found[0] == found[2]
    for each, values in zip((first, second), found, strict=False):
        ids = torch.tensor([each.context + each.output])
        with torch.no_grad():
            if target == "outcome":
                plain = AutoModelForSequenceClassification.from_pretrained(model_dir).eval()
                expected = plain(input_ids=ids).logits[0].sigmoid().tolist()
            else:
                # Ends of steps: behind 36 and behind the last token; of the unfinished text its last token.
                ends = [len(each.context) + end for end in ([6, 12] if each is first else [2])]
                plain = AutoModelForTokenClassification.from_pretrained(model_dir).eval()
                expected = plain(input_ids=ids).logits[0].softmax(-1)[ends, 1].tolist()
        assert list(values) == pytest.approx(expected, abs=1e-5)
    long = ScoredText(context=first.context, output=first.output * 30, ended=True)
    assert scores(worker, long) == "a call is longer than scorer.forest_tokens = 256"


def test_a_scorer_in_the_same_process_answers_one_question_after_the_other(tiny_model_dir: Path) -> None:
    codec = load_codec(tiny_model_dir)
    scorer = LocalScorer(LabelWorker("both", Countdown().params, tiny_model_dir))
    right = ScoreRequest(problem=PROBLEM, texts=(text(codec, ASKED, LINES),))
    wrong = ScoreRequest(problem=PROBLEM, texts=(text(codec, ASKED, "<try> 9 * 4 10 2 35"),))
    nobody = ScoreRequest(problem=None, texts=right.texts)

    async def scenario() -> list[object]:
        return list(await asyncio.gather(*map(scorer.score, (right, wrong, nobody))))

    assert asyncio.run(scenario()) == [
        ((1.0,),), ((0.0,),), "the episode does not say which problem it is about",
    ]  # fmt: skip
