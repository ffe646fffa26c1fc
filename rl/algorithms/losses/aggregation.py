"""How token losses become one number: the weight of each call's tokens, denominators included.

With E episodes, S_e calls and n_e trained tokens in episode e, T_c trained tokens in call c, N = sum n_e,
P groups (prompts) and n_p trained tokens in group p:
    token      1 / N                    every token alike (DAPO, arXiv 2503.14476)
    sequence   1 / (E n_e)              every episode alike (GRPO, arXiv 2402.03300)
    call       1 / (E S_e T_c)          every call of an episode alike (APR, arXiv 2504.15466)
    constant   1 / (E max_tokens)       no length in the denominator (Dr.GRPO, arXiv 2503.20783)
    prompt     1 / (P n_p)              every group alike (ScaleRL, arXiv 2510.13786)
E and P count all episodes and groups of the step, those with zero advantage included, so a step with little
signal is a small step.
"""

from collections.abc import Sequence
from typing import Literal

Aggregation = Literal["token", "sequence", "call", "constant", "prompt"]


def call_weights(
    trained: Sequence[Sequence[int]],
    aggregation: Aggregation,
    *,
    max_tokens: int = 1,
    groups: Sequence[int] | None = None,
) -> list[list[float]]:
    """`trained[e][c]` = trained tokens of call c in episode e -> the loss weight of each of that call's
    tokens. `groups[e]` = the group of episode e; only `prompt` needs it.

    Example (`prompt`; episodes [[3], [1], [2]] of groups 0, 0, 1): [[1 / 8], [1 / 8], [1 / 4]]
    """
    num_episodes = len(trained)
    total = sum(sum(calls) for calls in trained)
    if aggregation == "prompt":
        return _prompt_weights(trained, groups)
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


def _prompt_weights(trained: Sequence[Sequence[int]], groups: Sequence[int] | None) -> list[list[float]]:
    assert groups is not None
    tokens = dict.fromkeys(groups, 0)
    for group, calls in zip(groups, trained, strict=True):
        tokens[group] += sum(calls)
    return [
        [1.0 / (len(tokens) * tokens[group]) if tokens[group] else 0.0] * len(calls)
        for group, calls in zip(groups, trained, strict=True)
    ]
