"""Published formats byte for byte: a text is parsed, run through its protocol, and rendered unchanged.

Files of tests/golden/published have our own content in the exact syntax of the published data sets, white
space included. Each is run with tags as text and as tokens, through a chat template and without one.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizer_lab import codec_of

from data.tasks.countdown import Countdown, CountdownParams
from data.tasks.problem import Problem
from data.text.codec import Codec, load_codec
from data.text.prompt import Prompt
from data.text.structure import add_structural_tokens
from rollout.protocols import PROTOCOLS, ThinkingProtocol, build_protocol, vocabulary
from rollout.protocols.shared.flat_text import SaidCall
from rollout.published_text import flatten, unflatten
from rollout.transcript import (
    Transcript,
    dump_transcript,
    load_transcript,
    read_transcript,
    spell,
    transcript_of,
)

FILES = sorted((Path(__file__).parent.parent / "golden" / "published").glob("*.yaml"))
CALLS = FILES[0].parent / "calls" / "apr.yaml"
CODECS = ["smollm2", "qwen", "unigram"]


def codec_and_protocol(
    document: dict[str, Any], kind: str, tokens: bool, framing: str, smollm2: Path
) -> tuple[Codec, ThinkingProtocol]:
    given = {"name": document["protocol"], "framing": {"kind": framing}, **document["params"]}
    params = PROTOCOLS[document["protocol"]].params_class.model_validate_json(json.dumps(given))
    tags = vocabulary(params)[0] if tokens else ()
    codec = chat_model(smollm2, tags) if kind == "smollm2" else codec_of(kind, tags)
    return codec, build_protocol(params, codec)


@cache
def chat_model(folder: Path, tags: tuple[str, ...]) -> Codec:
    codec = load_codec(folder)
    add_structural_tokens(codec.tokenizer, tags)
    return Codec(codec.tokenizer, codec.ends)


@pytest.mark.medium
@pytest.mark.parametrize("framing", ["chat", "plain"])
@pytest.mark.parametrize("tokens", [False, True], ids=["tags as text", "tags as tokens"])
@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_published_text_is_parsed_run_and_rendered_unchanged(
    path: Path, kind: str, tokens: bool, framing: str, smollm2: Path
) -> None:
    document = yaml.safe_load(path.read_text())
    codec, protocol = codec_and_protocol(document, kind, tokens, framing, smollm2)
    transcript = unflatten(document["text"], protocol, prompt=document["prompt"])
    episode = read_transcript(transcript, protocol, codec)
    assert not episode.violations and len(episode.calls) == document["calls"]
    assert flatten(episode, document["prompt"], protocol, codec) == document["text"]
    assert codec.decode(episode.answer_ids() or ()).strip() == document["answer"]
    # Every call alone reads as the published text does up to where it ends.
    whole = "".join(document["text"].split())
    for call in episode.calls:
        assert "".join(codec.decode(call.output).split()).removesuffix(codec.decode([codec.eos])) in whole
    again = load_transcript(dump_transcript(transcript_of(episode, document["prompt"], codec)))
    assert read_transcript(again, protocol, codec).calls == episode.calls


@pytest.mark.medium
@pytest.mark.parametrize("framing", ["tags", "chat", "plain"])
@pytest.mark.parametrize("tokens", [False, True], ids=["tags as text", "tags as tokens"])
@pytest.mark.parametrize("kind", CODECS)
def test_the_calls_that_apr_publishes_are_run_and_rendered_unchanged(
    kind: str, tokens: bool, framing: str, smollm2: Path
) -> None:
    document = yaml.safe_load(CALLS.read_text())
    codec, protocol = codec_and_protocol(document, kind, tokens, framing, smollm2)
    (first, last), children = document["main_calls"], document["sub_calls"]
    threads = {(): [first, last], **{(number,): [text] for number, text in enumerate(children)}}
    results = "<End Sub Searches>\n"

    def sampled(path: tuple[int, ...], text: str) -> str:
        said = text.rpartition(results)[2] if results in text else text.split("\n", 2)[2]
        return said if text is first else f"{said}<eos>"

    said = [
        SaidCall(path=path, says=sampled(path, text))
        for path, text in (((), first), *(((n,), text) for n, text in enumerate(children)), ((), last))
    ]
    prompt = "\n".join(first.split("\n")[:2])
    transcript = Transcript(protocol="spawn_join", prompt=prompt, calls=tuple(said))
    episode = read_transcript(transcript, protocol, codec)
    assert not episode.violations and len(episode.calls) == 4
    for call in episode.calls:
        thread = episode.threads[call.thread]
        published = threads[() if thread.parent is None else (thread.key,)].pop(0)
        head = "\n".join(published.split("\n")[:2])
        frame = protocol.frame(call.role, Prompt(head))
        before = spell(episode.resolve(frame), codec)
        text = spell((*episode.context_ids(call), *call.output), codec).removesuffix("<eos>")
        assert text.startswith(before)
        assert f"{head}\n{text.removeprefix(before)}" == published
        if framing == "tags":
            # A tokenizer after SentencePiece begins a text with a space.
            assert text.removeprefix("<s>").removeprefix(" ") == published
    assert not any(threads.values())
    answer = codec.decode(episode.answer_ids() or ()).strip()
    assert answer == last.rpartition(results)[2].partition("\n")[2]
    fields = {"numbers": document["numbers"], "target": document["target"]}
    assert Countdown(CountdownParams(text="apr", high=9)).check(Problem("p", "countdown", fields), answer)


@pytest.mark.medium
def test_pacore_shows_references_by_number_and_keeps_what_follows_the_thinking(smollm2: Path) -> None:
    """PaCoRe (arXiv 2601.05593): a message is what a draft wrote behind its last `</think>`."""
    codec = load_codec(smollm2)
    params = PROTOCOLS["rounds"].params_class.model_validate(
        {
            "name": "rounds", "widths": (2,), "kappa": 200, "compaction": "answers", "trained": "synthesis",
            "answer": {"kind": "whole", "scope": "after_think"},
        }
    )  # fmt: skip
    protocol = build_protocol(params, codec)
    drafts = ["<think>6 * 7</think>\n\nIt is 42.", "<think>\n6 + 7\n</think>\nIt is 13, I think."]
    final = "<think>42 it is.</think>\n\n42"
    calls = (
        *(SaidCall(path=(number,), says=f"{text}<eos>") for number, text in enumerate(drafts)),
        SaidCall(path=(), says=f"{final}<eos>"),
    )
    episode = read_transcript(
        Transcript(protocol="rounds", prompt="What is 6 * 7?", calls=calls), protocol, codec
    )
    assert codec.decode(episode.answer_ids() or ()).strip() == "42"
    seen = codec.decode(episode.context_ids(episode.calls[-1]))
    first, second = (
        f"Original Problem:\nWhat is 6 * 7?\n\nReference Responses:\n"
        f"Reference 1:\n{one}\n\nReference 2:\n{two}\n\nThe responses may be wrong."
        for one, two in ((("It is 42."), "It is 13, I think."), ("It is 13, I think.", "It is 42."))
    )
    assert first in seen or second in seen
    assert [call.num_trained > 0 for call in episode.calls] == [False, False, True]
