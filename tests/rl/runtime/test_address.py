"""`--address` is refused at once where nobody answers; Ray would try for minutes."""

import socket

import pytest

from data.errors import ConfigError
from rl.runtime.address import ensure_answers


def refusal(address: str) -> str:
    with pytest.raises(ConfigError) as caught:
        ensure_answers(address)
    return str(caught.value)


def test_no_address_and_auto_ask_nobody() -> None:
    ensure_answers(None)
    ensure_answers("auto")


def test_somebody_answers_and_then_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        ensure_answers(address)
    assert "nothing answers there" in refusal(address)
    assert "fix:" in refusal(address)


@pytest.mark.parametrize("address", ["cluster", "127.0.0.1", ":6379", "host:port"])
def test_what_is_no_address(address: str) -> None:
    assert f"--address {address}: is neither HOST:PORT nor auto" in refusal(address)


def test_clients_outside_of_the_cluster_are_told_where_to_go() -> None:
    assert "ray job submit" in refusal("ray://127.0.0.1:10001")
