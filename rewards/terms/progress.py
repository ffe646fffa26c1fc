"""MRT's progress bonus: how much a thought, or the results of joined threads, helped to answer.

The engines force `answers` answers out of the root's thought, at places that `credit` picks, once the episode
has ended; the task's verifier grades each. The values of the places and what follows from them are in
rewards.process.progress. The reward of MRT is the outcome plus alpha times the progress: beside the term
`correct`, `weight` is alpha.

Example (credit trace, 4 answers): none is right without any thought, three are behind all of it. The term
gives 0.75. An episode without forced answers, as in validation, gets 0.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from data.episodes.probe_plan import Places, ProbePlan
from data.episodes.trajectory import Episode, StopReason
from rewards.process.joins import Join, rewards_of_joins, threads_read
from rewards.process.progress import Answers, progress, regret
from rewards.score import Judged, Score, StepReward
from rewards.term import TermParams
from rewards.verifiers.verdict import UngradableError, Verdict

_PLACES: dict[str, Places] = {"trace": "ends", "blocks": "blocks", "joins": "joins"}


class ProgressParams(TermParams):
    """Which answers are forced, and what is credited with the progress that they show."""

    name: Literal["progress"]
    """Name of the reward term."""
    credit: Literal["trace", "blocks", "joins"] = "trace"
    """trace: one value for the episode, the progress from no thought to the whole. blocks: each block of the
    root's thought gets its own, and the calls of joined threads that of their join. joins: only the latter.
    """
    answers: int = Field(default=4, ge=1, le=4096)
    """Answers forced at each place, the same policy's at the stage's temperature. They carry no loss."""
    answer_tokens: int = Field(default=32, ge=1, le=10_000_000)
    """Most sampled tokens of a forced answer."""
    block_tokens: int = Field(default=256, ge=1, le=10_000_000)
    """Tokens of a block of thought, for `credit: blocks`."""
    most_blocks: int = Field(default=8, ge=1, le=65_536)
    """Most blocks of a call; a longer thought has longer blocks, not more of them."""

    @property
    def rewards_steps(self) -> bool:
        return self.credit == "blocks"

    @property
    def probes(self) -> ProbePlan:
        blocks = self.credit == "blocks"
        return ProbePlan(
            answers=self.answers,
            answer_tokens=self.answer_tokens,
            places=_PLACES[self.credit],
            block_tokens=self.block_tokens if blocks else 1,
            most_blocks=self.most_blocks if blocks else 1,
        )


def answers_of(episode: Episode, verdicts: Sequence[Verdict | None]) -> list[Answers]:
    """The graded answers of each place, in order; places without any are left out.

    `verdicts`: one for each probe of the episode. A probe that an engine failed or that was cancelled has no
    grade either.
    """
    counts: dict[tuple[int, int], tuple[int, int]] = {}
    for probe, verdict in zip(episode.probes, verdicts, strict=True):
        if verdict is None or probe.call.stop in (StopReason.ERROR, StopReason.ABORT):
            continue
        right, graded = counts.get((probe.of, probe.stop), (0, 0))
        counts[probe.of, probe.stop] = right + (verdict is Verdict.CORRECT), graded + 1
    return [
        Answers(call=call, stop=stop, right=right, graded=graded)
        for (call, stop), (right, graded) in counts.items()
    ]


class ProgressTerm:
    """Rewards from forced answers."""

    def __init__(self, params: ProgressParams) -> None:
        self._params = params

    def __call__(self, judged: Judged) -> Score:
        """One value, or rewards of blocks and of joined threads' calls."""
        episode = judged.episode
        places = answers_of(episode, judged.forced)
        if not episode.probes:
            return Score(value=0.0, components={"progress": 0.0}, reason="no answers were forced")
        if not places:
            raise UngradableError("none of the forced answers could be graded")
        gained = progress(places)
        reason = f"{sum(place.graded for place in places)} answers forced at {len(places)} places"
        if self._params.credit == "trace":
            value = sum(gained)
            return Score(value=value, components={"progress": value}, reason=reason)
        joins = [
            Join(call=place.call, threads=threads_read(episode, place.call), progress=found)
            for place, found in zip(places[1:], gained, strict=True)
            if not place.stop
        ]
        return Score(
            value=0.0,
            components={"progress": 0.0},
            calls=rewards_of_joins(episode, joins),
            steps=_of_blocks(places, gained) if self._params.credit == "blocks" else (),
            reason=reason,
            regret=regret(places) if self._params.credit == "blocks" else None,
        )


def _of_blocks(places: Sequence[Answers], gained: Sequence[float]) -> tuple[StepReward, ...]:
    """The reward of each block, from the place before it in its call."""
    return tuple(
        StepReward(
            call=after.call,
            start=before.stop if before.call == after.call else 0,
            stop=after.stop,
            value=value,
        )
        for before, after, value in zip(places, places[1:], gained, strict=False)
        if after.stop
    )
