"""Generalised advantage estimation over the episode DAG."""

from collections.abc import Sequence

import pytest
from dag_lab import FORK, JOIN, NEXT, RETRY, SLOT, dag, dags, forked, near
from hypothesis import given
from hypothesis import strategies as st

from data.episodes.trajectory import Episode
from rl.algorithms.advantages.gae import gae, successors_of

# one line of thought


def test_a_chain_by_hand() -> None:
    # gamma 0.5, lam 0.5, so gamma * lam = 0.25; R = 1.
    # Third: 1 - 0.5 = 0.5. Second: 0.5 * 0.5 - 0.75 + 0.25 * 0.5 = -0.375.
    # First: 0.5 * 0.75 - 0.25 + 0.25 * -0.375 = 0.03125.
    advantages, returns = gae(dag((3, ())), [[0.25, 0.75, 0.5]], 1.0, gamma=0.5, lam=0.5)
    assert advantages == [[0.03125, -0.375, 0.5]]
    assert returns == [[0.28125, 0.375, 1.0]]


def test_calls_of_one_thread_are_one_chain_and_untrained_ones_are_not_there() -> None:
    chain = dag((1, ()), (0, ((NEXT, 0),)), (2, ((NEXT, 1),)), (0, ((NEXT, 2),)))
    advantages, returns = gae(chain, [[0.25], [], [0.75, 0.5], []], 1.0, gamma=0.5, lam=0.5)
    assert advantages == [[0.03125], [], [-0.375, 0.5], []]
    assert returns == [[0.28125], [], [0.375, 1.0], []]


def test_a_call_that_failed_bootstraps_from_the_one_that_began_anew() -> None:
    # 1 - 0.5 = 0.5, and 0.5 - 0.25 + 0.5 * 0.5 = 0.5.
    retried = dag((1, ()), (1, ((RETRY, 0),)))
    assert gae(retried, [[0.25], [0.5]], 1.0, gamma=1.0, lam=0.5)[0] == [[0.5], [0.5]]


# forks and joins


def test_a_fork_and_a_join_by_hand() -> None:
    advantages, returns = gae(forked(1, 1, 1, 1), [[0.3], [0.2], [0.6], [0.4]], 1.0, gamma=1.0, lam=0.5)
    # 3: 1 - 0.4. 1: 0.4 - 0.2 + 0.5 * 0.6. 2: 0.4 - 0.6 + 0.5 * 0.6.
    # 0: V' = (0.2 + 0.6 + 0.4) / 3 = 0.4, A' = (0.5 + 0.1 + 0.6) / 3 = 0.4; 0.4 - 0.3 + 0.5 * 0.4.
    assert advantages == near([[0.3], [0.5], [0.1], [0.6]])
    assert returns == near([[0.6], [0.7], [0.7], [1.0]])


def test_with_lam_0_a_fork_sees_the_mean_of_the_next_values() -> None:
    advantages, _ = gae(forked(2, 1, 1, 1), [[0.1, 0.3], [0.2], [0.6], [0.4]], 1.0, gamma=0.5, lam=0.0)
    # 0: 0.5 * 0.3 - 0.1 and 0.5 * 0.4 - 0.3; children 0.5 * 0.4 - 0.2 and 0.5 * 0.4 - 0.6; 3: 1 - 0.4.
    assert advantages == near([[0.05, -0.1], [0.0], [-0.4], [0.6]])


def test_an_untrained_child_lends_its_parent_what_follows_it() -> None:
    advantages, _ = gae(forked(1, 0, 1, 1), [[0.3], [], [0.6], [0.4]], 1.0, gamma=0.5, lam=0.5)
    # 3: 1 - 0.4 = 0.6. 2: 0.5 * 0.4 - 0.6 + 0.25 * 0.6 = -0.25. 1 stands for 3, without a discount.
    # 0: V' = (0.4 + 0.6 + 0.4) / 3 = 1.4 / 3, A' = (0.6 - 0.25 + 0.6) / 3 = 0.95 / 3.
    assert advantages == near([[0.7 / 3 - 0.3 + 0.2375 / 3], [], [-0.25], [0.6]])


