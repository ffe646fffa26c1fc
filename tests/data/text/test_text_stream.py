"""Text that arrives bit by bit is the text of all ids, wherever it is cut."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizer_lab import gpt, llama, metaspace

from data.text.codec import Codec, load_codec

TEXT = "The sum of 37 and 10 is 47: naïve 漢字 🙂\n\n  def f(x):\t<think> done"


def streamed(codec: Codec, ids: list[int], rng: random.Random) -> str:
    stream, at, parts = codec.stream(), 0, []
    while at < len(ids):
        size = rng.randrange(1, 4)
        parts.append(stream.push(ids[at : at + size]))
        at += size
    return "".join([*parts, stream.push((), last=True)])


@pytest.mark.parametrize("make", [gpt, llama, metaspace])
def test_bytes(make: Callable[[], Any]) -> None:
    codec, rng = Codec(make()), random.Random(0)
    ids = [*codec.encode("The sum of 37 and 10 is 47")]
    for _ in range(20):
        assert streamed(codec, ids, rng) == codec.decode(ids)
        ids = [rng.randrange(codec.size) for _ in range(30)]


def test_half_a_character_waits_for_its_other_half() -> None:
    codec = Codec(gpt())
    ids = codec.encode("🙂")
    assert len(ids) > 1, "one byte each"
    stream = codec.stream()
    assert [stream.push([index]) for index in ids] == [*[""] * (len(ids) - 1), "🙂"]
    cut = codec.stream()
    assert cut.push(ids[:-1]) == "" and cut.push((), last=True) == "�"


def test_words(tiny_model_dir: Path) -> None:
    codec, rng = load_codec(tiny_model_dir), random.Random(0)
    for _ in range(50):
        ids = [rng.randrange(codec.size) for _ in range(rng.randrange(1, 30))]
        assert streamed(codec, ids, rng) == codec.decode(ids)
