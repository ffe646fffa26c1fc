"""The advantage estimators by name; the formulas are in the files of their functions."""

from rl.algorithms.advantages.batch import batch_std, group_mean_batch_std, group_mean_reward_std
from rl.algorithms.advantages.estimator import Estimator
from rl.algorithms.advantages.group import group_mean, group_std
from rl.algorithms.advantages.leave_one_out import leave_one_out

ESTIMATORS: dict[str, Estimator] = {
    "group_std": group_std,
    "group_mean": group_mean,
    "leave_one_out": leave_one_out,
    "batch_std": batch_std,
    "group_mean_batch_std": group_mean_batch_std,
    "group_mean_reward_std": group_mean_reward_std,
}

BATCH_BASELINE = frozenset({"batch_std"})
"""Estimators that compare a value with the mean of the batch: a group of equal values has advantages too."""
