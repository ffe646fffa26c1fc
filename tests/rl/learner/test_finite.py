"""What is not finite is counted, named, and never goes on for ever."""

import pytest
import torch

from data.errors import NonFiniteError
from rl.learner.finite import SkippedUpdates, ensure_finite, non_finite


def test_tensors_with_nan_or_infinity_are_named() -> None:
    tensors = {
        "b": torch.tensor([1.0, float("nan")]),
        "a": torch.tensor([float("-inf")]).bfloat16(),
        "fine": torch.tensor([3.0e38]),
        "counts": torch.tensor([1, 2]),
    }
    assert non_finite(tensors) == ["a", "b"]
    with pytest.raises(NonFiniteError, match=r"stage sft: 2 of 4 tensors hold NaN or infinity \(a, b\)"):
        ensure_finite(tensors, "stage sft")
    ensure_finite({"fine": tensors["fine"]}, "stage sft")


def test_updates_skipped_in_a_row_end_the_run_and_others_are_only_counted() -> None:
    skipped = SkippedUpdates("stage sft", most=3)
    for step, finite in enumerate([False, False, True, False, False, True], start=1):
        skipped.add(step, finite=finite)
    assert (skipped.total, skipped.in_a_row) == (4, 0)
    skipped.add(7, finite=False)
    skipped.add(8, finite=False)
    with pytest.raises(NonFiniteError, match="3 updates in a row, up to number 9"):
        skipped.add(9, finite=False)
