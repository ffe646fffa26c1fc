"""Recipe keys of a protocol's framing: role tags, the model's chat template, or plain text."""

from typing import Annotated, Literal

from pydantic import Field

from data.params import Params

_Number = Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)]
FramingKind = Literal["tags", "chat", "plain"]
"""How calls are laid out; the classes below have one each."""


class TagFramingConfig(Params):
    """Role tags around what a call sees, as in `<solo> 37 10 9 4 2 <think>`."""

    kind: Literal["tags"] = "tags"
    """Kind of the framing, here role tags."""


class _Told(Params):
    """Base of framings that tell the model in words what to do."""

    instructions: dict[str, str] = Field(default_factory=dict)
    """User turn of each role; left out: the protocol's own. Holes: `{problem}`, `{task}` (what another thread
    wrote for this one), `{results}` or `{results:Label}` (what other threads returned, numbered), `{answer}`
    and `{result}` (how to write them), `{width}` and `{depth}` (of the budgets). Parts without a hole stand
    in front.
    """


class ChatFramingConfig(_Told):
    """The model's own chat template: one user turn, and an assistant turn that every later call continues."""

    kind: Literal["chat"] = "chat"
    """Kind of the framing, here the chat template."""
    system: str | None = None
    """System prompt, for problems that have none of their own; left out: none, or the template's."""
    template_arguments: dict[str, bool | _Number | str] = Field(default_factory=dict)
    """Arguments of the chat template, such as `enable_thinking: false`."""


class PlainFramingConfig(_Told):
    """Text alone, for base models without a chat template."""

    kind: Literal["plain"] = "plain"
    """Kind of the framing, here text alone."""


FramingConfig = Annotated[
    TagFramingConfig | ChatFramingConfig | PlainFramingConfig, Field(discriminator="kind")
]
"""Type of the recipe key `protocol.framing`."""
