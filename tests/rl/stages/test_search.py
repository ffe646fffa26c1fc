"""An evaluation that searches with the reward model of a stage of its run."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification

from data.episodes.topology import scorer_tokens, total_tokens
from data.episodes.wire import read_episodes
from data.text.codec import load_codec
from rl.evaluation.outcome_file import episodes_file, load_outcomes

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
    ends = load_codec(stale / "start").ends
    scored = 0
    for outcome, episode in zip(outcomes, episodes, strict=True):
        assert (
            episode.protocol == "beam"
            and episode.scorings
            and outcome.scorer_tokens == scorer_tokens(episode)
        )
        assert outcome.total_tokens == total_tokens(episode) and outcome.scorer_tokens > 0
        assert all(not scoring.failure for scoring in episode.scorings)
        for scoring in episode.scorings:
            for index, scores in zip(scoring.calls, scoring.scores, strict=True):
                # The last step ends with the text, the end of the sequence apart.
                call = episode.calls[index]
                ids = episode.context_ids(call) + call.output
                with torch.no_grad():
                    likely = model(input_ids=torch.tensor([ids])).logits[0].softmax(-1)[:, 1]
                last = likely[-2 if ids[-1] in ends else -1].item()
                assert scores[-1] == pytest.approx(last, abs=1e-4)
                scored += 1
    assert scored >= 12
