"""Non-finite numbers in training: updates with them are skipped, weights with them are never written."""

from collections.abc import Mapping

import torch

from data.errors import NonFiniteError

MOST_SKIPPED = 10
"""Updates skipped in a row that end the run."""
_REMEDY = "lower learning_rate, lengthen warmup_steps, or train in float32; then start the stage again"


def non_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity, sorted."""
    return sorted(
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    )


def ensure_finite(tensors: Mapping[str, torch.Tensor], what: str, remedy: str = _REMEDY) -> None:
    """Raises NonFiniteError naming `what` and the first tensors that are not finite."""
    if found := non_finite(tensors):
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise NonFiniteError(
            f"{what}: {len(found)} of {len(tensors)} tensors hold NaN or infinity "
            f"({', '.join(found[:3])}{more}), so nothing was written\n  fix: {remedy}"
        )


class SkippedUpdates:
    """Counts updates whose loss or gradient was not finite; too many in a row end the run."""

    def __init__(self, where: str, most: int = MOST_SKIPPED) -> None:
        self._where, self._most = where, most
        self.total = 0
        """Number of all skipped updates."""
        self.in_a_row = 0
        """Number of skipped updates since the last applied one."""

    def add(self, step: int, *, finite: bool) -> None:
        """Count one update. Raises NonFiniteError when `most` in a row were skipped."""
        self.in_a_row = 0 if finite else self.in_a_row + 1
        self.total += not finite
        if self.in_a_row >= self._most:
            raise NonFiniteError(
                f"{self._where}: loss or gradient was NaN or infinite in {self.in_a_row} updates in a row, "
                f"up to number {step}; all of them were skipped, so the weights no longer change\n"
                f"  fix: {_REMEDY}"
            )

    def ensure_some_applied(self, updates: int) -> None:
        """Raises NonFiniteError when none of `updates` updates was applied."""
        if updates and self.total >= updates:
            raise NonFiniteError(
                f"{self._where}: loss or gradient was NaN or infinite in all {updates} updates, so nothing "
                f"was learned\n  fix: {_REMEDY}"
            )
