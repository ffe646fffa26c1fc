"""The server over a real socket, asked by the official client: replies, streams, seeds, stops, cancelling."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from serve_lab import NAME, Lab, MortalEngine, digits, serving

from rollout.protocols.self_consistency import SelfConsistencyParams
from rollout.protocols.shared.framing_params import TagFramingConfig

PARAMS = SelfConsistencyParams(name="self_consistency", chains=3, chain_tokens=20, framing=TagFramingConfig())
ASK: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": "5 6"}]}
SEQUENTIAL: dict[str, Any] = {**ASK, "model": f"{NAME}:sequential", "max_completion_tokens": 30}


@pytest.fixture(scope="module")
def lab(tiny_model_dir: Path) -> Iterator[Lab]:
    def engine() -> MortalEngine:
        return MortalEngine(digits, max_length=512)

    with serving(tiny_model_dir, PARAMS, engine) as made:
        yield made


@pytest.fixture(scope="module")
def slow(tiny_model_dir: Path) -> Iterator[Lab]:
    """A server whose engine takes 20 ms for a token."""

    def engine() -> MortalEngine:
        return MortalEngine(digits, max_length=512, step_s=0.02)

    with serving(tiny_model_dir, PARAMS, engine, most=6) as made:
        yield made


def test_models_are_listed_and_found(lab: Lab) -> None:
    client = lab.client()
    names = [model.id for model in client.models.list()]
    assert names[0] == NAME and {f"{NAME}:sequential", f"{NAME}:spawn_join"} <= {*names}
    assert f"{NAME}:self_consistency" not in names, "it has no suffix"
    assert client.models.retrieve(f"{NAME}:sequential").object == "model"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("other")
    assert error.value.code == "model_not_found"


def test_a_reply_has_its_costs(lab: Lab) -> None:
    reply = lab.client().chat.completions.create(**ASK, seed=3)
    assert reply.usage is not None and reply.usage.completion_tokens == 60, "three chains of 20 tokens"
    choice = reply.choices[0].model_dump()
    assert reply.usage.model_dump()["critical_tokens"] == choice["braid"]["critical_tokens"] == 20
    assert (choice["finish_reason"], choice["braid"]["answered"]) == ("stop", False)
    assert choice["message"]["content"] == "", "nobody answered"
    assert choice["braid"]["seed"] == "3/0/0"
    threads = choice["braid"]["threads"]
    assert [thread["thread"] for thread in threads] == ["root", "root.0", "root.1", "root.2"]
    assert [call["tokens"] for thread in threads for call in thread["calls"]] == [20, 20, 20]
    assert lab.figure("braid_sampled_tokens_total") >= 60


def test_a_stream_adds_up_to_the_reply_and_tells_of_its_threads(lab: Lab) -> None:
    client = lab.client()
    whole = client.chat.completions.create(**SEQUENTIAL, seed=4)
    events, text, usage = [], "", None
    stream = client.chat.completions.create(
        **SEQUENTIAL, seed=4, stream=True, stream_options={"include_usage": True},
        extra_body={"braid": {"events": True}},
    )  # fmt: skip
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.model_dump()["choices"]:
            text += choice["delta"].get("reasoning_content") or ""
            events += [choice["braid"]] if "braid" in choice else []
    assert text == whole.choices[0].message.model_dump()["reasoning_content"] != ""
    assert usage is not None and whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens == 30
    kinds = [event["event"] for event in events]
    assert kinds[:2] == ["thread.opened", "call.started"]
    assert kinds[-3:] == ["call.ended", "thread.closed", "episode.ended"]
    assert "".join(event["text"] for event in events if event["event"] == "thread.text") == text
    assert sum(event["tokens"] for event in events if event["event"] == "thread.text") == 30
    assert events[-1]["total_tokens"] == 30 and len(events[-1]["threads"]) == 1


def test_a_plain_stream_has_no_events_of_threads(lab: Lab) -> None:
    stream = lab.client().chat.completions.create(**SEQUENTIAL, seed=4, stream=True)
    chunks = [choice for chunk in stream for choice in chunk.model_dump()["choices"]]
    assert chunks[0]["delta"]["role"] == "assistant"
    assert [chunk["braid"]["event"] for chunk in chunks if "braid" in chunk] == ["episode.ended"]
    assert [chunk["finish_reason"] for chunk in chunks if chunk["finish_reason"]] == ["length"]


def test_choices_and_prompts_have_the_seeds_of_samples_and_problems(lab: Lab) -> None:
    client = lab.client()
    together = client.completions.create(
        model=f"{NAME}:sequential", prompt=["5 6", "7 8"], n=2, seed=9, max_tokens=12, logprobs=0
    )
    assert [choice.index for choice in together.choices] == [0, 1, 2, 3]
    for number, (group, sample) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        alone = client.completions.create(
            model=f"{NAME}:sequential", prompt=["5 6", "7 8"][group], seed=9, max_tokens=12,
            extra_body={"braid": {"group": group, "sample": sample}},
        )  # fmt: skip
        assert alone.choices[0].text == together.choices[number].text
        assert alone.choices[0].model_dump()["braid"]["seed"] == f"9/{group}/{sample}"
    found = together.choices[0].logprobs
    assert found is not None and found.tokens is not None and found.token_logprobs is not None
    assert len(found.tokens) == len(found.token_logprobs) == 12
    assert len({choice.text for choice in together.choices}) == 4


def test_without_a_seed_the_reply_says_which_one_it_had(lab: Lab) -> None:
    client = lab.client()
    first = client.chat.completions.create(**SEQUENTIAL).choices[0].model_dump()
    seed = int(first["braid"]["seed"].split("/")[0])
    again = client.chat.completions.create(**SEQUENTIAL, seed=seed).choices[0].model_dump()
    assert again["message"] == first["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_text_ends_the_root_and_is_not_shown(lab: Lab, stream: bool) -> None:
    client = lab.client()
    whole = client.completions.create(model=f"{NAME}:sequential", prompt="5 6", seed=4, max_tokens=40)
    text = whole.choices[0].text
    stop = text[20:23]
    asked = {
        "model": f"{NAME}:sequential",
        "prompt": "5 6",
        "seed": 4,
        "max_tokens": 40,
        "stop": ["zzz", stop],
    }
    if stream:
        found = [
            choice for chunk in client.completions.create(**asked, stream=True) for choice in chunk.choices
        ]
        shown, reason = "".join(choice.text for choice in found), found[-1].finish_reason
    else:
        reply = client.completions.create(**asked)
        shown, reason = reply.choices[0].text, reply.choices[0].finish_reason
        assert reply.usage is not None and reply.usage.completion_tokens < 40
    assert shown == text[: text.index(stop)]
    assert reason == "stop"


def test_effort_and_budgets_change_the_width(lab: Lab) -> None:
    client = lab.client()
    low = client.chat.completions.create(**ASK, reasoning_effort="low", seed=1)
    high = client.chat.completions.create(**ASK, reasoning_effort="high", seed=1)
    both = client.chat.completions.create(
        **ASK, reasoning_effort="high", seed=1, extra_body={"braid": {"budgets": {"width": 1, "depth": None}}}
    )
    widths = [reply.choices[0].model_dump()["braid"]["width"] for reply in (low, high, both)]
    assert widths == [2, 8, 1]
    set_so = client.chat.completions.create(
        **ASK, seed=1, extra_body={"braid": {"settings": {"chains": 2, "chain_tokens": 5}}}
    )
    assert set_so.usage is not None and set_so.usage.completion_tokens == 10
    for wrong in ("chains", "name", "speed"):
        with pytest.raises(openai.BadRequestError) as error:
            client.chat.completions.create(**ASK, extra_body={"braid": {"settings": {wrong: "x"}}})
        assert error.value.param == f"braid.settings.{wrong}"
    for absurd in ({"budgets": {"width": 65_536}}, {"settings": {"chains": 65_536}}):
        with pytest.raises(openai.BadRequestError, match="65536 threads"):
            client.chat.completions.create(**ASK, extra_body={"braid": absurd})
    capped = client.chat.completions.create(**ASK, max_completion_tokens=7, seed=1)
    assert capped.usage is not None and capped.usage.completion_tokens == 7, "of all threads together"


def test_a_prompt_that_spells_tags_or_is_too_long(lab: Lab) -> None:
    client = lab.client()
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "5 " * 600 + "6"}])
    assert error.value.code == "context_length_exceeded" and error.value.param == "messages"
    assert " 512 " in error.value.message and "60" in error.value.message
    for text in ("hello", "\x00", "5 \u202e 6"):
        with pytest.raises(openai.BadRequestError) as error:
            client.completions.create(model=NAME, prompt=text)
        assert (error.value.code, error.value.param) == ("invalid_prompt", "prompt")
        assert str(lab.service.codec.name) not in error.value.message, "a path of this machine"


def test_a_client_that_goes_away_cancels_its_threads_and_they_are_paid_for(slow: Lab) -> None:
    before = slow.figure("braid_sampled_tokens_total")
    stream = slow.client().chat.completions.create(**ASK, stream=True, extra_body={"braid": {"events": True}})
    for chunk in stream:
        if chunk.model_dump()["choices"][0].get("braid", {}).get("event") == "thread.text":
            break
    stream.close()
    slow.wait_until(slow.is_idle)
    spent = slow.figure("braid_sampled_tokens_total") - before
    assert 0 < spent < 60
    assert slow.figure("braid_cancelled_tokens_total") >= spent
    assert slow.figure("braid_clients_gone_total") == 1
    assert slow.figure("braid_cancel_steps_max") <= 1


def test_a_client_that_does_not_stream_and_gives_up_is_noticed_too(slow: Lab) -> None:
    gone = slow.figure("braid_clients_gone_total")
    with pytest.raises(openai.APITimeoutError):
        slow.client().with_options(timeout=0.15).chat.completions.create(**ASK)
    slow.wait_until(lambda: slow.figure("braid_clients_gone_total") == gone + 1)
    assert slow.is_idle()


def test_when_there_is_no_room_the_client_is_told_when_to_come_back(slow: Lab) -> None:
    client = slow.client()
    with pytest.raises(openai.BadRequestError) as impossible:
        client.chat.completions.create(**ASK, n=7)
    assert impossible.value.param == "n"
    stream = client.chat.completions.create(**ASK, n=5, stream=True)
    next(iter(stream))
    with pytest.raises(openai.RateLimitError) as full:
        client.chat.completions.create(**ASK, n=2)
    assert full.value.code == "rate_limit_exceeded"
    assert 1 <= int(full.value.response.headers["retry-after"]) <= 60
    stream.close()
    slow.wait_until(slow.is_idle)


def test_a_server_that_stops_takes_no_more(slow: Lab) -> None:
    slow.service.draining = True
    try:
        assert slow.post("/v1/chat/completions", ASK).status_code == 503
        with pytest.raises(openai.InternalServerError) as error:
            slow.client().chat.completions.create(**ASK)
        assert error.value.code == "service_unavailable"
    finally:
        slow.service.draining = False
