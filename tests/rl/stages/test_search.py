"""Evaluations that search with the reward model of a stage of their run, by the protocols of the recipes
prm_lessons, tree_search, early_rejection and ssr_atts.
"""

from pathlib import Path

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
from tests.support.qwen_lab import published_searches

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("name", published_searches())
def test_an_evaluation_searches_with_the_reward_model_of_a_stage(stale: Path, name: str) -> None:
    """The scores that guided each search are those of the model in `transformers`."""
    protocol = published_searches()[name]["name"]
    (path,) = (stale / "stages" / name).glob("*.sampled.jsonl")
    outcomes, episodes = load_outcomes(path), list(read_episodes(episodes_file(path)))
    assert len(outcomes) == len(episodes) == 3
    model = AutoModelForTokenClassification.from_pretrained(stale / "stages/prm/model").eval()
    codec, scored = load_codec(stale / "start"), 0
    for outcome, episode in zip(outcomes, episodes, strict=True):
        # `best_of_n` asks for answered chains alone, and so small a model hardly answers.
        assert episode.protocol == protocol and (episode.scorings or protocol == "best_of_n")
        assert outcome.scorer_tokens == scorer_tokens(episode)
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
    assert scored >= 3 or protocol == "best_of_n"
