"""The canary: a check after each weight sync that every engine has all of the published weights.

After each weight sync every engine computes the log-probabilities of texts that were trained, and they
must agree with the learner's (`rl.controller.agreement`). The learner computes its own before the sync; the
engines answer while training goes on. Only two things wait for the answers: training tokens of that version,
and publishing the next one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from data.episodes.trajectory import Episode
from data.errors import PublishError
from rl.controller.agreement import Agreement, compare, rounding_limit
from rl.controller.seams import Engines, Learner, Text
from rl.scored_group import ScoredGroup
from rollout.engines.base import EngineRequest, EngineResult

MOST_TEXTS = 8
MOST_TOKENS = 64
"""Longest compared output of a text (tokens)."""
KEPT = 8
"""Versions for which the same texts are used: the last update is then known, token by token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """The texts that verify one version, with the learner's log-probabilities of all their output tokens."""

    version: int
    texts: Sequence[Text]
    expected: Sequence[float]
    """[N] by the learner, at temperature 1, under these weights as engines have them."""
    before: Sequence[float] = ()
    """[N] the same under the version before; () when that one had other texts."""
    limit: float
    """Largest rms of the differences that is rounding."""

    @property
    def requests(self) -> list[EngineRequest]:
        """The requests that score the texts on an engine."""
        return [
            EngineRequest(
                id=f"canary/{self.version}/{index}",
                prompt=(*context, *output),
                stops=(),
                max_tokens=1,  # the sampled token carries the engine's version
                temperature=1.0,
                seed=0,
                score_prompt=True,
            )
            for index, (context, output) in enumerate(self.texts)
        ]

    def agreement(self, answers: Sequence[EngineResult]) -> Agreement:
        """Compare one engine's answers with the learner's."""
        found = [
            value
            for (_, output), answer in zip(self.texts, answers, strict=True)
            for value in answer.prompt_logprobs[len(answer.prompt_logprobs) - len(output) :]
        ]
        return compare(found, self.expected, self.before, self.limit)


def canary_texts(groups: Iterable[ScoredGroup], max_length: int) -> list[Text]:
    """The longest output of an episode, for one episode of each group in turn until there are MOST_TEXTS; cut
    so that context, output and one more token fit `max_length`.
    """
    turns = zip_longest(*(group.episodes for group in groups))
    texts = (_longest(episode, max_length) for turn in turns for episode in turn if episode is not None)
    found: list[Text] = []
    for text in texts:
        if text is not None and text not in found:
            found.append(text)
        if len(found) == MOST_TEXTS:
            break
    return found


def _longest(episode: Episode, max_length: int) -> Text | None:
    best: Text | None = None
    for call in episode.calls:
        context = episode.context_ids(call)
        output = call.output[: max(0, min(MOST_TOKENS, max_length - 1 - len(context)))]
        if len(output) > (len(best[1]) if best else 0):
            best = context, output
    return best


class Examiner:
    """Prepares the canary of each version."""

    def __init__(self, learner: Learner, *, dtype: str, max_length: int) -> None:
        """`dtype`: number format of the engines; `max_length`: their longest context plus output."""
        self._learner, self._dtype, self._max_length = learner, dtype, max_length
        self._texts: list[Text] = []
        self._limit = 0.0
        self._expected: list[float] = []
        self._left = 0
        """Versions that the texts are still used for."""

    async def prepare(self, version: int, trained: Sequence[ScoredGroup]) -> Canary | None:
        """The canary of the learner's weights, which become `version`. `trained`: the groups that made them.
        None before any text was trained.
        """
        before, found = self._expected, [] if self._left else canary_texts(trained, self._max_length)
        if found:
            self._texts, self._left, before = found, KEPT, []
        if not self._texts:
            return None
        self._left = max(0, self._left - 1)
        self._expected = _flat(await self._learner.logprobs(self._texts, False))
        if found:
            self._limit = rounding_limit(self._dtype, await self._noise())
        return Canary(
            version=version, texts=self._texts, expected=self._expected, before=before, limit=self._limit
        )

    async def _noise(self) -> list[float]:
        """What the engines' rounding changes when the learner computes with it; () in float32."""
        if self._dtype == "float32":
            return []
        rounded = _flat(await self._learner.logprobs(self._texts, True))
        return [a - b for a, b in zip(rounded, self._expected, strict=True)]


def _flat(values: Iterable[Sequence[float]]) -> list[float]:
    return [value for part in values for value in part]


async def verify(canary: Canary, engines: Engines) -> Agreement | None:
    """Compare the engines' log-probabilities with the learner's. -> the worst agreement, None without
    engines. Raises PublishError when one disagrees or has another version. An engine that dies meanwhile does
    not answer; its replacement starts with the published weights.
    """
    worst: Agreement | None = None
    for answers in await engines.canary(canary.requests):
        agreement = canary.agreement(answers)
        versions = sorted({span.version for answer in answers for span in answer.versions})
        if versions != [canary.version] or not agreement.holds:
            raise PublishError(
                f"version {canary.version}: an engine answers as version {versions}, with {agreement}: its "
                "weights are not the published ones"
            )
        if worst is None or agreement.rms > worst.rms:
            worst = agreement
    return worst
