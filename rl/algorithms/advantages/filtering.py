"""Whether a group can have a learning signal: the test behind `drop_zero_variance`.

A group is judged alone, before the rest of its batch is known, so the question is whether any of its trained
tokens can get an advantage other than zero:

    group baseline      a value that differs from its group's mean (every estimator but batch_std)
    batch baseline      any graded value: the mean it is compared with comes from other groups too (batch_std)
    critic              any graded episode: the critic's values decide

Values are the rewards, under child credit the children's contributions, and the rewards of calls and steps.
Only calls with trained tokens and a trained role count.

Example: rewards [1, 1] have no signal under "group_std", and have it under "batch_std", where the group
[0, 0] beside them makes the advantages +-0.866.
"""

from collections.abc import Sequence

from data.episodes.trajectory import Episode
from rewards.score import Score
from rl.algorithms.advantages.credit import Credit, credited
from rl.algorithms.advantages.estimator import Values, graded, mean
from rl.algorithms.advantages.estimators import BATCH_BASELINE
from rl.algorithms.advantages.placed import placed_advantages
from rl.algorithms.advantages.roles import role_mask

TIE = 1e-9
"""Values this close to their mean count as equal to it: the difference is rounding."""


def has_signal(
    episodes: Sequence[Episode],
    scores: Sequence[Score],
    *,
    estimator: str,
    credit: Credit = "broadcast",
    roles: Sequence[str] | None = None,
    critic: bool = False,
) -> bool:
    """Whether a group of G `episodes` with `scores` [G] can have a non-zero advantage.

    `estimator`: a name in rl.algorithms.advantages.estimators; `roles`: the roles that are trained, None for
    all; `critic`: whether advantages come from a critic (then `estimator` and `credit` are not used).
    """

    def possible(values: Values) -> list[list[float]]:
        """1 for each value whose advantage can be other than 0."""
        if critic or estimator in BATCH_BASELINE:
            return [[float(value is not None) for value in group] for group in values]
        return [_differ(group) for group in values]

    rewards = [score.value for score in scores]
    (per_call,) = credited([(episodes, rewards)], possible, "broadcast" if critic else credit)
    (of_steps,) = placed_advantages([(episodes, scores)], possible)
    return any(
        chosen and call.num_trained and (value or any(tokens))
        for episode, values, placed in zip(episodes, per_call, of_steps, strict=True)
        for value, tokens, chosen, call in zip(
            values, placed, role_mask(episode, roles), episode.calls, strict=True
        )
    )


def _differ(values: Sequence[float | None]) -> list[float]:
    """[G] 1 for each value that differs from the mean of the graded ones."""
    found = graded(values)
    if not found:
        return [0.0] * len(values)
    middle = mean(found)
    return [float(value is not None and abs(value - middle) > TIE) for value in values]
