"""How a protocol's calls are laid out for a model: the `Framing` that `ThinkingProtocol.frame` asks.

A protocol says what a call sees (the problem, texts of its own, spans of other threads' calls); a framing
says where each of these stands. So no protocol spells role tags, and a sampled id enters another context by
reference only. The problem is always text: a tag or a special token that it spells is not one.

    tags   <solo> 37 10 9 4 2 <think>                    models from random weights
    chat   <|im_start|>user .. <|im_start|>assistant     the model's template; later calls continue by ids
    plain  the same text without a template              base models
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data.episodes.trajectory import Forced, Ref, Span
from data.text.piece import Piece
from data.text.prompt import Message, Prompt
from rollout.protocols.shared.framing_params import (
    ChatFramingConfig,
    FramingConfig,
    PlainFramingConfig,
    TagFramingConfig,
)
from rollout.protocols.shared.tags import Encoder, Tags

_MOST_FRAMES = 4096
"""Most layouts that one framing caches: those of a group are the same for every sample."""
_HOLE = re.compile(r"\{(problem|task|results)(?::([^{}\n]*))?\}")
_MARK = re.compile("\ue002([0-9]+)\ue003")


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """How the calls of one role are laid out."""

    opens: str = ""
    """Role tag in front of everything; "" is none."""
    begins: str = "<think>"
    """Role tag behind which the model writes; "" is none."""
    instruction: str = "{problem}"
    """Default user turn of a framing in words, with the holes of `framing.instructions`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """Part of a call's context: what other threads have returned."""

    items: tuple[tuple[Span, ...], ...]
    names: tuple[str, ...] = ()
    """Name of each; () when they have none."""
    separated: bool = True
    """Whether role tags put `<and>` between two of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Part of a call's context that only role tags need, such as `<outline>` in front of an outline."""

    tag: str


Part = Prompt | Results | Layout | Span | str
"""Part of a call's context: the problem, results, sampled or forced spans, or a protocol's text with tags."""


def framing_of(config: FramingConfig | None, encoder: Encoder) -> FramingConfig:
    """The framing of a recipe; left out: role tags for a tokenizer of words, else the chat template if the
    tokenizer has one, else plain text.
    """
    if config is not None:
        return config
    if encoder.words_only:
        return TagFramingConfig()
    return ChatFramingConfig() if encoder.has_template else PlainFramingConfig()


class Framing(ABC):
    """Lays out the context of a thread's first call, or of a later one that begins anew."""

    def __init__(self, tags: Tags, encoder: Encoder) -> None:
        self.tags = tags
        self.encoder = encoder
        self.opening = encoder.opening
        """Ids that a context begins with where no template writes its own."""
        self._frames: dict[tuple[object, ...], tuple[Span, ...]] = {}

    def frame(self, role: str, parts: Sequence[Part], begin: str | None) -> tuple[Span, ...]:
        """Context of a call.

        Args:
            role: role of the call, a key of the protocol's `roles`.
            begin: text with tags behind which the model goes on; None: what the framing puts there itself.
        """
        # What holds another thread's ids is not seen again: only the rest is worth caching.
        if any(isinstance(part, Ref | Results) for part in parts):
            return self._lay_out(role, parts, begin)
        key = (role, begin, *parts)
        spans = self._frames.get(key)
        if spans is None:
            if len(self._frames) >= _MOST_FRAMES:
                self._frames.clear()
            spans = self._frames[key] = self._lay_out(role, parts, begin)
        return spans

    @abstractmethod
    def _lay_out(self, role: str, parts: Sequence[Part], begin: str | None) -> tuple[Span, ...]:
        """The context of a call, not yet cached."""


class TagFraming(Framing):
    """Role tags around the parts: `<solo> 37 10 9 4 2 <think>`. In exact text each stands on a line of its
    own; a role without a tag in front has its parts as they are.
    """

    def __init__(self, roles: dict[str, Role], tags: Tags, encoder: Encoder) -> None:
        super().__init__(tags, encoder)
        self._roles = roles

    def _lay_out(self, role: str, parts: Sequence[Part], begin: str | None) -> tuple[Span, ...]:
        tags, row = self._roles[role], Row(self.tags, self.encoder, opening=self.opening)
        gap = "" if self.encoder.words_only or not tags.opens else "\n"
        for part in (tags.opens, *parts):
            if part != "":
                self._add(row, part, gap)
                # A sampled message brings its own spaces; what follows it is on a line of its own.
                row.text(gap)
        row.text((tags.begins and tags.begins + gap) if begin is None else begin)
        return row.spans()

    def _add(self, row: "Row", part: Part, gap: str) -> None:
        if isinstance(part, Layout):
            row.text(part.tag)
        elif isinstance(part, Prompt):
            for message in part.history:
                row.problem(f"{message.role}: {message.content}")
                row.text(gap)
            row.problem(part.text)
        elif isinstance(part, Results):
            row.text(f"<results>{gap}")
            for number, item in enumerate(part.items):
                if number and part.separated:
                    row.text(f"<and>{gap}")
                row.text(f"{part.names[number]}: " if part.names else "")
                row.splice(item)
                row.text(gap)
            row.text("<end>")
        elif isinstance(part, str):
            row.text(part)
        else:
            row.splice((part,))


