"""Which weights an implicit reward model had when it scored a step. Without torch: the driver records it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

CHECKSUM_BITS = 48
"""Bits of the checksum: so many are exact in a float, which metrics are."""
CHECKSUM = "implicit/checksum"
"""Name of the checksum among a learner's metrics; nobody wants to see its curve."""
_VERSION = "implicit/version"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImplicitVersion:
    """Number of updates, and checksum of the adapters, of the model that scored a step."""

    version: int
    checksum: int
    """CHECKSUM_BITS bits; it finds accidents, not adversaries."""

    def metrics(self) -> dict[str, float]:
        """Both as metrics of a learner's step."""
        return {_VERSION: float(self.version), CHECKSUM: float(self.checksum)}

    @classmethod
    def of_metrics(cls, found: Mapping[str, float]) -> Self | None:
        """Inverse of `metrics`; None without an implicit reward model."""
        if CHECKSUM not in found:
            return None
        return cls(version=int(found[_VERSION]), checksum=int(found[CHECKSUM]))

    def recorded(self) -> dict[str, int | str]:
        """As the record of a step holds it."""
        return {"version": self.version, "checksum": f"{self.checksum:0{CHECKSUM_BITS // 4}x}"}
