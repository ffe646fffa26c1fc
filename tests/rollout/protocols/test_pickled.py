"""A protocol with its tokenizer goes to the ranks of a supervised stage, in processes of their own."""

import pickle

import pytest

from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from data.text.prompt import Prompt
from rollout.protocols import PROTOCOLS, build_protocol, default_params, vocabulary


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_is_the_same_in_another_process(name: str) -> None:
    params = default_params(name)
    words = [word for words in vocabulary(params) for word in words]
    codec = Codec(build_tokenizer(list(dict.fromkeys(words)), numbers=9, digits=False))
    protocol = build_protocol(params, codec)
    first = protocol.open(Prompt("7"))
    assert pickle.loads(pickle.dumps(protocol)).open(Prompt("7")) == first
