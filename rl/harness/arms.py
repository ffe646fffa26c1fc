"""Arms of a comparison: the target's own protocol, sampled often, and protocols that steer their sampling.

What chooses after the fact (votes, first finish, set cover, allocation) needs no arm: it is computed
from the samples of the first. The others are settings of protocols that the target can speak: those whose
tags its tokenizer has. A target that thinks in one chain (`sequential`) can be steered in all these ways; one
that was trained for another protocol speaks that one alone.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from data.errors import ConfigError
from rollout.protocols import AnyParams, default_params

ALL_ROUNDS = "3 rounds of 4, all"
"""Setting of SEAT without a stop, from whose record a calibrated stop is computed."""
SAMPLED = "sampled"
"""Strategy name of the first arm, whose samples the choices after the fact use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One protocol in one setting, sampled for every problem."""

    strategy: str
    setting: str
    params: AnyParams
    samples: int
    """Episodes of a problem."""

    @property
    def file(self) -> str:
        """Name of its outcomes file, without an ending."""
        words = "".join(letter if letter.isalnum() else "_" for letter in f"{self.strategy} {self.setting}")
        return words.strip("_")


def with_settings(params: AnyParams, settings: dict[str, Any]) -> AnyParams:
    """The protocol section with changed keys, dotted for sections inside it: `answer.kind`.

    Raises ConfigError naming the key.
    """
    raw: dict[str, Any] = params.model_dump(mode="json")
    for key, value in settings.items():
        node = raw
        *outer, last = key.split(".")
        for part in outer:
            node = node.setdefault(part, {}) if isinstance(node, dict) else {}
            if node is None:
                raise ConfigError(f"--set {key}: {part} is not set; give it whole")
        node[last] = value
    try:
        return type(params).model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(
            f"--set: protocol.{'.'.join(map(str, first['loc']))}: {first['msg']}\n"
            "  fix: see docs/protocols.md for the keys of each protocol"
        ) from error


def steered(own: AnyParams, samples: int, *, words_only: bool = False) -> Iterator[Arm]:
    """Arms of the protocols that steer their sampling, for a target that thinks in one chain.

    `words_only`: whether its tokenizer has words alone.
    """
    if own.name != "sequential":
        return
    limit = int(own.max_tokens)  # type: ignore[attr-defined]
    for strategy, setting, name, keys in _settings(limit, words_only):
        shared = {key: getattr(own, key) for key in ("framing", "answer", "result")}
        params = default_params(name).model_copy(update=shared)
        yield Arm(strategy=strategy, setting=setting, params=with_settings(params, keys), samples=samples)


def _settings(limit: int, words_only: bool) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """(strategy, setting, protocol, its keys) for chains of at most `limit` tokens."""
    half = max(1, limit // 2)
    for share in (8, 4, 2):
        cap = max(1, limit // share)
        yield "cap", f"{cap} tokens", "budget_forcing", {"chain_tokens": cap}
    # A vocabulary of words has no "Wait", but a tag that begins another attempt.
    wait = {"wait_text": "<try>"} if words_only else {}
    for times in (1, 2):
        yield (
            "wait", f"{times} x", "budget_forcing", {"chain_tokens": limit, "extend": times, **wait},
        )  # fmt: skip
    for width in (1, 4, 8):
        yield "NoThinking", f"n = {width}", "budget_forcing", {"chain_tokens": 0, "chains": width}
    for widths in ([1], [1, 1], [1, 1, 1]):
        yield (
            "refinement", f"{len(widths)} + 1 drafts", "rounds",
            {"widths": widths, "draft_tokens": limit, "final_tokens": limit},
        )  # fmt: skip
    for width in (4, 8):
        for probe in ("forced", "written"):
            yield (
                "Parallel-Probe", f"n = {width}, {probe}", "self_consistency",
                {
                    "chains": width, "chain_tokens": limit, "probe_tokens": max(1, limit // 8),
                    "patience": 2, "stable": 3, "warm_up": 1, "probe": probe,
                },
            )  # fmt: skip
    rounds = {"widths": [4, 4, 4], "final": "vote", "draft_tokens": half}
    yield "SEAT", "3 rounds of 4, secretary", "rounds", {**rounds, "secretary": True}
    yield "SEAT", ALL_ROUNDS, "rounds", rounds
