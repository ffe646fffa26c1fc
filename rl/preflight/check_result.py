"""One line of the table that `braid check` prints."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """What was checked, and what was found."""

    about: str
    found: str
