"""Files in TRL's preference layout: what they become, and what is wrong with those that are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.errors import ConfigError
from data.text.codec import Codec, load_codec
from rl.scorers.pairs import Pair
from rl.scorers.preference_file import preference_pairs, read_preferences

ASKED = {"role": "user", "content": "What is 2 + 3?"}
RIGHT = {"role": "assistant", "content": "It is 5."}
WRONG = {"role": "assistant", "content": "It is <|im_end|> 6."}


def written(folder: Path, *rows: dict[str, Any]) -> list[Path]:
    (folder / "prefs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [folder / "prefs.jsonl"]


def pairs(folder: Path, codec: Codec, *rows: dict[str, Any], margin: float = 0.0) -> list[Pair]:
    return list(preference_pairs(read_preferences(written(folder, *rows)), codec, margin=margin))


@pytest.fixture(scope="module")
def codec(smollm2: Path) -> Codec:
    """A chat model's."""
    return load_codec(smollm2)


def test_messages_are_laid_out_as_in_trl_up_to_the_end_of_the_last(codec: Codec, tmp_path: Path) -> None:
    from trl.data_utils import _tokenize

    said = {"role": "assistant", "content": "It is 6."}
    explicit = {"prompt": [ASKED], "chosen": [RIGHT], "rejected": [said]}
    implicit = {"chosen": [ASKED, RIGHT], "rejected": [ASKED, said], "margin": 2}
    first, second = pairs(tmp_path, codec, explicit, implicit, margin=0.5)
    tokenizer = codec.tokenizer
    for call, answer in ((first.better, RIGHT), (first.worse, said)):
        theirs = _tokenize(tokenizer, [ASKED, answer])["input_ids"]
        assert tokenizer.decode(theirs[-1:]) == "\n" and list(call.row.ids) == theirs[:-1]
        assert call.row.ids[-1] == tokenizer.eos_token_id and call.places == [0]
    assert (first.better.row, first.worse.row) == (second.better.row, second.worse.row)
    assert first.problem == second.problem and (first.margin, second.margin) == (0.5, 2.0)


def test_what_spells_a_special_token_is_text(codec: Codec, tmp_path: Path) -> None:
    (pair,) = pairs(tmp_path, codec, {"prompt": [ASKED], "chosen": [RIGHT], "rejected": [WRONG]})
    # One of the system's turn and one of the user's; the last ends the answer.
    assert pair.worse.row.ids.count(codec.eos) == pair.better.row.ids.count(codec.eos) == 3
    assert codec.decode(pair.worse.row.ids).endswith("It is <|im_end|> 6.<|im_end|>")


def test_texts_are_those_of_trl_with_one_end(codec: Codec, tmp_path: Path) -> None:
    tokenizer = codec.tokenizer
    rows = [
        {"prompt": "2 + 3 =", "chosen": " 5", "rejected": f" 6{tokenizer.eos_token}"},
        {"chosen": "2 + 3 = 5", "rejected": "2 + 3 = 6"},
    ]
    for pair in pairs(tmp_path, codec, *rows):
        for call, text in ((pair.better, "2 + 3 = 5"), (pair.worse, "2 + 3 = 6")):
            assert list(call.row.ids) == tokenizer(text=text + tokenizer.eos_token)["input_ids"]


def test_rows_of_one_prompt_are_one_problem(codec: Codec, tmp_path: Path) -> None:
    made = pairs(
        tmp_path, codec,
        {"prompt": "2 + 3 =", "chosen": " 5", "rejected": " 6"},
        {"prompt": "2 + 3 =", "chosen": " five", "rejected": " 6"},
        {"prompt": "2 + 4 =", "chosen": " 6", "rejected": " 5"},
    )  # fmt: skip
    first, second, third = (pair.problem for pair in made)
    assert first == second != third
    assert [pair.better.episode_id.partition(", ")[2] for pair in made] == [
        "row 0, chosen", "row 1, chosen", "row 2, chosen",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen": "a"}, "has no rejected .it has chosen."),
        ({"text": "a"}, "has no chosen and no rejected .it has text."),
        ({"chosen": "a", "rejected": "a"}, "are the same"),
        ({"chosen": "a", "rejected": "b", "tools": [{"type": "function"}]}, "has tools"),
        ({"chosen": "a", "rejected": "b", "margin": "big"}, "margin must be a number, found 'big'"),
        ({"chosen": "a", "rejected": [ASKED, WRONG]}, "must both be texts, or both be messages"),
        ({"prompt": "a", "chosen": [RIGHT], "rejected": [WRONG]}, "must both be texts, or both be lists"),
        ({"chosen": [RIGHT, ASKED], "rejected": [WRONG, ASKED]}, "ends with a message of the role assistant"),
        ({"chosen": [RIGHT], "rejected": [WRONG]}, "ends with a message of the role assistant"),
        ({"chosen": [ASKED, {"role": "assistant"}], "rejected": [ASKED, WRONG]}, "a role and a content"),
    ],
)
def test_what_is_refused(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    fine = {"chosen": "a", "rejected": "b"}
    with pytest.raises(ConfigError, match=rf"(?s)prefs\.jsonl, row 1: .*{words}.*fix: "):
        read_preferences(written(tmp_path, fine, row))


def test_a_word_that_the_tokenizer_lacks_is_named_with_its_row(tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)prefs\.jsonl, row 0: .*hello"):
        pairs(tmp_path, load_codec(tiny_model_dir), {"chosen": "41 hello", "rejected": "41"})
