"""The models that a server offers: an export's own protocol, and the others that its model can speak.

NAME                the protocol that the model was trained with, with its own settings
NAME:sequential     the same weights with another protocol, with that protocol's default settings
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from data.errors import ConfigError
from data.text.codec import Codec
from rl.serving.api_error import ApiError, invalid
from rollout.protocols import PROTOCOLS, AnyParams, can_speak, params_like

WIDTHS = {"none": 1, "minimal": 1, "low": 2, "medium": 4, "high": 8, "xhigh": 16}
"""Threads side by side by `reasoning_effort`: the width that a fork may have, and the number of threads of
protocols that always open as many (`chains`, `paths`, each of `widths`). Without it the model's own settings
hold.
"""
MOST_THREADS = 512
"""Most threads side by side that a request may ask for, unless the model's own settings have more."""
_FIXED = frozenset({"name", "framing", "budgets"})
"""Settings of a protocol that `braid.settings` does not change."""


class Catalogue:
    """Model names, and the protocol of each."""

    def __init__(self, name: str, own: AnyParams, codec: Codec) -> None:
        """`own`: protocol of the export; `codec`: its tokenizer. Raises ConfigError where that asks a
        scorer.
        """
        self.name = name
        if own.takes_scorer:
            raise ConfigError(
                f"protocol {own.name}: asks a scorer while it runs, and a server has none\n"
                "  fix: export a stage with another protocol, such as self_consistency"
            )
        others = {other: params_like(own, other) for other in PROTOCOLS if other != own.name}
        self._params: dict[str, AnyParams] = {own.name: own}
        self._params |= {
            other: params
            for other, params in others.items()
            if not params.takes_scorer and can_speak(params, codec)
        }
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


def adjusted(
    params: AnyParams,
    *,
    effort: str | None = None,
    settings: Mapping[str, Any],
    budgets: Mapping[str, Any],
    total_tokens: int | None = None,
) -> AnyParams:
    """A protocol's settings with what a request asks for: `reasoning_effort`, then `braid.settings`, then
    `braid.budgets`, then the limit on all sampled tokens.

    Raises ApiError (400) for a value that is impossible.
    """
    fixed = settings.keys() & _FIXED
    if fixed:
        raise invalid(f"braid.settings.{min(fixed)}", f"braid.settings.{min(fixed)} cannot be changed.")
    given = params.model_dump(mode="json")
    if effort is not None:
        width = WIDTHS[effort]
        given["budgets"]["width"] = width
        for key in ("chains", "paths"):
            if key in given:
                given[key] = max(width, _least(params, key))
        if "widths" in given:
            given["widths"] = [width for _ in given["widths"]]
    given |= settings
    given["budgets"] |= budgets
    if total_tokens is not None and isinstance(given["budgets"]["total_tokens"], int):
        given["budgets"]["total_tokens"] = min(total_tokens, given["budgets"]["total_tokens"])
    try:
        made = type(params).model_validate_json(json.dumps(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        if first["loc"][:1] == ("budgets",):
            where = f"braid.{where}"
        elif first["loc"][:1] and first["loc"][0] in settings:
            where = f"braid.settings.{where}"
        else:
            where = "reasoning_effort" if effort is not None and not settings else "braid.settings"
        code = "unknown_parameter" if first["type"] == "extra_forbidden" else "invalid_value"
        raise invalid(where[:200], f"{where[:200]}: {first['msg']}.", code) from None
    own = _widths(params)
    for key, width in _widths(made).items():
        if width > max(MOST_THREADS, own[key]):
            raise invalid(key, f"{key}: {width} threads side by side; this server opens {MOST_THREADS}.")
    return made


def _widths(params: AnyParams) -> dict[str, int]:
    """Threads that a protocol's settings open side by side, by the field of a request that changes them."""
    given = params.model_dump()
    found = {f"braid.settings.{key}": int(given[key]) for key in ("chains", "paths") if key in given}
    if "widths" in given:
        found["braid.settings.widths"] = max(len(given["widths"]), *given["widths"])
    return found | {"braid.budgets.width": params.budgets.width}


def _least(params: AnyParams, key: str) -> int:
    """The smallest value that a setting may have."""
    bounds = [getattr(rule, "ge", None) for rule in type(params).model_fields[key].metadata]
    return max((bound for bound in bounds if bound is not None), default=1)
