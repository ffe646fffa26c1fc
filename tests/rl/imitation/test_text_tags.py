"""Demonstrations for a pretrained tokenizer: weights where tags are text, and counts of what does not fit."""

import pytest

from data.tasks.countdown import Countdown
from data.text.codec import Codec
from rl.imitation.demonstrations import DemonstrationSource
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
