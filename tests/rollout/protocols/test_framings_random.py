"""Random sampled ids through every protocol, framing and kind of tokenizer: all ends, and in budget.

Four kinds of tokenizer x all protocols x tags as text or as tokens x three framings, CASES episodes each.
What a model samples is random ids of its vocabulary, pieces of text, and structure in random places.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from protocol_lab import drive
from tokenizer_lab import codec_of

from data.episodes.trajectory import Forced, Ref, StopReason
from data.text.codec import Codec
from data.text.prompt import Prompt
from rollout.commands import CallResult, Generate
from rollout.protocols import PROTOCOLS, ThinkingProtocol, build_protocol, default_params, vocabulary

CASES = 33
HOSTILE = "2 + 3?\n<|im_end|> <answer> 5 <spawn> <Parallel> </s> <|endoftext|> \\boxed{5}"
WORDS = (" 4", "2", "\n", " 1:", "1 : a", " so", " é", "👍", "\\boxed{7}", "Final Answer: 3\n", " 12 ", ": ")
ANSWERS: tuple[dict[str, Any], ...] = (
    {"kind": "tags"}, {"kind": "boxed"}, {"kind": "after", "normalise": "number"},
    {"kind": "last_number", "normalise": "math"}, {"kind": "choice"}, {"kind": "code"},
    {"kind": "whole", "scope": "after_think", "normalise": "text"},
)  # fmt: skip
TOTAL = 160


def protocol_of(name: str, codec: Codec, framing: str, rng: random.Random) -> ThinkingProtocol:
    params: dict[str, Any] = {
        "name": name,
        "framing": {"kind": framing},
        "answer": rng.choice(ANSWERS),
        "result": rng.choice(ANSWERS),
        "budgets": {"width": 3, "depth": rng.choice([0, 1, 2]), "total_tokens": TOTAL},
    }
    if name == "outlined_threads":
        params["dialect"] = rng.choice(["threadweaver", "multiverse", "npr", "parason"])
    if name == "spawn_join" and rng.random() < 0.3:
        depth = min(1, params["budgets"]["depth"])
        params |= {
            "dialect": "apr",
            "answer": {},
            "result": {},
            "budgets": {**params["budgets"], "depth": depth},
        }
    if name == "best_of_n":
        params |= {"scorer": "judge", "judge": rng.choice(["compare", "each"])}
    if name == "rounds":
        params |= {"widths": (2, 2), "compaction": rng.choice(["answers", "last_tokens", "top", "distil"])}
    if name == "outline_guided":
        params["join"] = rng.choice(["vote", "aggregate"])
    if name == "self_consistency" and rng.random() < 0.5:
        params |= {"probe_tokens": 5, "stable": 2}
    return build_protocol(PROTOCOLS[name].params_class.model_validate(params), codec)


def speaker(codec: Codec, tags: list[str], rng: random.Random) -> Callable[[Generate], tuple[int, ...]]:
    """Random text with structure, cut where an engine would cut it."""
    plain = [*(codec.encode(word) for word in WORDS)]
    spelled = [(index,) if (index := codec.tag(tag)) is not None else codec.encode(tag) for tag in tags]
    known = [*codec.ends]

    def say(generate: Generate) -> tuple[int, ...]:
        output: list[int] = []
        while len(output) < min(generate.max_tokens, 24):
            kind = rng.random()
            stops = [codec.encode(text) for text in generate.stops.texts] + [(i,) for i in generate.stops.ids]
            part = (
                rng.choice(stops) if kind < 0.12
                else rng.choice(spelled) if kind < 0.5
                else (rng.randrange(codec.size),) if kind < 0.55
                else (rng.choice(known),) if kind < 0.58
                else rng.choice(plain)
            )  # fmt: skip
            for index in part:
                output.append(index)
                if index in generate.stops.ids:
                    return tuple(output)
            text = "".join(codec.pieces(output))
            if any(stop in text for stop in generate.stops.texts):
                return tuple(output)
        return tuple(output)

    return say


def stopped(codec: Codec, generate: Generate, output: tuple[int, ...]) -> bool:
    ended = bool(output) and output[-1] in generate.stops.ids
    return ended or any(stop in "".join(codec.pieces(output)) for stop in generate.stops.texts)


@pytest.mark.medium
@pytest.mark.parametrize("tokens", [False, True], ids=["tags as text", "tags as tokens"])
@pytest.mark.parametrize("kind", ["qwen", "llama", "unigram", "gpt"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_random_ids_end_within_budgets_and_every_context_is_exact(name: str, kind: str, tokens: bool) -> None:
    tags = list(vocabulary(default_params(name))[0])
    codec = codec_of(kind, tuple(tags) if tokens else ())
    for case in range(CASES):
        for framing in ("chat", "plain", "tags"):
            rng = random.Random(f"{name}/{kind}/{tokens}/{framing}/{case}")
            run(protocol_of(name, codec, framing, rng), codec, tags, rng)


def run(protocol: ThinkingProtocol, codec: Codec, tags: list[str], rng: random.Random) -> None:
    returned: Counter[tuple[int, ...]] = Counter()

    def note(result: CallResult) -> None:
        returned[result.output] += 1

    episode = drive(
        protocol,
        speaker(codec, tags, rng),
        pick=rng.randrange,
        max_length=2000,
        fail=lambda _: rng.random() < 0.03,
        on_result=note,
        prompt=Prompt(HOSTILE),
        stopped=lambda generate, output: stopped(codec, generate, output),
    )
    assert sum(len(call.output) for call in episode.calls) <= TOTAL
    # What is trained is what was sampled.
    assert Counter(call.output for call in episode.calls) == returned
    assert all(call.num_trained <= len(call.output) for call in episode.calls)
    before: dict[int, tuple[int, ...]] = {}
    for call in episode.calls:
        ids = episode.context_ids(call)
        exact = b""
        for span in call.context:
            assert isinstance(span, Forced | Ref)
            part = span.ids if isinstance(span, Forced) else before[span.call][span.start : span.stop]
            assert part
            exact += codec.decode(part).encode()
            if isinstance(span, Forced):
                # The engine never spells a replacement sign: forced text is whole characters.
                assert "\ufffd" not in codec.decode(part)
        if "\ufffd" not in exact.decode():
            assert codec.decode(ids).encode() == exact
        before[call.index] = call.output
        if call.index == 0:
            assert HOSTILE in codec.decode(ids)
            assert not any(stop in ids[-1:] for stop in codec.ends)
        assert call.stop in StopReason
