"""Engines of a server that die: requests go on with another engine, or fail as 503 while the server lives."""

from pathlib import Path

import httpx
import openai
import pytest
from serve_lab import NAME, MortalEngine, digits, serving

from rollout.engines.restarting import MOST_STARTS
from rollout.protocols.self_consistency import SelfConsistencyParams
from rollout.protocols.shared.framing_params import TagFramingConfig

PARAMS = SelfConsistencyParams(name="self_consistency", chains=3, chain_tokens=20, framing=TagFramingConfig())
MESSAGES = [{"role": "user", "content": "5 6"}]


def engines(*dies_after: int | None) -> "list[MortalEngine]":
    made = []
    for calls in dies_after:
        engine = MortalEngine(digits, max_length=512)
        engine.dies_after = calls
        made.append(engine)
    return made


def test_a_request_goes_on_with_another_engine(tiny_model_dir: Path) -> None:
    planned = iter(engines(2, None))
    with serving(tiny_model_dir, PARAMS, lambda: next(planned)) as lab:
        client = lab.client()
        events = []
        stream = client.chat.completions.create(
            model=NAME, messages=MESSAGES, seed=5, stream=True, extra_body={"braid": {"events": True}}
        )
        for chunk in stream:
            events += [choice["braid"] for choice in chunk.model_dump()["choices"] if "braid" in choice]
        again = client.chat.completions.create(model=NAME, messages=MESSAGES, seed=5)
        assert len(lab.engines) == 2 and lab.figure("braid_engine_deaths") == 1
    assert any(event["event"] == "call.restarted" for event in events)
    threads = again.choices[0].model_dump()["braid"]["threads"]
    for thread in threads[1:]:
        told = [e for e in events if e["event"] == "thread.text" and e["thread"] == thread["thread"]]
        assert "".join(event["text"] for event in told) == thread["calls"][0]["text"]


def test_when_all_engines_die_requests_fail_and_the_server_comes_back(tiny_model_dir: Path) -> None:
    planned = iter(engines(*[0] * (1 + MOST_STARTS), None))
    with serving(tiny_model_dir, PARAMS, lambda: next(planned)) as lab:
        client = lab.client()
        with pytest.raises(openai.InternalServerError) as error:
            client.chat.completions.create(model=NAME, messages=MESSAGES)
        assert error.value.status_code == 503 and "retry-after" in error.value.response.headers
        lab.wait_until(lambda: httpx.get(f"{lab.url}/health").status_code == 200)
        reply = client.chat.completions.create(model=NAME, messages=MESSAGES)
        assert reply.usage is not None and reply.usage.completion_tokens == 60
        assert lab.is_idle()


def test_a_stream_that_fails_says_so(tiny_model_dir: Path) -> None:
    planned = iter(engines(*[0] * (1 + MOST_STARTS), None))
    with serving(tiny_model_dir, PARAMS, lambda: next(planned)) as lab:
        stream = lab.client().chat.completions.create(model=NAME, messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="engine failed"):
            list(stream)
