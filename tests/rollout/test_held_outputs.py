"""What the core holds back is said later, in order, and all of it."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest

from rollout.engines.held_outputs import MOST, HeldOutputs


class Lists(NamedTuple):
    """As vLLM's LogprobsLists."""

    ids: Any
    logprobs: Any
    ranks: Any
    starts: Any = None


@dataclass
class Output:
    """As much of vLLM's EngineCoreOutput as is read."""

    request_id: str
    new_token_ids: list[int] = field(default_factory=list)
    new_logprobs: Lists | None = None
    new_prompt_logprobs_tensors: Any = None
    finish_reason: str | None = None
    prefill_stats: Any = None


def sampled(call: str, token: int, **more: Any) -> Output:
    """One step's: the token, of log-probability -token / 10 and rank 1."""
    lists = Lists(np.array([[token]]), np.array([[-token / 10]]), np.array([1]))
    return Output(call, [token], lists, **more)


def test_a_call_is_said_at_its_end() -> None:
    held = HeldOutputs()
    assert held.add(sampled("a", 1, prefill_stats="4 cached")) is None
    assert held.add(sampled("b", 9)) is None
    assert held.add(sampled("a", 2)) is None
    said = held.add(sampled("a", 3, finish_reason="stop"))
    assert said is not None and (said.request_id, said.finish_reason) == ("a", "stop")
    assert said.new_token_ids == [1, 2, 3]
    assert said.new_logprobs.ids.tolist() == [[1], [2], [3]]
    assert said.new_logprobs.logprobs.tolist() == [[-0.1], [-0.2], [-0.3]]
    assert said.new_logprobs.ranks.tolist() == [1, 1, 1]
    assert said.prefill_stats == "4 cached"
    assert held.take("a") is None
    (other,) = held.take_all()
    assert (other.request_id, other.new_token_ids) == ("b", [9])
    assert held.take_all() == []


def test_an_end_without_a_token_brings_those_before_it() -> None:
    held = HeldOutputs()
    held.add(sampled("a", 1))
    said = held.add(Output("a", finish_reason="abort"))
    assert said is not None and said.new_token_ids == [1] and said.new_logprobs.logprobs.tolist() == [[-0.1]]
    nothing = held.add(Output("b", finish_reason="abort"))
    assert nothing is not None and nothing.new_token_ids == [] and nothing.new_logprobs is None


def test_a_long_call_is_said_in_portions() -> None:
    held = HeldOutputs()
    said = [held.add(sampled("a", token)) for token in range(2 * MOST + 1)]
    portions = [output.new_token_ids for output in said if output is not None]
    assert portions == [list(range(MOST)), list(range(MOST, 2 * MOST))]
    assert said[MOST - 1] is not None and said[2 * MOST - 1] is not None


@pytest.mark.parametrize("more", [{"new_prompt_logprobs_tensors": "scores"}, {}])
def test_what_is_more_than_tokens_or_read_at_once_is_not_held(more: dict[str, Any]) -> None:
    held = HeldOutputs()
    held.add(sampled("a", 1))
    said = held.add(sampled("a", 2, **more), at_once=not more)
    assert said is not None and said.new_token_ids == [1, 2]
    assert said.new_prompt_logprobs_tensors == more.get("new_prompt_logprobs_tensors")
