"""First rows of added tags, by hand and in models with fewer and with more rows than tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from data.errors import ConfigError
from data.text.codec import Codec, load_codec
from data.text.structure import add_structural_tokens
from rl.learner.added_tags import read_tag_ids
from rl.learner.pretrained_start import write_pretrained_start
from rl.learner.tag_rows import (
    grow,
    largest_cosine,
    mean_rows,
    new_tags,
    set_tag_rows,
    tag_pieces,
)

TAGS = ("<Path>", "</Path>")


class Words:
    """A tokenizer of single characters: "a" is 0, "b" is 1, ...; "<", ">", "/" and space follow "z"."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return ["abcdefghijklmnopqrstuvwxyz<>/ ".index(character) for character in text]


def test_the_mean_of_given_rows_by_hand() -> None:
    table = torch.tensor([[1.0, 0.0], [3.0, 4.0], [5.0, 2.0]])
    found = mean_rows(table, [[0, 1], [2, 1, 1]])
    assert torch.equal(found[0], torch.tensor([2.0, 2.0]))
    torch.testing.assert_close(found[1], torch.tensor([11 / 3, 10 / 3]))


def test_the_largest_cosine_by_hand() -> None:
    rows = torch.tensor([[3.0, 4.0], [4.0, 3.0], [-1.0, 0.0]])
    assert largest_cosine(rows) == pytest.approx(24 / 25)
    assert largest_cosine(rows[:1]) == -1.0


def test_pieces_are_those_of_the_word_and_of_the_tag() -> None:
    tokenizer = Words()
    assert tag_pieces(tokenizer, "<ab>") == [29, 0, 1, 26, 0, 1, 27]
    assert tag_pieces(tokenizer, "</ab>") == [29, 0, 1, 26, 28, 0, 1, 27]
    assert tag_pieces(tokenizer, "ab") == [29, 0, 1, 0, 1]
    assert tag_pieces(tokenizer, "<>") == [26, 27]


def qwen(folder: Path, source: Path, *, rows: int, tied: bool, dtype: torch.dtype) -> tuple[Path, Codec]:
    """A tiny model with a tokenizer of its own and so many rows; what a config may hold besides."""
    codec = load_codec(source)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=rows, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, intermediate_size=48, initializer_range=0.3, tie_word_embeddings=tied,
            eos_token_id=codec.eos, bos_token_id=None,
        )
    ).to(dtype)  # fmt: skip
    model.save_pretrained(folder)
    GenerationConfig(eos_token_id=[codec.eos, 5], temperature=0.6, do_sample=True).save_pretrained(folder)
    codec.save(folder)
    return folder, codec


def started(source: Path, output: Path) -> tuple[Any, dict[str, int]]:
    codec = load_codec(source)
    add_structural_tokens(codec.tokenizer, TAGS)
    codec = Codec(codec.tokenizer)
    codec.save(output)
    write_pretrained_start(source, codec, output)
    return AutoModelForCausalLM.from_pretrained(output), {tag: codec.token(tag) for tag in TAGS}


@pytest.mark.medium
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("spare", [0, 64], ids=["no spare rows", "spare rows"])
def test_new_rows_in_embedding_and_output_layer(
    smollm2: Path, tmp_path: Path, tied: bool, spare: int
) -> None:
    """SmolLM2's tokenizer: `<Path>` is "<", "Path", ">"; `</Path>` begins with "</"."""
    size = load_codec(smollm2).size
    source, codec = qwen(tmp_path / "m", smollm2, rows=size + spare, tied=tied, dtype=torch.bfloat16)
    model, ids = started(source, tmp_path / "start")
    old = AutoModelForCausalLM.from_pretrained(source)
    assert sorted(ids.values()) == [size, size + 1]
    assert read_tag_ids(tmp_path / "start") == (size, size + 1)
    for layer, before in (
        (model.get_input_embeddings(), old.get_input_embeddings()),
        (model.get_output_embeddings(), old.get_output_embeddings()),
    ):
        rows = layer.weight
        assert rows.dtype == torch.bfloat16 and rows.shape[0] == max(size + 2, size + spare)
        assert torch.equal(rows[:size], before.weight[:size])
        for tag, opening in (("<Path>", "<"), ("</Path>", "</")):
            texts = (" Path", opening, "Path", ">")
            own = [codec.tokenizer.encode(text, add_special_tokens=False) for text in texts]
            assert all(len(piece) == 1 for piece in own)
            expected = torch.stack([before.weight[piece[0]].float() for piece in own]).mean(0)
            torch.testing.assert_close(rows[ids[tag]].float(), expected, atol=4e-3, rtol=4e-3)
        assert float((rows[size] - rows[size + 1]).detach().norm()) > 0.1
        if spare:
            assert torch.equal(rows[size + 2 :], before.weight[size + 2 :])
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert model.config.vocab_size == model.get_input_embeddings().weight.shape[0]


@pytest.mark.medium
def test_all_else_is_the_sources(smollm2: Path, tmp_path: Path) -> None:
    """Number format, `use_cache` and keys that Braid does not know; several end tokens; bit for bit again."""
    source, _ = qwen(tmp_path / "m", smollm2, rows=49_200, tied=True, dtype=torch.bfloat16)
    config = json.loads((source / "config.json").read_text()) | {"use_cache": True, "made_by": "them"}
    (source / "config.json").write_text(json.dumps(config))
    started(source, tmp_path / "start")
    assert json.loads((tmp_path / "start" / "config.json").read_text()) == config
    name = "generation_config.json"
    assert (tmp_path / "start" / name).read_bytes() == (source / name).read_bytes()
    torch.manual_seed(5)
    started(source, tmp_path / "again")
    name = "model.safetensors"
    assert (tmp_path / "start" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_no_tag_is_new_twice(tiny_model_dir: Path) -> None:
    """A tokenizer that has the tags already gets none; the rows it has stay."""
    base, grown = load_codec(tiny_model_dir).tokenizer, load_codec(tiny_model_dir).tokenizer
    assert new_tags(base, grown) == {}
    grown.add_tokens(list(TAGS))
    size = len(base)
    assert new_tags(base, grown) == {"<Path>": size, "</Path>": size + 1}


def test_tags_of_the_same_pieces_are_refused() -> None:
    """ "<ab>" and "<ba>" of single characters have the same mean."""
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=30, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
            intermediate_size=48,
        )
    )  # fmt: skip
    grow(model, 32)
    assert model.get_input_embeddings().weight.shape[0] == 32
    grow(model, 20)
    assert model.get_input_embeddings().weight.shape[0] == 32, "nothing shrinks"
    with pytest.raises(ConfigError, match=r"<ab> and <aa> are made of the same sub-words.*\n  fix: rename"):
        with torch.no_grad():
            model.get_input_embeddings().weight[0] = model.get_input_embeddings().weight[1]
        set_tag_rows(model, Words(), {"<ab>": 30, "<aa>": 31})
