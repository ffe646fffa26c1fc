"""The reward of a recipe: the sum of its terms, each with weight, gate and schedule.

A term may also reward single calls and steps inside calls; weight, gate and schedule hold for those, too.

    value(step) = sum over terms of factor(step) * weight * gate * term        (gate is 0 or 1)

Example (right answer, one violation, total 310, critical 110; three terms, the last with rho 0.5, clip 0.2):
    1.0 - 0.1 + 0.2 = 1.1

Only the factor depends on the step. What `compose` returns gives the reward with every factor 1,
which is what validation and evaluation use; training multiplies its components by
the factors of the step that consumes them (`at_step`), so scoring need not wait until that step is known.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeAlias

from data.episodes.trajectory import Episode
from data.errors import BraidError, ConfigError
from data.registered import Registered, by_name
from data.tasks.base import Task
from data.tasks.problem import Problem
from data.text.codec import Codec
from rewards.group_terms import score_together
from rewards.schedule import factor
from rewards.score import (
    NO_SCORER,
    GroupTerm,
    Judged,
    Opinion,
    RewardTerm,
    Score,
    StepScore,
    Ungraded,
)
from rewards.term import Gate, TermParams
from rewards.terms.concurrency import ConcurrencyParams, ConcurrencyTerm
from rewards.terms.correct import CorrectParams, CorrectTerm
from rewards.terms.critical_path import CriticalPathParams, CriticalPathTerm
from rewards.terms.format import FormatParams, FormatTerm
from rewards.terms.outcomes import OutcomesParams, OutcomesTerm
from rewards.terms.overlong import OverlongParams, OverlongTerm
from rewards.terms.parallel_gate import ParallelGateParams, ParallelGateTerm
from rewards.terms.parallelism import ParallelismParams, ParallelismTerm
from rewards.terms.parl import ParlParams, ParlTerm
from rewards.terms.process import ProcessParams, ProcessTerm
from rewards.terms.progress import ProgressParams, ProgressTerm
from rewards.terms.seconds import SecondsParams, SecondsTerm
from rewards.terms.spawn_count import SpawnCountParams, SpawnCountTerm
from rewards.terms.verifier_score import VerifierScoreParams, VerifierScoreTerm
from rewards.verifiers.base import OutcomeKind
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.verdict import Judge, Judgement, Verdict

Term: TypeAlias = RewardTerm | GroupTerm
"""One that grades each episode by itself, or one that grades a group together."""

TERMS: dict[str, Callable[[Any], Term]] = {
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
    "verifier_score": VerifierScoreTerm,
    "process": ProcessTerm,
    "progress": ProgressTerm,
}
"""Name -> the term's class, called with its parameters."""

TERM_PARAMS: dict[str, type[TermParams]] = by_name(
    CorrectParams,
    FormatParams,
    ParallelismParams,
    ConcurrencyParams,
    ParallelGateParams,
    ParlParams,
    CriticalPathParams,
    SecondsParams,
    SpawnCountParams,
    OutcomesParams,
    OverlongParams,
    VerifierScoreParams,
    ProcessParams,
    ProgressParams,
)
"""Name -> the keys of a term in a recipe."""

RewardConfig: TypeAlias = Annotated[TermParams, Registered(lambda: TERM_PARAMS)]
"""One entry of a recipe's `rewards` list."""


LARGEST = 1e12
"""Largest magnitude of a reward and of each component: squares and sums over a group stay within float32."""


_UNGRADED = {OutcomeKind.GOLD_UNPARSABLE: Ungraded.GOLD, OutcomeKind.FAULT: Ungraded.VERIFIER}


