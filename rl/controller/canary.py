"""After every publication each engine is asked how likely a text is that was just trained, and has to agree
with the learner: the proof that it has the published weights, all of them.

The learner says its part before the weights go out, and the engines answer beside the training: nobody waits,
unless tokens of a version would be trained, or the next one published, before the engines have answered for
it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data.episodes.trajectory import Episode
from data.errors import PublishError
from rl.controller.seams import Engines
from rollout.engines.base import EngineRequest, EngineResult

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.2}
"""Largest difference between the engine's and the learner's log-probability of a token, by the engine's
dtype: numerics, not weights. A stale or half-loaded weight moves it by orders of magnitude more.
"""
MOST_TOKENS = 64
"""Of the text that are compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """One version's question, with the learner's answer."""

    version: int
    context: tuple[int, ...]
    output: tuple[int, ...]
    expected: Sequence[float]
    """[len(output)] log-probabilities, as the learner has them (temperature 1)."""

    @property
    def request(self) -> EngineRequest:
        """What the engines are asked."""
        return EngineRequest(
            id=f"canary/{self.version}",
            prompt=(*self.context, *self.output),
            stops=(),
            max_tokens=1,  # its version is the answer's
            temperature=1.0,
            seed=0,
            score_prompt=True,
        )


Text = tuple[tuple[int, ...], tuple[int, ...]]
"""(context, output)."""


def canary_text(episodes: Iterable[Episode], max_length: int) -> Text | None:
    """The first call that said something, cut to what an engine takes beside one token more; None if there is
    no such call.
    """
    for episode in episodes:
        for call in episode.calls:
            context = episode.context_ids(call)
            room = min(MOST_TOKENS, max_length - 1 - len(context))
            if call.output and room > 0:
                return context, call.output[:room]
    return None


async def verify(canary: Canary, engines: Engines, tolerance: float) -> None:
    """Raises PublishError when an engine has other weights. One that dies meanwhile is replaced by one that
    begins with the right ones.
    """
    answers: Sequence[EngineResult] = await engines.canary(canary.request)
    for answer in answers:
        said = answer.prompt_logprobs[len(answer.prompt_logprobs) - len(canary.output) :]
        errors = [abs(a - b) for a, b in zip(canary.expected, said, strict=True)]
        worst = math.nan if any(map(math.isnan, errors)) else max(errors)  # max alone may pass over a NaN
        versions = sorted({span.version for span in answer.versions})
        if versions != [canary.version] or not worst <= tolerance:
            raise PublishError(
                f"version {canary.version}: an engine answers as version {versions}, with log-"
                f"probabilities up to {worst:.2e} from the learner's (at most {tolerance:.0e}): its weights "
                "are not the published ones"
            )
