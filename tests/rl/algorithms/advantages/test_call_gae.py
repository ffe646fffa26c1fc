"""Advantages of whole calls, by hand, and where they equal those of tokens."""

import pytest
from dag_lab import NEXT, dag, dags, forked, near
from hypothesis import given, settings
from hypothesis import strategies as st

from data.episodes.trajectory import Episode
from rl.algorithms.advantages.call_gae import at_call_heads, call_gae
from rl.algorithms.advantages.gae import gae

CHAIN = dag((2, ()), (1, ((NEXT, 0),)), (3, ((NEXT, 1),)))


def test_a_chain_of_three_calls_by_hand() -> None:
    # Values behind the first token of a call, here 9, do not count.
    values = [[0.25, 9.0], [0.75], [0.5, 9.0, 9.0]]
    advantages, returns = call_gae(CHAIN, values, 1.0, gamma=0.5, lam=0.5)
    # 1 - 0.5; 0.5 * 0.5 - 0.75 + 0.25 * 0.5; 0.5 * 0.75 - 0.25 + 0.25 * -0.375.
    assert advantages == [[0.03125] * 2, [-0.375], [0.5] * 3]
    assert returns == [[0.28125, 9.0], [0.375], [1.0, 9.0, 9.0]]


def test_a_fork_of_two_and_a_join_by_hand() -> None:
    values = [[0.3, 9.0], [0.2, 9.0, 9.0], [0.6], [0.4, 9.0]]
    advantages, returns = call_gae(forked(2, 3, 1, 2), values, 1.0, gamma=0.5, lam=0.5)
    # 3: 1 - 0.4. 1: 0.5 * 0.4 - 0.2 + 0.25 * 0.6. 2: 0.5 * 0.4 - 0.6 + 0.25 * 0.6.
    # 0: V' = (0.2 + 0.6 + 0.4) / 3 = 0.4, A' = (0.15 - 0.25 + 0.6) / 3 = 0.5 / 3;
    # 0.5 * 0.4 - 0.3 + 0.25 * 0.5 / 3.
    first = -0.1 + 0.125 / 3
    assert advantages == near([[first] * 2, [0.15] * 3, [-0.25], [0.6] * 2])
    assert [of_call[0] for of_call in returns] == pytest.approx([first + 0.3, 0.35, 0.35, 1.0])


def test_rewards_inside_a_call_are_its_own() -> None:
    values = [[0.3, 9.0], [0.2, 9.0, 9.0], [0.6], [0.4, 9.0]]
    placed = [[0.0, 0.0], [0.1, 0.0, 0.2], [0.0], [0.0, 0.0]]
    plain, _ = call_gae(forked(2, 3, 1, 2), values, 1.0, gamma=0.5, lam=0.5)
    found, _ = call_gae(forked(2, 3, 1, 2), values, 1.0, gamma=0.5, lam=0.5, placed=placed)
    # 0.3 for the child; a third of it, times gamma * lam, for the parent; nothing for what came later.
    gained = [a[0] - b[0] for a, b in zip(found, plain, strict=True)]
    assert gained == pytest.approx([0.025, 0.3, 0.0, 0.0])


@settings(max_examples=20, deadline=None)
@given(dags(), st.floats(-2, 2), st.floats(0.05, 1), st.floats(0, 1))
def test_with_one_token_a_call_it_is_the_estimate_of_tokens(
    made: tuple[Episode, list[list[float]]], reward: float, gamma: float, lam: float
) -> None:
    episode, values = made
    single = dag(*((min(1, c.num_trained), [(e.kind, e.call) for e in c.after]) for c in episode.calls))
    heads = [of_call[:1] for of_call in values]
    assert call_gae(single, heads, reward, gamma=gamma, lam=lam) == gae(
        single, heads, reward, gamma=gamma, lam=lam
    )


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=6), st.floats(-2, 2), st.floats(0.05, 1))
def test_a_single_call_gets_reward_minus_value(values: list[float], reward: float, gamma: float) -> None:
    """With lambda 1 and no discount, what tokens give to the first one."""
    episode = dag((len(values), ()))
    found, _ = call_gae(episode, [values], reward, gamma=gamma, lam=0.5)
    tokens, _ = gae(episode, [values], reward, gamma=1.0, lam=1.0)
    assert found == [[reward - values[0]] * len(values)]
    assert found[0][0] == pytest.approx(tokens[0][0], abs=1e-9)


def test_the_critics_loss_stands_at_the_beginnings_of_calls() -> None:
    assert at_call_heads([[0.1, 0.1, 0.0], [0.1], [0.0, 0.0]]) == [
        pytest.approx([0.15, 0, 0]), pytest.approx([0.15]), [0.0, 0.0],
    ]  # fmt: skip
    assert at_call_heads([]) == []