class Reward:
    """The reward function of a recipe, with the full weight of every term.

    The verifier runs once per episode; all terms see its verdict. A BraidError never leaves the function: an
    episode that a required term cannot grade gets `value=None` and the reasons of all terms that failed.
    """

    def __init__(
        self, terms: Sequence[tuple[RewardConfig, Term]], judge: Judge, task: Task, codec: Codec
    ) -> None:
        self._terms, self._judge, self._task, self._codec = terms, judge, task, codec
        self._group_terms = {config.name: term for config, term in terms if isinstance(term, GroupTerm)}

    def __call__(self, problem: Problem, episode: Episode) -> Score:
        """The score of one episode."""
        return next(self.group(problem, (episode,)))

    def ready(self) -> None:
        """Wait until everything that terms and verifier need has started."""
        self._judge.ready()

    def group(
        self,
        problem: Problem,
        episodes: Sequence[Episode],
        opinions: Sequence[Opinion] | None = None,
        first: int = 0,
    ) -> Iterator[Score]:
        """The scores of a problem's episodes from index `first` on, in order, each as soon as it is known.

        Terms that grade a group together see all of its episodes, and no score is known before their own.

        `opinions`: a scorer's, one for each episode; None: no scorer was asked.
        """
        opinions = opinions or [NO_SCORER] * len(episodes)
        if not self._group_terms:
            found = self._judge.judge_all(problem, episodes[first:])
            for episode, judgement, opinion in zip(episodes[first:], found, opinions[first:], strict=True):
                yield self._score(judgement, self._judged(problem, episode, judgement, opinion), {})
            return
        judgements = list(self._judge.judge_all(problem, episodes))
        judged = [self._judged(problem, *each) for each in zip(episodes, judgements, opinions, strict=True)]
        together = asyncio.run(score_together(self._group_terms, judged))
        yield from map(self._score, judgements[first:], judged[first:], together[first:])

    def _judged(
        self, problem: Problem, episode: Episode, judgement: Judgement, opinion: Opinion
    ) -> Judged | None:
        """What terms see of an episode; None of one that did not end."""
        if not judgement.ended:
            return None
        return Judged(
            task=self._task,
            problem=problem,
            episode=episode,
            codec=self._codec,
            verdict=judgement.verdict,
            unchecked=judgement.reason if judgement.verdict is None else "",
            share=judgement.share,
            opinion=opinion,
            forced=tuple(each.verdict for each in self._judge.judge_probes(problem, episode)),
        )

    def _score(self, judgement: Judgement, judged: Judged | None, together: Mapping[str, Score]) -> Score:
        """The score of one episode. `together`: what terms gave it that grade a group together."""
        if judged is None:
            return Score(value=None, reason=judgement.reason, ungraded=Ungraded.EPISODE)
        contributions = [
            (config, _contribution(config, together.get(config.name) or term, judged))
            for config, term in self._terms
        ]
        score, opinion = _total(contributions, judgement), judged.opinion
        return score if isinstance(opinion, str) else replace(score, opinion=_mean_opinion(opinion))


def compose(
    configs: Sequence[RewardConfig], task: Task, codec: Codec, pool: VerifierPool | None = None
) -> Reward:
    """The reward of a recipe. `pool`: processes of the task's verifier; None: the task's own check.

    Raises:
        ConfigError: no terms, or a term named twice.
    """
    names = [config.name for config in configs]
    if not names:
        raise ConfigError(f"rewards: at least one term is needed; name some of {', '.join(TERMS)}")
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ConfigError(f"rewards: {repeated[0]!r} is named twice; keep one entry per term")
    terms = [(config, TERMS[config.name](config)) for config in configs]
    return Reward(terms, Judge(task, codec, pool), task, codec)


def _mean_opinion(opinion: Sequence[StepScore]) -> float | None:
    return sum(step.value for step in opinion) / len(opinion) if opinion else None


def factors_at(configs: Sequence[RewardConfig], step: int) -> dict[str, float]:
    """[term] multiplier of each term's contribution at a training step."""
    return {config.name: factor(config.schedule, step) for config in configs}


def at_step(score: Score, factors: Mapping[str, float]) -> Score:
    """The score as a training step uses it; an ungraded one stays as it is."""
    if score.value is None:
        return score
    components = {name: factors[name] * component for name, component in score.components.items()}
    return replace(
        score,
        value=sum(components.values()),
        components=components,
        calls=tuple(replace(reward, value=factors[reward.term] * reward.value) for reward in score.calls),
        steps=tuple(replace(reward, value=factors[reward.term] * reward.value) for reward in score.steps),
    )


