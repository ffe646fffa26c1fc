"""An evaluation that searches with the reward model of a stage of its run."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification

from data.episodes.topology import scorer_tokens, total_tokens
from data.episodes.trajectory import StopReason
from data.episodes.wire import read_episodes
from data.steps.cut import cut_lines
from data.tasks.countdown import Countdown
from data.text.codec import load_codec
from rl.evaluation.outcome_file import episodes_file, load_outcomes
from rl.scorers.texts import as_episode, ends_in_output
from rollout.commands import ScoredText

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_an_evaluation_searches_with_the_reward_model_of_a_stage(
    stale: Path, braid: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(stale, run)
    braid.complete(braid.start("eval", run, "--checkpoint", "rl", "--protocol", "beam"))
    (path,) = run.glob("stages/eval_rl_beam_*/**/*sampled*.jsonl")
    outcomes, episodes = load_outcomes(path), list(read_episodes(episodes_file(path)))
    assert len(outcomes) == len(episodes) == 12
    model = AutoModelForTokenClassification.from_pretrained(stale / "stages/prm/model").eval()
    codec, scored = load_codec(stale / "start"), 0
    for outcome, episode in zip(outcomes, episodes, strict=True):
        assert episode.protocol == "beam" and episode.scorings
        assert outcome.scorer_tokens == scorer_tokens(episode) > 0
        assert outcome.total_tokens == total_tokens(episode)
        assert all(not scoring.failure for scoring in episode.scorings)
        for scoring in episode.scorings:
            for index, scores in zip(scoring.calls, scoring.scores, strict=True):
                call = episode.calls[index]
                text = ScoredText(
                    context=episode.context_ids(call),
                    output=call.output,
                    ended=call.stop is StopReason.STOP,
                )
                lines = cut_lines(as_episode([text]), codec, Countdown().step_ranges)
                with torch.no_grad():
                    logits = model(input_ids=torch.tensor([text.context + text.output])).logits[0]
                likely = logits.softmax(-1)[len(text.context) :, 1]
                places = ends_in_output(text, [line.stop for line in lines])
                assert list(scores) == pytest.approx(likely[places].tolist(), abs=1e-5)
                scored += len(scores)
    assert scored >= 12
