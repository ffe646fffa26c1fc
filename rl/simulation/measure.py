"""Rates of engines and learner from a finished run.

Engine: of every recorded call that never had to wait for a slot,

    duration = (tokens + call_ticks) * (step_s + call_s * n) * longer(engine_contention, o)

with n the mean number of live calls meanwhile and o the share of the time in which the learner was at work.
Learner: seconds = (learner_s + learner_token_s * tokens) * longer(learner_contention, o), with o the share of
the time in which an engine was. Publish: seconds = publish_s + canary_ticks * (step_s + call_s * n). Least
squares, the parameters that are not linear on a grid.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from data.errors import ConfigError
from rl.simulation.load import load_of_episodes
from rl.simulation.plan import Rates, Workload
from rl.simulation.recorded import RecordedRun

CONTENTION = np.arange(1.0, 3.001, 0.05)
CALL_TICKS = np.arange(0.0, 12.001, 0.5)
ENOUGH_CALLS = 50
FEW_TOKENS = 2
"""Calls shorter than this say more about their start than about decoding."""
ENOUGH_PUBLISHES = 8
MOMENT_S = 1e-3
CANARY_TOKENS = 16
"""Of the canary (`rl.stages.reinforce`), for runs that never published to an engine at work."""

AS_GOOD = 1.005
"""Squared error of a fit that is no worse than the best."""

Fit = tuple[float, dict[str, float]]
"""(squared error, parameters by name)."""
Array = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


class Coverage:
    """How many of some intervals cover a moment: its mean and its maximum over many spans of time at once."""

    def __init__(self, begins: Array, ends: Array, *, at_most: float = np.inf) -> None:
        times = np.concatenate([begins, ends])
        change = np.concatenate([np.ones(len(begins)), -np.ones(len(ends))])
        order = np.argsort(times, kind="stable")
        self._times = times[order]
        self._counts = np.minimum(np.cumsum(change[order]), at_most)
        self._integral = np.concatenate([[0.0], np.cumsum(self._counts[:-1] * np.diff(self._times))])

    def mean(self, begins: Array, ends: Array) -> Array:
        """[N] over each begin..end; 0 where that is empty."""
        length = ends - begins
        return np.divide(
            self._until(ends) - self._until(begins), length, out=np.zeros_like(length), where=length > 0
        )

    def most(self, begins: Array, ends: Array) -> Array:
        """[N] largest within each begin..end."""
        first = np.maximum(np.searchsorted(self._times, begins, side="right") - 1, 0)
        last = np.maximum(np.searchsorted(self._times, ends, side="left") - 1, first)
        return np.array([self._counts[a : b + 1].max() for a, b in zip(first, last, strict=True)])

    def _until(self, moments: Array) -> Array:
        if not len(self._times):
            return np.zeros_like(moments)
        index = np.searchsorted(self._times, moments, side="right") - 1
        safe = np.maximum(index, 0)
        value = self._integral[safe] + self._counts[safe] * (moments - self._times[safe])
        return np.where(index >= 0, value, 0.0)


def longer(contention: float, overlap: Array) -> Array:
    """How many times as long something takes that shares its cores for this share of that time.

    Example: 2 of 4 seconds shared at a contention of 2 are 2 + 1 = 3 seconds of work: 4/3.
    """
    return 1 / (1 - overlap * (1 - 1 / contention))


def measure_rates(run: RecordedRun) -> Rates:
    """See the module. Raises ConfigError when nearly every call waited for a slot."""
    calls = np.array(
        [
            (run.started(step) + call.started_s, run.started(step) + call.finished_s, len(call.output))
            for step, groups in enumerate(run.groups, start=run.first)
            for group in groups
            for episode in group
            for call in episode.calls
        ]
    ).reshape(-1, 3)
    begins, ends, tokens = calls.T
    engine = _fit_engine(run, begins, ends, tokens)
    learner = _fit_learner(run, Coverage(begins, ends, at_most=1.0))
    rates = Rates(**engine, **learner)
    publish_s, canary_ticks = _fit_publish(run, rates, Coverage(begins, ends))
    return replace(rates, publish_s=publish_s, canary_ticks=canary_ticks)


def _fit_engine(run: RecordedRun, begins: Array, ends: Array, tokens: Array) -> dict[str, float]:
    engine = run.recipe.engine
    live = Coverage(begins, ends)
    fitted = live.most(begins, ends) <= engine.max_live_calls * engine.num_engines
    usable = fitted & (tokens >= FEW_TOKENS) & (ends > begins) & _company_known(run, begins, ends)
    if usable.sum() < ENOUGH_CALLS:
        raise ConfigError(
            f"stage {run.stage.name!r}: only {usable.sum()} of {len(begins)} recorded calls never waited for "
            "a slot; that is too few to tell what a decode step takes\n  fix: give it with --decode-ms"
        )
    begins, ends, tokens = begins[usable], ends[usable], tokens[usable]
    learning = Coverage(*_columns([(time.consumed, time.learned) for time in run.times])).mean(begins, ends)
    number = live.mean(begins, ends) / engine.num_engines
    contentions = CONTENTION if learning.any() else CONTENTION[:1]
    fits: list[Fit] = []
    for contention, ticks in product(contentions, CALL_TICKS):
        work = (tokens + ticks) * longer(contention, learning)
        # Divided by the root of the duration: a long call's noise is that of its many steps added up.
        error, step_s, call_s = _two_parts(work, work * number, ends - begins, 1 / np.sqrt(ends - begins))
        found = {"step_s": step_s, "call_s": call_s, "call_ticks": ticks, "engine_contention": contention}
        fits.append((error, {name: float(value) for name, value in found.items()}))
    return _plainest(fits, "engine_contention")


def _company_known(run: RecordedRun, begins: Array, ends: Array) -> Mask:
    """[N] whether all calls that were live meanwhile are in the record: not those of a validation, and of
    steps before the first that was read.
    """
    unknown = [(time.published, time.ended) for time in run.times if time.ended > time.published]
    if run.first:
        unknown.append((0.0, run.times[run.first - 1].consumed))
    known = np.ones(len(begins), dtype=bool)
    for first, last in unknown:
        known &= (begins >= last) | (ends <= first)
    return known


def _fit_learner(run: RecordedRun, rolling: Coverage) -> dict[str, float]:
    times = run.times[run.first :]
    begins, ends = _columns([(time.consumed, time.learned) for time in times])
    overlap = rolling.mean(begins, ends)
    tokens = np.array([time.tokens for time in times])
    contentions = CONTENTION if overlap.any() else CONTENTION[:1]
    fits: list[Fit] = []
    for contention in contentions:
        factor = longer(contention, overlap)
        error, constant, each = _two_parts(factor, factor * tokens, ends - begins, np.ones_like(ends))
        found = {"learner_s": constant, "learner_token_s": each, "learner_contention": contention}
        fits.append((error, {name: float(value) for name, value in found.items()}))
    return _plainest(fits, "learner_contention")


def _fit_publish(run: RecordedRun, rates: Rates, live: Coverage) -> tuple[float, float]:
    """-> (publish_s, canary_ticks)."""
    engine = run.recipe.engine
    sent, published = _columns([(time.learned, time.published) for time in run.times[run.first :]])
    number = live.mean(sent, sent + MOMENT_S) / engine.num_engines
    # Beyond that a canary waits for a slot, which the simulation adds by itself.
    free = number < engine.max_live_calls
    seconds = (published - sent)[free]
    step_s = (rates.step_s + rates.call_s * np.maximum(number[free], 1.0)) * np.ones_like(seconds)
    if np.sum(number[free] >= 1) >= ENOUGH_PUBLISHES:
        _, publish_s, ticks = _two_parts(np.ones_like(seconds), step_s, seconds, np.ones_like(seconds))
        return publish_s, max(ticks, 1.0)
    ticks = CANARY_TOKENS + rates.call_ticks
    if not free.any():
        return 0.0, ticks
    return max(0.0, float(np.median(seconds - ticks * step_s))), ticks


def _plainest(fits: Sequence[Fit], contention: str) -> dict[str, float]:
    """The best fit; but where a run says next to nothing about contention, the one with the least of it."""
    enough = min(error for error, _ in fits) * AS_GOOD
    least = min(found[contention] for error, found in fits if error <= enough)
    return min((fit for fit in fits if fit[1][contention] == least), key=lambda fit: fit[0])[1]


def _two_parts(first: Array, second: Array, target: Array, weights: Array) -> tuple[float, float, float]:
    """Least squares of target = a * first + b * second with a, b >= 0. -> (squared error, a, b)."""
    columns = np.stack([first * weights, second * weights], axis=1)
    goal = target * weights
    candidates = [np.linalg.lstsq(columns, goal, rcond=None)[0]]
    if candidates[0].min() < 0:
        alone = (columns * goal[:, None]).sum(axis=0) / (columns**2).sum(axis=0)
        candidates = [np.array([alone[0], 0.0]), np.array([0.0, alone[1]])]
    errors = [float(((columns @ found - goal) ** 2).sum()) for found in candidates]
    a, b = candidates[int(np.argmin(errors))]
    return min(errors), float(a), float(b)


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[Array, Array]:
    begins, ends = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return begins, ends


def recorded_workload(run: RecordedRun, rates: Rates, *, samples: int | None = None) -> Workload:
    """The run's groups by their steps; with another number of samples in a group each is repeated or cut."""
    wanted = samples or run.stage.samples_per_group

    def taken(group: Sequence[Any]) -> list[Any]:
        return [group[index % len(group)] for index in range(wanted)]

    return Workload(
        parts=tuple(
            tuple(load_of_episodes(taken(group), call_ticks=rates.call_ticks) for group in groups)
            for groups in run.groups
        )
    )
