"""One issue of a recipe, and its error message."""

from dataclasses import dataclass
from typing import Any

from data.errors import ConfigError

_LONGEST = 240
"""Longest key or text shown, in characters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigIssue:
    """One thing that is wrong with a recipe: where, why, and the remedy."""

    key: str
    """Dotted, as `--set` takes it: `rl.algorithm.clip_low`. Empty: the file as a whole."""
    value: Any
    """Value found there; None is not shown."""
    reason: str
    remedy: str

    def error(self, source: str) -> ConfigError:
        """The exception to raise; `source` is the file or the `--set` argument that has the value."""
        key = self.key if len(self.key) <= _LONGEST else self.key[: _LONGEST - 3] + "..."
        where = ": ".join(part for part in (source, key) if part)
        value = "" if self.value is None or not self.key else f" = {_shorten(self.value)}"
        return ConfigError(f"{where}{value}: {self.reason}\n  fix: {self.remedy}")


def _shorten(value: Any) -> str:
    """Cut long values; text (a path, a word) may be longer than lists and mappings."""
    text, limit = repr(value), _LONGEST if isinstance(value, str) else 60
    return text if len(text) <= limit else text[: limit - 3] + "..."