def test_a_child_nobody_waited_for_has_the_reward_at_its_own_end() -> None:
    # 1 was cancelled; 2 goes on after 0. Both are sinks: 1 - 0.5 and 1 - 0.25.
    # 0: V' = 0.375, A' = 0.625; 0.5 * 0.375 - 0.125 + 0.25 * 0.625 = 0.21875.
    cancelled = dag((1, ()), (1, ((FORK, 0),)), (1, ((NEXT, 0),)))
    found = gae(cancelled, [[0.125], [0.5], [0.25]], 1.0, gamma=0.5, lam=0.5)
    assert found == ([[0.21875], [0.5], [0.75]], [[0.34375], [1.0], [1.0]])


def test_an_untrained_sink_hands_its_share_of_the_reward_to_whoever_came_before() -> None:
    # As above, but the cancelled child has no trained token: half of R comes at once, half of V' is 0.
    # 0: 0.5 * 1 + 0.5 * (0.25 / 2) - 0.125 + 0.25 * (0.75 / 2) = 0.53125.
    cancelled = dag((1, ()), (0, ((FORK, 0),)), (1, ((NEXT, 0),)))
    found = gae(cancelled, [[0.125], [], [0.25]], 1.0, gamma=0.5, lam=0.5)
    assert found[0] == [[0.53125], [], [0.75]]


def test_a_slot_is_not_a_successor_and_two_edges_are_one() -> None:
    shared = dag((1, ()), (1, ((FORK, 0),)), (1, ((FORK, 0), (SLOT, 1))), (1, ((NEXT, 0), (JOIN, 0))))
    assert successors_of(shared) == [[1, 2, 3], [], [], []]
    # Call 1 is a sink although call 2 had to wait for its place.
    assert gae(shared, [[0.0], [0.25], [0.5], [0.5]], 1.0, gamma=0.5, lam=0.5)[0][1] == [0.75]


# what holds for any DAG


RATES = st.floats(0, 1)


@given(given_dag=dags(), reward=st.floats(-2, 2))
def test_with_gamma_and_lam_1_every_advantage_is_the_reward_minus_the_value(
    given_dag: tuple[Episode, list[list[float]]], reward: float
) -> None:
    whole, values = given_dag
    advantages, returns = gae(whole, values, reward, gamma=1.0, lam=1.0)
    assert advantages == near([[reward - value for value in of_call] for of_call in values])
    assert returns == near([[reward] * len(of_call) for of_call in values])


def chain_advantage(values: Sequence[float], reward: float, gamma: float, lam: float) -> float:
    """The published estimate at the first token: the sum over t of (gamma * lam) ** t * delta_t."""
    following = [*values[1:], 0.0]
    deltas = [gamma * after - value for value, after in zip(values, following, strict=True)]
    deltas[-1] += reward
    return sum((gamma * lam) ** t * delta for t, delta in enumerate(deltas))


def walks(whole: Episode, values: Sequence[Sequence[float]], start: int) -> list[tuple[float, list[float]]]:
    """Every walk from the first token of a call to a sink: its probability, and the values on it."""
    successors = successors_of(whole)[start]
    own = list(values[start])
    if not successors:
        return [(1.0, own)]
    return [
        (chance / len(successors), own + rest)
        for other in successors
        for chance, rest in walks(whole, values, other)
    ]


@given(given_dag=dags(), reward=st.floats(-2, 2), gamma=RATES, lam=RATES)
def test_an_advantage_is_the_expected_one_of_a_random_walk_to_the_end(
    given_dag: tuple[Episode, list[list[float]]], reward: float, gamma: float, lam: float
) -> None:
    whole, values = given_dag
    advantages, returns = gae(whole, values, reward, gamma=gamma, lam=lam)
    for index, of_call in enumerate(values):
        expected = [
            sum(
                chance * chain_advantage(path[place:], reward, gamma, lam)
                for chance, path in walks(whole, values, index)
            )
            for place in range(len(of_call))
        ]
        assert advantages[index] == pytest.approx(expected, abs=1e-9)
        assert returns[index] == pytest.approx(
            [a + v for a, v in zip(expected, of_call, strict=True)], abs=1e-9
        )
