"""The reward of a recipe: its terms, each weighted, gated and scheduled, added up.

    value(step) = sum over terms of factor(step) * weight * gate * term        (gate is 0 or 1)

Example (right answer, one violation, total 310, critical 110; three terms, the last with rho 0.5, clip 0.2):
    1.0 - 0.1 + 0.2 = 1.1

All but the factor depends on the episode alone. The function that `compose` returns gives the reward with
every factor 1, which is also what validation and evaluation see; training multiplies its components by
the factors of the step that consumes them (`at_step`), so scoring need not wait until that step is known.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Annotated, Any

from pydantic import Field

from data.episodes.trajectory import Episode
from data.errors import BraidError, ConfigError
from data.tasks.base import Task
from data.tasks.problem import Problem
from data.text.tokenizer import Codec
from rewards.schedule import factor
from rewards.score import RewardFunction, RewardTerm, Score
from rewards.term import Gate
from rewards.terms.concurrency import ConcurrencyParams, ConcurrencyTerm
from rewards.terms.correct import CorrectParams, CorrectTerm
from rewards.terms.critical_path import CriticalPathParams, CriticalPathTerm
from rewards.terms.format import FormatParams, FormatTerm
from rewards.terms.outcomes import OutcomesParams, OutcomesTerm
from rewards.terms.overlong import OverlongParams, OverlongTerm
from rewards.terms.parallel_gate import ParallelGateParams, ParallelGateTerm
from rewards.terms.parallelism import ParallelismParams, ParallelismTerm
from rewards.terms.parl import ParlParams, ParlTerm
from rewards.terms.seconds import SecondsParams, SecondsTerm
from rewards.terms.spawn_count import SpawnCountParams, SpawnCountTerm
from rewards.verifiers.verdict import Verdict, judge

TERMS: dict[str, Callable[[Any, Task], RewardTerm]] = {
    "correct": CorrectTerm,
    "format": FormatTerm,
    "parallelism": ParallelismTerm,
    "concurrency": ConcurrencyTerm,
    "parallel_gate": ParallelGateTerm,
    "parl": ParlTerm,
    "critical_path": CriticalPathTerm,
    "seconds": SecondsTerm,
    "spawn_count": SpawnCountTerm,
    "outcomes": OutcomesTerm,
    "overlong": OverlongTerm,
}

RewardConfig = Annotated[
    CorrectParams
    | FormatParams
    | ParallelismParams
    | ConcurrencyParams
    | ParallelGateParams
    | ParlParams
    | CriticalPathParams
    | SecondsParams
    | SpawnCountParams
    | OutcomesParams
    | OverlongParams,
    Field(discriminator="name"),
]
"""One entry of a recipe's `rewards` list."""


def compose(configs: Sequence[RewardConfig], task: Task, codec: Codec) -> RewardFunction:
    """The reward function of a recipe, with the full weight of every term.

    It never raises for an episode: what cannot be graded, by any one term, gets `value=None` and the reason.

    Raises:
        ConfigError: no terms, or a term named twice.
    """
    names = [config.name for config in configs]
    if not names:
        raise ConfigError(f"rewards: at least one term is needed; name some of {', '.join(TERMS)}")
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ConfigError(f"rewards: {repeated[0]!r} is named twice; keep one entry per term")
    terms = [(config, TERMS[config.name](config, task)) for config in configs]

    def reward(problem: Problem, episode: Episode) -> Score:
        try:
            verdict = judge(task, problem, episode, codec)
        except BraidError as error:
            return Score(value=None, reason=f"answer: {error}")
        correct = verdict is Verdict.CORRECT
        components: dict[str, float] = {}
        reasons: list[str] = []
        for config, term in terms:
            score = _score(term, problem, episode, codec)
            if score.value is None:
                return Score(value=None, reason=f"{config.name}: {score.reason}", correct=correct)
            opened = is_open(config.gate, correct=correct, well_formed=not episode.violations)
            components[config.name] = config.weight * score.value if opened else 0.0
            reasons.append(score.reason if opened else f"{config.name}: not counted (gate {config.gate})")
        return Score(
            value=sum(components.values()), components=components, reason="; ".join(reasons), correct=correct
        )

    return reward


def factors_at(configs: Sequence[RewardConfig], step: int) -> dict[str, float]:
    """What each term's contribution is multiplied by at a training step."""
    return {config.name: factor(config.schedule, step) for config in configs}


def at_step(score: Score, factors: Mapping[str, float]) -> Score:
    """The score as a step trains it; what is ungraded stays so."""
    if score.value is None:
        return score
    components = {name: factors[name] * part for name, part in score.components.items()}
    return replace(score, value=sum(components.values()), components=components)


def is_open(gate: Gate, *, correct: bool, well_formed: bool) -> bool:
    """Whether a term behind this gate counts."""
    return {"always": True, "correct": correct, "format": well_formed}[gate]


def _score(term: RewardTerm, problem: Problem, episode: Episode, codec: Codec) -> Score:
    """A term's score, ungraded where it refuses or returns no number."""
    try:
        score = term(problem, episode, codec)
    except BraidError as error:
        return Score(value=None, reason=str(error))
    if score.value is not None and not isfinite(score.value):
        return Score(value=None, reason=f"gave {score.value}, which is no reward")
    return score
