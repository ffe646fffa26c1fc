"""Several ends of a call: of tokenizer and generation_config.json, saved, read as the end by protocols."""

import json
from pathlib import Path

import pytest

from data.episodes.trajectory import Call, StopReason
from data.errors import ConfigError
from data.text.codec import load_codec
from rollout.protocols.shared.tags import EOS, Tags
from tests.support.tokenizer_lab import codec_of


def directory(folder: Path, found: object) -> Path:
    """A saved tokenizer beside a generation_config.json with these ends."""
    codec_of("llama").tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": found}))
    return folder


@pytest.mark.parametrize(
    ("found", "ends"), [([1, 4], (4, 1)), (1, (4, 1)), ([4], (4,)), (None, (4,)), ([2, 1, 2], (4, 2, 1))]
)
def test_ends_are_the_tokenizers_and_those_of_the_model(
    found: object, ends: tuple[int, ...], tmp_path: Path
) -> None:
    codec = load_codec(directory(tmp_path, found))
    assert codec.ends == ends and codec.eos == 4


def test_ends_are_saved_with_the_tokenizer(tmp_path: Path) -> None:
    codec_of("llama").save(tmp_path)
    assert load_codec(tmp_path).ends == codec_of("llama").ends == (4, 1)


@pytest.mark.parametrize(
    ("found", "why"), [([4, 9999], "eos_token_id 9999, but the tokenizer has"), ("</s>", "write a token id")]
)
def test_ends_that_are_no_tokens_are_refused(found: object, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        load_codec(directory(tmp_path, found))
    assert "generation_config.json" in str(caught.value) and "\n  fix: " in str(caught.value)


def test_a_broken_generation_config_is_named(tmp_path: Path) -> None:
    folder = directory(tmp_path, None)
    (folder / "generation_config.json").write_text("[")
    with pytest.raises(ConfigError, match=r"generation_config.json: cannot be read"):
        load_codec(folder)


@pytest.mark.parametrize("end", [0, 1])
def test_every_end_stops_a_call_and_is_no_text_of_it(end: int) -> None:
    codec = codec_of("llama")
    tags = Tags(("<answer>",), codec)
    assert tags.stops().ids == codec.ends
    output = (*codec.encode("<answer> 5"), codec.ends[end])
    call = Call(
        index=0, thread=0, role="", context=(), output=output, logprobs=(), versions=(),
        stop=StopReason.STOP, after=(), num_trained=0,
    )  # fmt: skip
    reading = tags.read(call)
    assert reading.ending == EOS and reading.end == len(output) - 1
    answer = reading.last("<answer>")
    assert reading.text(answer, None) == " 5"


def test_a_pad_that_is_the_end_changes_nothing() -> None:
    codec = codec_of("gpt")
    assert codec.pad == codec.eos == codec.ends[0]
    assert codec.decode((*codec.encode("a"), codec.eos)) == "a<|im_end|>"


@pytest.mark.parametrize("kind", ["gpt", "metaspace", "unigram"])
def test_a_saved_tokenizer_gives_the_same_ids(kind: str, tmp_path: Path) -> None:
    codec = codec_of(kind, ("<try>", "</try>"))
    codec.save(tmp_path)
    loaded, text = load_codec(tmp_path), "hello  <try> </s>\n\n12"
    assert loaded.encode(text) == codec.encode(text)
    assert loaded.decode(loaded.encode(text)) == text
    assert [loaded.tag(tag) for tag in ("<try>", "</try>")] == [codec.tag(tag) for tag in ("<try>", "</try>")]
    assert (loaded.ends, loaded.pad, loaded.size) == (codec.ends, codec.pad, codec.size)