class WordFraming(Framing):
    """A user turn in words: the role's instruction, with what the call sees in its holes."""

    def __init__(
        self,
        config: ChatFramingConfig | PlainFramingConfig,
        instruction: Callable[[str], str],
        tags: Tags,
        encoder: Encoder,
    ) -> None:
        """`instruction(role)`: the user turn of a role, with holes for what a call sees."""
        super().__init__(tags, encoder)
        self._config = config
        self._instruction = instruction
        self._trims = False
        if isinstance(config, ChatFramingConfig):
            shown = encoder.chat([Message("user", " x ")], dict(config.template_arguments))
            self._trims = not any(piece.text == " x " for piece in shown)

    def _lay_out(self, role: str, parts: Sequence[Part], begin: str | None) -> tuple[Span, ...]:
        content = _filled(self._instruction(role), parts)
        prompt = next((part for part in parts if isinstance(part, Prompt)), Prompt(""))
        if isinstance(self._config, ChatFramingConfig):
            row = Row(self.tags, self.encoder)
            self._chat(row, self._config, prompt.history, content)
        else:
            row = Row(self.tags, self.encoder, opening=self.opening)
            for message in prompt.history:
                row.problem(f"{message.role}: {message.content}\n\n")
            self._content(row, content)
            row.text("\n\n")
        row.text(begin or "")
        return row.spans()

    def _chat(
        self, row: "Row", config: ChatFramingConfig, history: Sequence[Message], content: "list[Item]"
    ) -> None:
        turns = list(history)
        if config.system is not None and not any(turn.role == "system" for turn in turns):
            turns.insert(0, Message("system", config.system))
        held = [item for item in content if not isinstance(item, str)]
        numbers = iter(range(len(held)))
        text = "".join(item if isinstance(item, str) else f"\ue002{next(numbers)}\ue003" for item in content)
        if self._trims and content and isinstance(content[0], Prompt):
            held[0] = Prompt(content[0].text.lstrip())
        if self._trims and content and isinstance(content[-1], Prompt) and isinstance(held[-1], Prompt):
            held[-1] = Prompt(held[-1].text.rstrip())
        pieces = self.encoder.chat([*turns, Message("user", text)], dict(config.template_arguments))
        asked = max((n for n, piece in enumerate(pieces) if not piece.structure), default=-1)
        for number, piece in enumerate(pieces):
            if piece.structure or number != asked:
                row.piece(piece)
                continue
            for place, part in enumerate(_MARK.split(piece.text)):
                self._content(row, [held[int(part)] if place % 2 else part])

    def _content(self, row: "Row", content: "list[Item]") -> None:
        for item in content:
            if isinstance(item, str):
                row.text(item)
            elif isinstance(item, Prompt):
                row.problem(item.text)
            else:
                row.splice((item,))


Item = str | Prompt | Span
"""Part of a user turn: the protocol's or the recipe's text, the problem, or ids."""


def _filled(template: str, parts: Sequence[Part]) -> list[Item]:
    """An instruction with the parts in its holes; parts without a hole stand in front, and a hole without a
    part leaves no empty line.
    """
    given: dict[str, list[Part]] = {"problem": [], "task": [], "results": []}
    for part in parts:
        if not isinstance(part, Layout) and part != "":
            kinds = {Prompt: "problem", Results: "results"}
            given[kinds.get(type(part), "task")].append(part)
    holes = {match[1] for match in _HOLE.finditer(template)}
    missing = [name for name, found in given.items() if found and name not in holes]
    template = "".join(f"{{{name}}}\n\n" for name in missing) + template
    items: list[Item] = []
    at = 0
    for match in _HOLE.finditer(template):
        items.append(template[at : match.start()])
        at = match.end()
        if not given[match[1]] and template.startswith("\n\n", at):
            at += 2
        for part in given[match[1]]:
            items += _listed(part, match[2] or "Result") if isinstance(part, Results) else [part]  # type: ignore[list-item]
    items.append(template[at:])
    return [item for item in items if item != ""]


def _listed(results: Results, label: str) -> list[Item]:
    """Results under one another, each with its name or number."""
    items: list[Item] = []
    for number, item in enumerate(results.items):
        name = results.names[number] if results.names else str(number + 1)
        items += [f"{label} {name}:\n", *item, "\n\n"]
    return items[:-1]


class Row:
    """Spans in a row; text that stands side by side is encoded as one and becomes one span."""

    def __init__(self, tags: Tags, encoder: Encoder, *, opening: tuple[int, ...] = ()) -> None:
        """`opening`: ids in front of everything."""
        self._tags = tags
        self._encoder = encoder
        self._opening = opening
        self._spans: list[Span] = []
        self._pieces: list[Piece] = []

    def text(self, text: str) -> None:
        """Add a protocol's or a recipe's text, in which tags are tags."""
        self.piece(Piece(text, structure=True))

    def problem(self, text: str) -> None:
        """Add text of a problem, in which nothing is structure."""
        self.piece(Piece(text, structure=False))

    def piece(self, piece: Piece) -> None:
        """Add text; empty text adds nothing."""
        if piece.text:
            self._pieces.append(piece)

    def splice(self, spans: Sequence[Span]) -> None:
        """Add spans as they are."""
        if spans:
            self._close()
            self._spans += spans

    def spans(self) -> tuple[Span, ...]:
        """All that was added."""
        self._close()
        return tuple(self._spans)

    def _close(self) -> None:
        if not self._pieces and not self._opening:
            return
        ids = self._opening
        if self._encoder.words_only:
            for piece in self._pieces:
                ids += self._tags.write(piece.text) if piece.structure else self._encoder.encode(piece.text)
        else:
            ids += self._encoder.encode_pieces(self._pieces, continues=bool(self._spans))
        if ids:
            self._spans.append(Forced(ids=ids))
        self._opening = ()
        self._pieces.clear()
