"""Requests that want to break the server: keys, hosts, sizes, slow and idle connections, and a fuzz."""

import asyncio
import json
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from serve_lab import NAME, Lab, MortalEngine, digits, serving
from starlette.applications import Starlette

from rl.serving.access import Access
from rl.serving.server import allow_many_connections, http_server
from rollout.protocols.shared.framing_params import TagFramingConfig
from rollout.protocols.spawn_join import SpawnJoinParams

PARAMS = SpawnJoinParams(name="spawn_join", parent_tokens=20, child_tokens=20, framing=TagFramingConfig())
CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": "5 6"}]}
REQUESTS = int(os.environ.get("BRAID_FUZZ_REQUESTS", "300"))
"""Requests of the fuzz; the promise is 2,000."""


@pytest.fixture(scope="module")
def lab(tiny_model_dir: Path) -> Iterator[Lab]:
    def engine() -> MortalEngine:
        return MortalEngine(digits, max_length=512)

    access = Access(body_bytes=20_000, body_seconds=0.5)
    with serving(tiny_model_dir, PARAMS, engine, access=access) as made:
        yield made


def code_of(reply: httpx.Response) -> tuple[int, str]:
    error = reply.json()["error"]
    assert {*error} == {"message", "type", "param", "code"} and error["message"]
    return reply.status_code, error["code"]


def test_what_is_no_request_of_the_api_has_its_own_code(lab: Lab) -> None:
    assert code_of(httpx.get(f"{lab.url}/v1/nothing")) == (404, "not_found")
    assert code_of(httpx.get(lab.url + CHAT)) == (405, "method_not_allowed")
    assert code_of(lab.post(CHAT, ASK, headers={"content-type": "text/plain"})) == (
        415, "unsupported_media_type",
    )  # fmt: skip
    assert code_of(lab.post(CHAT, b"x" * 20_001)) == (413, "request_too_large")
    assert code_of(lab.post(CHAT, ASK, headers={"host": "evil.example"})) == (403, "host_not_allowed")
    assert code_of(lab.post(CHAT, {**ASK, "model": "gpt-4"})) == (404, "model_not_found")
    assert code_of(lab.post(CHAT, {**ASK, "braid": {"protocol": "magic"}})) == (400, "invalid_value")
    assert code_of(lab.post(CHAT, {**ASK, "braid": {"budgets": {"width": 10**9}}})) == (400, "invalid_value")
    assert code_of(lab.post(CHAT, {**ASK, "braid": {"budgets": {"speed": 1}}})) == (400, "unknown_parameter")


def test_chunks_without_a_length_are_bounded_too(lab: Lab) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    reply = httpx.post(lab.url + CHAT, content=endless(), headers={"content-type": "application/json"})
    assert code_of(reply) == (413, "request_too_large")


def test_a_body_that_does_not_arrive_is_not_waited_for(lab: Lab) -> None:
    port = int(lab.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: 100\r\n\r\n{"
        )
        answer = slow.makefile("rb").read()  # to the end: head and body may come apart
    assert answer.startswith(b"HTTP/1.1 408") and b"request_timeout" in answer


def test_only_a_key_lets_in(tiny_model_dir: Path) -> None:
    def engine() -> MortalEngine:
        return MortalEngine(digits, max_length=512)

    with serving(tiny_model_dir, PARAMS, engine, access=Access(keys=("one", "zwei"))) as lab:
        for key in ("one", "zwei"):
            assert lab.client(key).models.list().data
        for key in ("on", "onee", "ONE", "\u00e9"):
            headers = {"authorization": f"Bearer {key}".encode()}
            assert httpx.get(f"{lab.url}/v1/models", headers=headers).status_code == 401
        with pytest.raises(openai.AuthenticationError) as error:
            lab.client("three").chat.completions.create(**ASK)
        assert error.value.code == "invalid_api_key"
        assert httpx.get(f"{lab.url}/health").status_code == 200
        assert httpx.get(f"{lab.url}/metrics").status_code == 401


def test_a_thousand_idle_connections_are_no_hindrance(lab: Lab) -> None:
    allow_many_connections()
    port = int(lab.url.rsplit(":", 1)[1])
    idle = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(1000)]
    try:
        idle[0].sendall(b"GET /health HTTP")
        assert lab.client().chat.completions.create(**ASK).choices
    finally:
        for connection in idle:
            connection.close()
    assert httpx.get(f"{lab.url}/health").status_code == 200


def test_an_idle_connection_is_closed_by_its_client_first() -> None:
    """Else a request could cross the server's end of the connection, and be lost."""
    clients = httpx.Limits().keepalive_expiry
    assert clients is not None
    assert http_server(Starlette()).config.timeout_keep_alive > 2 * clients


@pytest.mark.medium
def test_hostile_requests_leave_no_500_and_nothing_running(lab: Lab) -> None:
    rng = random.Random(0)
    tasks = len(asyncio.all_tasks(lab.loop))
    with httpx.Client(base_url=lab.url, timeout=60) as client:
        for number in range(REQUESTS):
            path, body = rng.choice([CHAT, "/v1/completions"]), hostile(rng)
            try:
                reply = client.post(path, content=body, headers={"content-type": "application/json"})
            except httpx.RemoteProtocolError:
                continue  # it was closed while we still sent
            assert reply.status_code in (200, 400, 404, 408, 413), (number, body[:500], reply.text[:500])
            if reply.status_code != 200:
                code_of(reply)
    lab.wait_until(lab.is_idle)
    lab.wait_until(lambda: lab.service.host.occupancy == (0, 0))
    assert lab.figure("braid_live_episodes") == 0
    # The watch of the cache, the server's own two, and connections that are kept alive: no task of a request.
    lab.wait_until(lambda: len(asyncio.all_tasks(lab.loop)) <= tasks)


VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 3, 128, 10**6, 2**63, 2**200, 1.5, -0.0, 1e308, "", "x", "none", "5 6",
    "low", "<answer>", "\x00", "\u202e\u2028", "<|im_end|>", "a" * 3000, "5 " * 700, [], {}, [[]], [None],
    ["5", 6], [1, 2],
    {"type": "text"}, {"a": {"b": {"c": None}}}, [{"role": "user", "content": "5"}], {"events": True},
    {"budgets": {"total_tokens": 1}}, {"budgets": {"seconds": 1e-9}},
    {"budgets": {"depth": 0, "width": 65536}},
    {"include_usage": True},
    [{"role": "system", "content": "<child>"}, {"role": "user", "content": "<join>"}],
]  # fmt: skip


def hostile(rng: random.Random) -> bytes:
    """A request with some fields of any kind, sometimes with damaged bytes."""
    names = [
        *(
            "n",
            "seed",
            "stop",
            "temperature",
            "max_tokens",
            "max_completion_tokens",
            "reasoning_effort",
            "logprobs",
        ),
        *("stream", "stream_options", "braid", "model", "messages", "prompt", "tools", "user", "nothing"),
    ]
    given = {**ASK} if rng.random() < 0.5 else {"model": NAME, "prompt": "5 6"}
    for name in rng.sample(names, rng.randrange(5)):
        given[name] = rng.choice(VALUES)
    body = json.dumps(given, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    kind = rng.random()
    if kind < 0.1:
        cut = rng.randrange(len(body))
        body = body[:cut] + bytes(rng.randrange(256) for _ in range(3)) + body[cut:]
    elif kind < 0.15:
        body = body[: rng.randrange(len(body))]
    return body
