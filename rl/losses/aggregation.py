"""How token losses become one number: the weight of each call's tokens, denominators included.

With E episodes, S_e calls and n_e trained tokens in episode e, T_c trained tokens in call c, N = sum n_e:
    token      1 / N                    every token alike (DAPO, arXiv 2503.14476)
    sequence   1 / (E n_e)              every episode alike (GRPO, arXiv 2402.03300)
    call       1 / (E S_e T_c)          every call of an episode alike (APR, arXiv 2504.15466)
    constant   1 / (E max_tokens)       no length in the denominator (Dr.GRPO, arXiv 2503.20783)
E counts all episodes of the step, those with zero advantage included, so a step with little signal is a
small step.
"""

from collections.abc import Sequence
from typing import Literal

Aggregation = Literal["token", "sequence", "call", "constant"]


def call_weights(
    trained: Sequence[Sequence[int]], aggregation: Aggregation, *, max_tokens: int = 1
) -> list[list[float]]:
    """`trained[e][c]` = trained tokens of call c in episode e -> the loss weight of each of that call's
    tokens.
    """
    num_episodes = len(trained)
    total = sum(sum(calls) for calls in trained)
    weights: list[list[float]] = []
    for calls in trained:
        tokens = sum(calls)
        if aggregation == "token":
            weights.append([1.0 / total if total else 0.0] * len(calls))
        elif aggregation == "sequence":
            weights.append([1.0 / (num_episodes * tokens) if tokens else 0.0] * len(calls))
        elif aggregation == "call":
            weights.append([1.0 / (num_episodes * len(calls) * count) if count else 0.0 for count in calls])
        else:
            weights.append([1.0 / (num_episodes * max_tokens)] * len(calls))
    return weights
