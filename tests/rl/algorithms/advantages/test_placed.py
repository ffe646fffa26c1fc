"""Advantages from rewards of calls and steps, with numbers worked out by hand."""

from dataclasses import replace

import pytest
from episodes import call, episode

from rewards.score import CallReward, Score, StepReward
from rl.algorithms.advantages.estimators import ESTIMATORS
from rl.algorithms.advantages.gae import gae
from rl.algorithms.advantages.placed import placed_advantages, placed_rewards


def step(index: int, start: int, stop: int, value: float) -> StepReward:
    return StepReward(call=index, start=start, stop=stop, value=value)


def test_steps_of_a_group_are_compared_with_each_other() -> None:
    episodes = [episode((call(0, 0, 4),)), episode((call(0, 0, 3),))]
    scores = [
        Score(value=1.0, steps=(step(0, 0, 2, 1.0), step(0, 2, 4, 0.0))),
        Score(value=0.0, steps=(step(0, 0, 3, 0.5),)),
    ]
    # Mean 0.5: 0.5, -0.5 and 0. Tokens before the end of both steps get 0.5 - 0.5.
    found = placed_advantages([(episodes, scores)], ESTIMATORS["group_mean"])
    assert found == [[[[0.0, 0.0, -0.5, -0.5]], [[0.0, 0.0, 0.0]]]]
    # Standard deviation of 1, 0, 0.5: sqrt((0.25 + 0.25 + 0) / 2) = 0.5, so 1, -1 and 0.
    ((first, second),) = placed_advantages([(episodes, scores)], ESTIMATORS["group_std"])
    assert first[0] == pytest.approx([0.0, 0.0, -1.0, -1.0], abs=1e-5) and second == [[0.0] * 3]


def test_a_calls_own_reward_counts_for_all_its_tokens_and_for_no_other_call() -> None:
    # A parent of two tokens and its two children, of which the first gets 3 and the second 1.
    forked = episode((call(0, 0, 2), call(1, 1, 2, (0,)), call(2, 2, 1, (0,))))
    score = Score(value=0.0, calls=(CallReward(call=1, value=3.0), CallReward(call=2, value=1.0)))
    found = placed_advantages([([forked], [score])], ESTIMATORS["group_mean"])
    assert found == [[[[0.0, 0.0], [1.0, 1.0], [-1.0]]]]


def test_calls_and_steps_are_normalised_apart_and_add_up() -> None:
    pair = [episode((call(0, 0, 2),)), episode((call(0, 0, 2),))]
    scores = [
        Score(value=0.0, calls=(CallReward(call=0, value=10.0),), steps=(step(0, 0, 1, 1.0),)),
        Score(value=0.0, calls=(CallReward(call=0, value=20.0),), steps=(step(0, 0, 1, 0.0),)),
    ]
    # Calls: -5 and 5; steps: 0.5 and -0.5, on the first token alone.
    found = placed_advantages([(pair, scores)], ESTIMATORS["group_mean"])
    assert found == [[[[-4.5, -5.0]], [[4.5, 5.0]]]]


def test_harmless_steps_earn_where_the_mean_step_loses() -> None:
    """What docs/rewards.md says of `difference`: the rewards telescope, centred ones do not."""
    pair = [episode((call(0, 0, 1),)), episode((call(0, 0, 2),))]
    scores = [
        Score(value=0.0, steps=(step(0, 0, 1, -1.0),)),
        Score(value=0.0, steps=(step(0, 0, 1, 0.0), step(0, 1, 2, 0.0))),
    ]
    # Mean -1/3: the two steps of 0 count 1/3 each.
    ((first, second),) = placed_advantages([(pair, scores)], ESTIMATORS["group_mean"])
    assert first[0] == pytest.approx([-2 / 3]) and second[0] == pytest.approx([2 / 3, 1 / 3])


def test_nothing_is_credited_without_rewards_or_trained_tokens() -> None:
    silent = episode((replace(call(0, 0, 3), num_trained=0),))
    score = Score(value=1.0, calls=(CallReward(call=0, value=1.0),), steps=(step(0, 0, 3, 1.0),))
    assert placed_advantages([([silent], [score])], ESTIMATORS["batch_std"]) == [[[[]]]]
    assert placed_rewards(silent, score) == [[]]
    plain = [episode((call(0, 0, 2),))]
    assert placed_advantages([(plain, [Score(value=1.0)])], ESTIMATORS["group_std"]) == [[[[0.0, 0.0]]]]


def test_a_step_that_ends_in_tokens_that_are_not_trained_counts_for_those_before_it() -> None:
    cut = episode((replace(call(0, 0, 4), num_trained=2),))
    score = Score(value=0.0, steps=(step(0, 1, 4, 2.0),))
    assert placed_rewards(cut, score) == [[0.0, 2.0]]


def test_with_a_critic_a_step_is_rewarded_at_its_last_token() -> None:
    # R = 1, gamma = lam = 0.5, values 0.25, 0.75, 0.5; a step of 2 ends at the second token.
    # Third: 1 - 0.5 = 0.5. Second: 2 + 0.5 * 0.5 - 0.75 + 0.25 * 0.5 = 1.625.
    # First: 0.5 * 0.75 - 0.25 + 0.25 * 1.625 = 0.53125.
    one = episode((call(0, 0, 3),))
    placed = placed_rewards(one, Score(value=1.0, steps=(step(0, 0, 2, 2.0),)))
    assert placed == [[0.0, 2.0, 0.0]]
    advantages, returns = gae(one, [[0.25, 0.75, 0.5]], 1.0, gamma=0.5, lam=0.5, placed=placed)
    assert advantages == [[0.53125, 1.625, 0.5]]
    assert returns == [[0.78125, 2.375, 1.0]]
