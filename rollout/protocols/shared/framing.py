"""How a protocol's calls are laid out for a model: the `Framing` that `ThinkingProtocol.frame` asks.

A protocol says what a call sees (the problem, texts of its own, spans of other threads' calls); a framing
says where each of these stands. So no protocol spells role tags, and a sampled id enters another context by
reference only.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from data.episodes.trajectory import Forced, Ref, Span
from data.text.prompt import Prompt
from rollout.protocols.shared.tags import Encoder, Tags

_MOST_FRAMES = 4096
"""Most layouts that one framing caches: those of a group are the same for every sample."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """How the calls of one role are laid out."""

    opens: str = ""
    """Role tag in front of everything; "" is none."""
    begins: str = "<think>"
    """Role tag behind which the model writes; "" is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """Part of a call's context: what other threads have returned."""

    items: tuple[tuple[Span, ...], ...]
    names: tuple[str, ...] = ()
    """Name of each; () when they have none."""
    separated: bool = True
    """Whether role tags put `<and>` between two of them."""


Part = Prompt | Results | Span | str
"""Part of a call's context: the problem, results, sampled or forced spans, or a protocol's text with tags."""


class Framing(ABC):
    """Lays out the context of a thread's first call, or of a later one that begins anew."""

    @abstractmethod
    def frame(self, role: str, parts: Sequence[Part], begin: str | None) -> tuple[Span, ...]:
        """Context of a call.

        Args:
            role: role of the call, a key of the protocol's `roles`.
            begin: text with tags behind which the model goes on; None: what the framing puts there itself.
        """


class TagFraming(Framing):
    """Role tags around the parts: `<solo> 37 10 9 4 2 <think>`."""

    def __init__(self, roles: dict[str, Role], tags: Tags, encoder: Encoder) -> None:
        self._roles = roles
        self._tags = tags
        self._encoder = encoder
        self._frames: dict[tuple[object, ...], tuple[Span, ...]] = {}

    def frame(self, role: str, parts: Sequence[Part], begin: str | None) -> tuple[Span, ...]:
        key = (role, begin, *parts)
        spans = self._frames.get(key)
        if spans is None:
            laid_out = self._lay_out(role, parts, begin)
            # What holds another thread's ids is not seen again: only the rest is worth caching.
            if any(isinstance(span, Ref) for span in laid_out):
                return laid_out
            if len(self._frames) >= _MOST_FRAMES:
                self._frames.clear()
            spans = self._frames[key] = laid_out
        return spans

    def _lay_out(self, role: str, parts: Sequence[Part], begin: str | None) -> tuple[Span, ...]:
        tags = self._roles[role]
        row = _Row(self._tags, self._encoder)
        row.add(tags.opens)
        for part in parts:
            row.add(part)
        row.add(tags.begins if begin is None else begin)
        return row.spans()


class _Row:
    """Spans in a row; forced ids that stand side by side are one span."""

    def __init__(self, tags: Tags, encoder: Encoder) -> None:
        self._tags = tags
        self._encoder = encoder
        self._spans: list[Span] = []
        self._ids: list[int] = []

    def add(self, part: Part) -> None:
        if isinstance(part, str):
            self._ids += self._tags.write(part)
        elif isinstance(part, Prompt):
            for message in part.history:
                self._ids += self._encoder.encode(message.content)
            self._ids += self._encoder.encode(part.text)
        elif isinstance(part, Results):
            self._results(part)
        else:
            self._close()
            self._spans.append(part)

    def spans(self) -> tuple[Span, ...]:
        self._close()
        return tuple(self._spans)

    def _results(self, results: Results) -> None:
        self.add("<results>")
        for number, item in enumerate(results.items):
            if number and results.separated:
                self.add("<and>")
            if results.names:
                self.add(f"{results.names[number]}:")
            for span in item:
                self.add(span)
        self.add("<end>")

    def _close(self) -> None:
        if self._ids:
            self._spans.append(Forced(ids=tuple(self._ids)))
            self._ids.clear()
