"""The canary: a check after each weight sync that every engine has all of the published weights.

After each weight sync every engine computes the log-probabilities of a text that was just trained, and they
must agree with the learner's. The learner computes its own before the sync; the engines answer while training
goes on. Only two things wait for the answers: training tokens of that version, and publishing the next one.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data.episodes.trajectory import Episode
from data.errors import PublishError
from rl.controller.seams import Engines
from rollout.engines.base import EngineRequest, EngineResult

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.2}
"""Largest difference between an engine's and the learner's log-probability of a token, by the engine's dtype.
It covers rounding; stale or half-loaded weights differ by orders of magnitude more.
"""
MOST_TOKENS = 64
"""Longest compared output (tokens)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """The text that verifies one version, with the learner's log-probabilities."""

    version: int
    context: tuple[int, ...]
    output: tuple[int, ...]
    expected: Sequence[float]
    """[len(output)] log-probabilities by the learner, at temperature 1."""

    @property
    def request(self) -> EngineRequest:
        """The request that scores the text on an engine."""
        return EngineRequest(
            id=f"canary/{self.version}",
            prompt=(*self.context, *self.output),
            stops=(),
            max_tokens=1,  # the sampled token carries the engine's version
            temperature=1.0,
            seed=0,
            score_prompt=True,
        )


Text = tuple[tuple[int, ...], tuple[int, ...]]
"""(context, output) of one call, as token ids."""


def canary_text(episodes: Iterable[Episode], max_length: int) -> Text | None:
    """The first call with output, cut so that context, output and one more token fit `max_length`; None if no
    call fits.
    """
    for episode in episodes:
        for call in episode.calls:
            context = episode.context_ids(call)
            room = min(MOST_TOKENS, max_length - 1 - len(context))
            if call.output and room > 0:
                return context, call.output[:room]
    return None


async def verify(canary: Canary, engines: Engines, tolerance: float) -> None:
    """Compare the engines' log-probabilities with the learner's. Raises PublishError when one differs by more
    than `tolerance` or has another version. An engine that dies meanwhile does not answer; its replacement
    starts with the published weights.
    """
    answers: Sequence[EngineResult] = await engines.canary(canary.request)
    for answer in answers:
        found = answer.prompt_logprobs[len(answer.prompt_logprobs) - len(canary.output) :]
        errors = [abs(a - b) for a, b in zip(canary.expected, found, strict=True)]
        worst = math.nan if any(map(math.isnan, errors)) else max(errors)  # max alone may pass over a NaN
        versions = sorted({span.version for span in answer.versions})
        if versions != [canary.version] or not worst <= tolerance:
            raise PublishError(
                f"version {canary.version}: an engine answers as version {versions}, and its log-"
                f"probabilities differ from the learner's by up to {worst:.2e} (at most "
                f"{tolerance:.0e} is rounding): its weights are not the published ones"
            )
