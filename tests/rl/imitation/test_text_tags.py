"""Demonstrations for a pretrained tokenizer: weights where tags are text, and counts of what does not fit."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from data.episodes.trajectory import Episode, ThreadOutcome
from data.errors import ConfigError
from data.tasks.countdown import Countdown
from data.text.codec import Codec
from rl.config.stages import SftStage
from rl.imitation.demonstrations import DemonstrationSource
from rl.imitation.forest_table import forests_as_dataset
from rollout.protocols import build_protocol, default_params, vocabulary
from tests.support.tokenizer_lab import codec_of

TASK = Countdown()
PARAMS = default_params("sequential").model_copy(update={"tokens": 1_500})


def source(codec: Codec, *, max_length: int = 2_000, count: int = 12) -> DemonstrationSource:
    return DemonstrationSource(
        task=TASK,
        protocol=build_protocol(PARAMS, codec),
        codec=codec,
        seed=3,
        pivot_weight=4.0,
        problems=TASK.problems("train", 20, 0),
        max_length=max_length,
        count=count,
    )


@pytest.mark.parametrize("tags", [(), vocabulary(PARAMS)[0]], ids=["text", "tokens"])
def test_answers_weigh_more_whether_tags_are_tokens_or_text(tags: tuple[str, ...]) -> None:
    codec = codec_of("gpt", tags)
    made = source(codec)
    episode = next(made.episodes(0, 12))
    (row,) = made.rows(episode)
    output = row.ids[-len(row.weights) :] if len(row.weights) < len(row.ids) else row.ids
    pieces = codec.pieces(output)
    text, heavy = "", ""
    for piece, weight in zip(pieces, row.weights, strict=True):
        text += piece
        heavy += piece if weight == 4.0 else ""
    ending = text[text.index("<answer>") :]
    assert heavy.endswith(ending) and ending.endswith("<|im_end|>")
    assert 0 < len(heavy) < len(text)


def test_demonstrations_that_do_not_fit_are_counted() -> None:
    codec = codec_of("gpt")
    everything = source(codec)
    lengths = [len(row) for e in everything.episodes(0, 12) for row in everything.rows(e)]
    assert everything.left_out.episodes == 0 and everything.left_out.of == len(lengths)
    middle = sorted(lengths)[len(lengths) // 2]
    some = source(codec, max_length=middle)
    kept = list(some.episodes(0, 12))
    assert some.left_out.of == len(lengths)
    assert some.left_out.episodes == sum(length > middle for length in lengths) == len(lengths) - len(kept)
    assert str(some.left_out).startswith(
        f"{some.left_out.episodes} of {len(lengths)} demonstrations do not fit"
    )


def test_calls_longer_than_a_forest_are_counted() -> None:
    made = source(codec_of("gpt"))
    lengths = [len(row) for e in made.episodes(0, 12) for row in made.rows(e)]
    most = max(lengths) - 1
    list(made.forests(most))
    assert made.left_out.calls == sum(length > most for length in lengths) > 0
    assert "longer than forest_tokens" in str(made.left_out)


class CutOff(DemonstrationSource):
    """The same demonstrations, as if every thread had been cut off."""

    def windows(self) -> Iterator[list[Episode]]:
        for episode in self.episodes(0, self.count):
            cut = (replace(thread, outcome=ThreadOutcome.TRUNCATED) for thread in episode.threads)
            yield [replace(episode, threads=tuple(cut))]


def test_episodes_without_a_call_to_imitate_are_not_called_too_long() -> None:
    stage = SftStage(
        name="sft",
        kind="sft",
        steps=1,
        tokens_per_step=4096,
        forest_tokens=4096,
        learning_rate=1e-3,
        demonstrations=4,
    )
    made = source(codec_of("gpt"), count=4)
    names = ("task", "protocol", "codec", "seed", "pivot_weight", "problems", "max_length", "count")
    cut = CutOff(**{name: getattr(made, name) for name in names})
    with pytest.raises(ConfigError, match="none of its episodes has a call to imitate"):
        forests_as_dataset(cut, stage, None)
    with pytest.raises(ConfigError, match="every call of every episode is longer"):
        forests_as_dataset(made, stage.model_copy(update={"forest_tokens": 32}), None)
