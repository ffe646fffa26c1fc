"""Generalised advantage estimation over the episode DAG, for PPO with a critic.

Source: arXiv 1506.02438, equations 11 and 16, where every token has one successor:
    delta = r + gamma * V' - V          A = delta + gamma * lam * A'
Here a token may have several successors, and V' and A' are the uniform mean over them:
    within a call                           the next trained token
    the last trained token of a call        the first tokens of all calls that waited for it
    when no call waited for it (a sink)     none: V' = A' = 0 and r = R, the episode's reward; else r = 0
Waiting means the edges NEXT, FORK, JOIN and RETRY; SLOT is a wait for a free slot, not a
dependency. A call without trained tokens passes on what its own successors give, without a discount.

At a fork the parent's last token bootstraps from the mean of its children's first tokens and of its own
resumed call, which waited for it too. At a join every child that was waited for bootstraps from the resumed
parent: the same V', whatever its siblings did. A child that no call waited for (a cancelled one) is a
sink and gets R at its own end.

By linearity A is the expectation of the ordinary estimate along a walk that takes each successor with the
same probability. With gamma = lam = 1, A = R - V for every token. Proof, by induction from the sinks
backwards: at a sink A = R - V. Elsewhere A = mean V' - V + mean A' = mean (V' + A') - V, every V' + A' is R
by assumption, and so is their mean; a call without trained tokens only hands that mean, or R itself, on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from data.episodes.trajectory import EdgeKind, Episode


@dataclass(frozen=True, kw_only=True, slots=True)
class _Successor:
    """What follows a token: the reward in between, V' and A'."""

    reward: float
    value: float
    advantage: float


def gae(
    episode: Episode,
    values: Sequence[Sequence[float]],
    reward: float,
    *,
    gamma: float,
    lam: float,
    placed: Sequence[Sequence[float]] | None = None,
) -> tuple[list[list[float]], list[list[float]]]:
    """([calls][trained] advantages, [calls][trained] returns), where returns are advantages + values.

    `values`: [calls][trained] V of the state before each trained token. `reward`: R, given at the end.
    `placed`: [calls][trained] rewards of steps at their last tokens, added to r there.

    Example (one trained token a call; call 0 forks 1 and 2, and 3 waits for all three), R = 1, gamma = 1,
    lam = 0.5, values 0.3, 0.2, 0.6 and 0.4:
        call 3: 1 - 0.4 = 0.6
        call 1: 0.4 - 0.2 + 0.5 * 0.6 = 0.5
        call 2: 0.4 - 0.6 + 0.5 * 0.6 = 0.1
        call 0: V' = (0.2 + 0.6 + 0.4) / 3, A' = (0.5 + 0.1 + 0.6) / 3, so 0.4 - 0.3 + 0.5 * 0.4 = 0.3
    and the returns of calls 0 to 3 are 0.6, 0.7, 0.7 and 1.
    """
    assert [len(of_call) for of_call in values] == [call.num_trained for call in episode.calls]
    return estimate(episode, values, reward, gamma=gamma, lam=lam, placed=placed)


def estimate(
    episode: Episode,
    values: Sequence[Sequence[float]],
    reward: float,
    *,
    gamma: float,
    lam: float,
    placed: Sequence[Sequence[float]] | None = None,
) -> tuple[list[list[float]], list[list[float]]]:
    """`gae` for any number of steps in each call: tokens there, the whole call in `call_gae`."""
    successors = successors_of(episode)
    end = _Successor(reward=reward, value=0.0, advantage=0.0)
    heads = [end] * len(episode.calls)
    advantages: list[list[float]] = [[] for _ in episode.calls]
    for call in reversed(episode.calls):  # edges point to earlier calls, so the successors are already done
        successor = _mean([heads[other] for other in successors[call.index]]) or end
        backwards: list[float] = []
        given = placed[call.index] if placed is not None else [0.0] * len(values[call.index])
        for value, at_token in zip(reversed(values[call.index]), reversed(given), strict=True):
            delta = at_token + successor.reward + gamma * successor.value - value
            successor = _Successor(
                reward=0.0, value=value, advantage=delta + gamma * lam * successor.advantage
            )
            backwards.append(successor.advantage)
        heads[call.index] = successor
        advantages[call.index] = backwards[::-1]
    returns = [[a + v for a, v in zip(*pair, strict=True)] for pair in zip(advantages, values, strict=True)]
    return advantages, returns


def successors_of(episode: Episode) -> list[list[int]]:
    """[calls] the calls that waited for each, once each, in order; SLOT edges do not count."""
    found: list[list[int]] = [[] for _ in episode.calls]
    for call in episode.calls:
        for before in sorted({edge.call for edge in call.after if edge.kind is not EdgeKind.SLOT}):
            found[before].append(call.index)
    return found


def _mean(heads: Sequence[_Successor]) -> _Successor | None:
    """The uniform mean; None without successors."""
    if not heads:
        return None
    count = len(heads)
    return _Successor(
        reward=sum(head.reward for head in heads) / count,
        value=sum(head.value for head in heads) / count,
        advantage=sum(head.advantage for head in heads) / count,
    )
