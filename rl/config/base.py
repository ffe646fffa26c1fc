"""One finding about a recipe, and how it becomes an error message."""

from dataclasses import dataclass
from typing import Any

from data.errors import ConfigError

_LONGEST = 240
"""Characters of a key or text that are shown; more is cut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigIssue:
    """One thing that is wrong with a recipe, in the words a user needs."""

    key: str
    """Dotted, as `--set` takes it: `rl.algorithm.clip_low`. Empty: the file as a whole."""
    value: Any
    """What stands there; None is shown as nothing."""
    reason: str
    remedy: str

    def error(self, source: str) -> ConfigError:
        """The exception to raise; `source` is the file (or the command line's own words) that says so."""
        key = self.key if len(self.key) <= _LONGEST else self.key[: _LONGEST - 3] + "..."
        where = ": ".join(part for part in (source, key) if part)
        value = "" if self.value is None or not self.key else f" = {_shorten(self.value)}"
        return ConfigError(f"{where}{value}: {self.reason}\n  fix: {self.remedy}")


def _shorten(value: Any) -> str:
    """Long lists and mappings are cut; a path or a word is the very thing to see, so it has more room."""
    text, limit = repr(value), _LONGEST if isinstance(value, str) else 60
    return text if len(text) <= limit else text[: limit - 3] + "..."
