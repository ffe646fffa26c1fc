"""Parts of a run that cannot be read: the report goes on without them and says which ones, and why."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from data.errors import BraidError

T = TypeVar("T")


@dataclass(kw_only=True, slots=True)
class Gaps:
    """Messages on what was left out, each once."""

    found: list[str] = field(default_factory=list)

    def attempt(self, make: Callable[[], T], otherwise: T) -> T:
        """What `make` returns; `otherwise`, with a message kept, where a file is missing or damaged."""
        try:
            return make()
        except (BraidError, OSError) as error:
            self.note(str(error))
            return otherwise

    def note(self, text: str) -> None:
        """Keep a message, each text once."""
        if text not in self.found:
            self.found.append(text)