def is_open(gate: Gate, *, correct: bool, well_formed: bool) -> bool:
    """Whether a term with this gate counts."""
    return {"always": True, "correct": correct, "format": well_formed}[gate]


def _contribution(config: RewardConfig, term: Term | Score, judged: Judged) -> Score:
    """A term's weighted and gated score; `value` is None, with the reason, where it cannot grade. `term`: a
    term, or the score that it gave already.
    """
    if judged.verdict is None and config.gate == "correct":
        return Score(value=None, reason=judged.unchecked)
    try:
        assert not isinstance(term, GroupTerm), "it was asked with its group"
        score = term if isinstance(term, Score) else term(judged)
    except BraidError as error:
        return Score(value=None, reason=str(error))
    if score.value is None:
        return score
    right, well_formed = judged.verdict is Verdict.CORRECT, not judged.episode.violations
    if not is_open(config.gate, correct=right, well_formed=well_formed):
        return Score(value=0.0, reason=f"{config.name}: not counted (gate {config.gate})")
    value = config.weight * score.value
    if not abs(value) <= LARGEST:
        reason = f"gave {score.value:g}, times its weight {value:g}, which is not a valid reward"
        return Score(value=None, reason=reason)
    fault = placing_fault(score, judged.episode, config.weight)
    if fault:
        return Score(value=None, reason=fault)
    return Score(
        value=value,
        calls=tuple(replace(r, value=config.weight * r.value, term=config.name) for r in score.calls),
        steps=tuple(replace(r, value=config.weight * r.value, term=config.name) for r in score.steps),
        reason=score.reason,
        regret=score.regret,
    )


def placing_fault(score: Score, episode: Episode, weight: float) -> str:
    """What is wrong with a term's rewards of calls and steps; "" when they are valid."""
    for reward in score.local_rewards:
        if not 0 <= reward.call < len(episode.calls):
            return f"rewarded call {reward.call} of an episode of {len(episode.calls)} calls"
        if not abs(weight * reward.value) <= LARGEST:
            return f"gave call {reward.call} {reward.value:g}, times its weight, which is not a valid reward"
    for step in score.steps:
        length = len(episode.calls[step.call].output)
        if not 0 <= step.start < step.stop <= length:
            return f"rewarded tokens {step.start} to {step.stop} of call {step.call}, which has {length}"
    return ""


def _total(contributions: Sequence[tuple[RewardConfig, Score]], judgement: Judgement) -> Score:
    """The score of an episode from those of its terms."""
    verdict = judgement.verdict
    correct = None if verdict is None else verdict is Verdict.CORRECT
    graded: dict[str, Score] = {}
    failed: list[str] = []
    reasons: list[str] = []
    faults: list[str] = []
    spoilt = False
    for config, score in contributions:
        if score.value is not None:
            graded[config.name] = score
            reasons.append(score.reason)
            continue
        failed.append(config.name)
        faults.append(f"{config.name}: {score.reason}")
        spoilt |= config.required
    if spoilt or not graded:
        return Score(
            value=None,
            reason="; ".join(faults),
            correct=correct,
            outcome=judgement.outcome,
            ungraded=Ungraded.TERM
            if judgement.outcome is None
            else _UNGRADED.get(judgement.outcome, Ungraded.TERM),
            failed_terms=tuple(failed),
        )
    components = {name: score.value for name, score in graded.items() if score.value is not None}
    return Score(
        value=sum(components.values()),
        components=components,
        calls=tuple(reward for score in graded.values() for reward in score.calls),
        steps=tuple(reward for score in graded.values() for reward in score.steps),
        regret=next((score.regret for score in graded.values() if score.regret is not None), None),
        reason="; ".join([*reasons, *(f"left out: {fault}" for fault in faults)]),
        correct=correct,
        outcome=judgement.outcome,
        failed_terms=tuple(failed),
    )
