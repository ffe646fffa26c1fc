"""Codecs: lossless for text of tasks, loud about anything else, plain Hugging Face on disk."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from data.errors import ConfigError, TrajectoryError
from data.tasks.countdown import Countdown, CountdownParams
from data.tasks.search_tree import walk
from data.text.build_words import build_tokenizer
from data.text.codec import Codec, load_codec
from data.text.piece import Piece
from data.text.structure import add_structural_tokens

TAGS = ("<par>", "=>", "spawn", "||", "join", "<child>", "found")
WORDS = [*TAGS, *Countdown().words()]


def pretrained():
    """A small byte-level BPE, as pretrained models have."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["37 10 9 4 the answer is spawn and join"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")


def tagged():
    tokenizer = pretrained()
    add_structural_tokens(tokenizer, TAGS)
    return Codec(tokenizer)


WHOLE = Codec(build_tokenizer(WORDS, numbers=99, digits=False))
DIGITS = Codec(build_tokenizer(WORDS, numbers=0, digits=True))
PRETRAINED = tagged()
WORDS_ONLY = pytest.mark.parametrize("codec", [WHOLE, DIGITS], ids=["whole", "digits"])
CODECS = pytest.mark.parametrize("codec", [WHOLE, DIGITS, PRETRAINED], ids=["whole", "digits", "pretrained"])


def text(largest):
    word = st.one_of(st.sampled_from([*WORDS, "<eos>"]), st.integers(1, largest).map(str))
    return st.lists(word, min_size=1, max_size=30).map(" ".join)


@given(text(99))
def test_whole_numbers_round_trip(x):
    assert WHOLE.decode(WHOLE.encode(x)) == x
    assert len(WHOLE.encode(x)) == len(x.split(" "))


@given(text(99_999))
def test_digits_round_trip(x):
    assert DIGITS.decode(DIGITS.encode(x)) == x
    assert len(DIGITS.encode(x)) == sum(len(word) if word.isdecimal() else 1 for word in x.split(" "))


@given(text(99_999))
def test_pretrained_round_trip(x):
    assert PRETRAINED.decode(PRETRAINED.encode(x)) == x


@WORDS_ONLY
@given(a=text(99), b=text(99))
def test_pieces_can_be_put_side_by_side_as_ids(codec, a, b):
    assert codec.encode(a) + codec.encode(b) == codec.encode(f"{a} {b}")
    assert codec.decode(codec.encode(a) + codec.encode(b)) == f"{a} {b}"


@pytest.mark.parametrize(
    ("params", "codec"),
    [
        (CountdownParams(), WHOLE),
        (CountdownParams(), DIGITS),
        (CountdownParams(high=99, target_high=100, cap=10_000), DIGITS),
    ],
)
def test_all_text_of_the_task_round_trips(params, codec):
    task = Countdown(params)
    for index, problem in enumerate(task.problems("train", 50, seed=0)):
        tree = task.search(problem, random.Random(index))
        pieces = [task.prompt(problem).text, tree.solution or ""]
        for child in tree.children:
            pieces += [piece for node in walk(child) for piece in (node.move, node.message, node.trace)]
        for piece in pieces:
            assert codec.decode(codec.encode(piece)) == piece


def test_layout_of_the_vocabulary():
    assert WHOLE.size == 128  # 3 special + 99 numbers + 13 words = 115
    assert DIGITS.size == 64  # 3 + 20 + 13 = 36
    assert (WHOLE.pad, WHOLE.eos, WHOLE.encode("1 99 <par>")) == (0, 1, (3, 101, 102))
    # "1" "0" "0": a first digit and two later ones.
    assert DIGITS.encode("100 1") == (4, 13, 13, 4)
    assert all(WHOLE.encode(WHOLE.decode([index])) == (index,) for index in range(WHOLE.size) if index != 2)


@WORDS_ONLY
@pytest.mark.parametrize("bad", ["maybe", "1  2", "1\n2", "1 2 ", "é", "1 maybe 2", "<unk>"])
def test_unknown_text_is_an_error_and_not_unk(codec, bad):
    with pytest.raises(ConfigError, match="has no token for"):
        codec.encode(bad)


def test_the_unknown_word_is_named():
    with pytest.raises(ConfigError, match="no token for '100'"):
        WHOLE.encode("1 100 2")


