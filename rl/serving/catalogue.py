"""The models that a server offers: an export's own protocol, and the others that its model can speak.

NAME                the protocol that the model was trained with, with its own settings
NAME:sequential     the same weights with another protocol, with that protocol's default settings
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from data.errors import ConfigError
from data.text.codec import Codec
from rl.serving.api_error import ApiError, invalid
from rollout.protocols import PROTOCOLS, AnyParams, build_protocol, params_like, vocabulary
from rollout.protocols.shared.framing import framing_of

WIDTHS = {"none": 1, "minimal": 1, "low": 2, "medium": 4, "high": 8, "xhigh": 16}
"""Threads side by side by `reasoning_effort`: the width that a fork may have, and the number of threads of
protocols that always open as many (`chains`, `paths`, each of `widths`). Without it the model's own settings
hold.
"""


class Catalogue:
    """Model names, and the protocol of each."""

    def __init__(self, name: str, own: AnyParams, codec: Codec) -> None:
        """`own`: protocol of the export; `codec`: its tokenizer."""
        self.name = name
        others = {other: params_like(own, other) for other in PROTOCOLS if other != own.name}
        self._params: dict[str, AnyParams] = {own.name: own}
        self._params |= {other: params for other, params in others.items() if can_speak(params, codec)}
        self._own = own.name

    @property
    def models(self) -> list[str]:
        """Names that requests may use, the export's own protocol first."""
        return [self.name, *(f"{self.name}:{other}" for other in self._params if other != self._own)]

    def params(self, model: str, protocol: str | None) -> AnyParams:
        """The settings of a model's protocol; `protocol` is that of the extension field, if it was given.

        Raises ApiError (404) for a name that is not offered.
        """
        name, _, suffix = model.partition(":")
        if name != self.name or (suffix and suffix not in self._params):
            raise ApiError(
                404,
                f"The model {model[:200]!r} does not exist here; there are {', '.join(self.models)}.",
                code="model_not_found",
                param="model",
            )
        if protocol is not None and suffix and protocol != suffix:
            raise invalid("braid.protocol", f"braid.protocol is {protocol!r}, but the model says {suffix!r}.")
        wanted = protocol or suffix or self._own
        if wanted not in self._params:
            raise invalid(
                "braid.protocol",
                f"The model cannot speak the protocol {wanted[:200]!r}; it speaks {', '.join(self._params)}.",
            )
        return self._params[wanted]


def can_speak(params: AnyParams, codec: Codec) -> bool:
    """Whether a tokenizer has all that a protocol writes. Ordinary text has; words of a fixed vocabulary, not
    always.
    """
    try:
        build_protocol(params, codec)
        if codec.words_only:
            tags, words = vocabulary(params, framing_of(params.framing, codec).kind)
            for word in (*tags, *words):
                codec.encode(word)
    except ConfigError:
        return False
    return True


def adjusted(
    params: AnyParams, *, effort: str | None, budgets: Mapping[str, Any], total_tokens: int | None
) -> AnyParams:
    """A protocol's settings with what a request asks for: `reasoning_effort`, then `braid.budgets`, then the
    limit on all sampled tokens.

    Raises ApiError (400) for a value that is impossible.
    """
    given = params.model_dump()
    if effort is not None:
        width = WIDTHS[effort]
        given["budgets"]["width"] = width
        for key in ("chains", "paths"):
            if key in given:
                given[key] = max(width, _least(params, key))
        if "widths" in given:
            given["widths"] = tuple(width for _ in given["widths"])
    given["budgets"] |= budgets
    if total_tokens is not None:
        given["budgets"]["total_tokens"] = min(total_tokens, given["budgets"]["total_tokens"])
    try:
        return type(params).model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        key = f"braid.{where}" if first["loc"][:1] == ("budgets",) else "reasoning_effort"
        raise invalid(key, f"{key}: {first['msg']}.") from None


def _least(params: AnyParams, key: str) -> int:
    """The smallest value that a setting may have."""
    bounds = [getattr(rule, "ge", None) for rule in type(params).model_fields[key].metadata]
    return max((bound for bound in bounds if bound is not None), default=1)