@CODECS
def test_save_and_load(codec, tmp_path):
    codec.save(tmp_path)
    loaded = load_codec(tmp_path)
    x = "<par> 37 10 9 => spawn 9 found"
    assert loaded.encode(x) == codec.encode(x)
    assert loaded.decode(codec.encode(x)) == x
    assert (loaded.eos, loaded.pad, loaded.size) == (codec.eos, codec.pad, codec.size)
    assert [loaded.token(tag) for tag in TAGS] == [codec.token(tag) for tag in TAGS]
    plain = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
    assert plain.eos_token_id == codec.eos


def test_plain_transformers_reads_and_writes_the_same_text(tmp_path):
    WHOLE.save(tmp_path)
    plain = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
    x = "<par> 37 10 9 => spawn 9 found <eos>"
    assert tuple(plain(x)["input_ids"]) == WHOLE.encode(x)
    assert plain.decode(plain(x)["input_ids"]) == x


@CODECS
def test_tags_are_one_token_each(codec):
    ids = [codec.token(tag) for tag in TAGS]
    assert len(set(ids)) == len(TAGS)
    assert [codec.decode([index]) for index in ids] == list(TAGS)
    if codec.words_only:
        assert codec.encode(" ".join(TAGS)) == tuple(ids)


@pytest.mark.parametrize("tag", ["<missing>", "spawn join", ""])
@CODECS
def test_a_tag_that_is_not_one_token_is_an_error_with_a_remedy(codec, tag):
    with pytest.raises(ConfigError, match=r"structural tag .*`model.tags: add`"):
        codec.token(tag)


def test_structural_tokens_are_added_once():
    tokenizer = pretrained()
    size = len(tokenizer)
    assert add_structural_tokens(tokenizer, ["<par>", "<child>", "<par>"]) == 2
    assert add_structural_tokens(tokenizer, ["<par>"]) == 0
    assert len(tokenizer) == size + 2


@pytest.mark.parametrize("digits", [False, True])
def test_tags_that_a_model_has_learned_keep_their_ids(tmp_path, digits):
    """Training goes on from a model of ours: a second set of tags would be tokens it has never seen."""
    Codec(build_tokenizer(WORDS, numbers=0 if digits else 99, digits=digits)).save(tmp_path)
    codec = load_codec(tmp_path)
    before = [codec.token(tag) for tag in TAGS]
    assert add_structural_tokens(codec.tokenizer, TAGS) == 0
    assert [Codec(codec.tokenizer).token(tag) for tag in TAGS] == before
    assert add_structural_tokens(codec.tokenizer, ["<other>"]) == 1


@CODECS
@pytest.mark.parametrize("index", [-1, 10_000])
def test_an_id_outside_the_vocabulary_cannot_be_decoded(codec, index):
    with pytest.raises(TrajectoryError, match="not in the vocabulary"):
        codec.decode([codec.eos, index])


@CODECS
def test_nothing_is_nothing(codec):
    assert codec.encode("") == ()
    assert codec.decode(()) == ""


@pytest.mark.parametrize(
    ("word", "digits"),
    [("", False), ("two words", False), ("7", False), ("<eos>", False), ("x1", True), ("a▁b", False)],
)
def test_words_that_cannot_be_one_token_are_refused(word, digits):
    with pytest.raises(ConfigError, match="tokenizer: "):
        build_tokenizer(["fine", word], numbers=9, digits=digits)


def test_tags_that_are_words_leave_longer_words_alone():
    join = PRETRAINED.token("join")
    assert join in PRETRAINED.encode_pieces([Piece("4 join 9", structure=True)])
    assert join not in PRETRAINED.encode_pieces([Piece("joined rejoin", structure=True)])


def test_a_tag_of_one_character_is_refused():
    with pytest.raises(ConfigError, match=r"ordinary text.*\n  fix: set model.tags: text"):
        add_structural_tokens(pretrained(), ["<par>", "|"])


def test_repeated_words_are_one_token():
    codec = Codec(build_tokenizer(["fail", "ok", "fail"], numbers=1, digits=False))
    assert codec.token("fail") == 4
    assert codec.token("ok") == 5


def test_a_directory_without_a_tokenizer(tmp_path):
    with pytest.raises(ConfigError, match="no tokenizer"):
        load_codec(tmp_path)


def test_a_tokenizer_without_an_end():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(ConfigError, match="end-of-sequence"):
        Codec(tokenizer)
