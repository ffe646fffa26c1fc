"""Rates of engines and learner from a finished run.

Engine: of every recorded call that never had to wait for a slot,

    duration = (tokens + call_ticks) * (step_s + call_s * n) * longer(engine_contention, o)

with n the mean number of live calls over its decode steps and o the share of the time in which the learner
worked. The mean is over steps, not over time: steps with many calls are longer, so time overrepresents them.
The duration of steps is itself unknown, so n and the fit are updated in turns. Stretches in which calls
queued (all slots taken) make most of the tokens of a busy run; where there are some, the contention is chosen
that explains their decode steps best.

Learner: seconds = (learner_s + learner_token_s * tokens) * longer(learner_contention, o), with o the share of
the time in which an engine worked. Fitted by least squares, with the nonlinear contention and call_ticks on a
grid.

Publish: publish_s is the median, since every publish is the same work.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from data.errors import ConfigError
from rl.simulation.coverage import Array, Coverage, longer, two_parts
from rl.simulation.load import load_of_episodes
from rl.simulation.plan import Rates, Workload
from rl.simulation.recorded import RecordedRun

CONTENTION = np.arange(1.0, 3.001, 0.05).tolist()
CALL_TICKS = np.arange(0.0, 12.001, 0.5)
ENOUGH_CALLS = 50
FEW_TOKENS = 2
"""Shorter calls are left out: their start dominates their duration."""
FULL_S = 1.0
"""Shortest stretch of full slots that is used, in seconds."""
ENOUGH_STRETCHES = 5
MET = 0.01
"""Least mean share of the time with engine and learner both at work that counts as overlap."""
ROUNDS = 8
TURNS = 8
NO_TIME_S = 1e-6
"""Added to a decode step without calls, which a first fit may find to take no time."""
AS_GOOD = 1.005
"""Largest squared error, relative to the best fit, that counts as equally good."""

Fit = tuple[float, dict[str, float]]
"""(squared error, parameters by name)."""
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def measure_rates(run: RecordedRun) -> Rates:
    """Fit the rates. Raises ConfigError when nearly every call waited for a slot."""
    calls = np.array(
        [
            (run.started(step) + call.started_s, run.started(step) + call.finished_s, len(call.output))
            for step, groups in enumerate(run.groups, start=run.first)
            for group in groups
            for episode in group
            for call in episode.calls
        ]
    ).reshape(-1, 3)
    begins, ends, _ = calls.T
    engine = _fit_engine(run, calls)
    learner = _fit_learner(run, Coverage(begins, ends, at_most=1.0))
    publish_s = float(np.median([time.published - time.sent for time in run.times[run.first :]]))
    return Rates(**engine, **learner, publish_s=publish_s)


def _fit_engine(run: RecordedRun, calls: Array) -> dict[str, float]:
    engine = run.recipe.engine
    begins, ends, tokens = calls.T
    live = Coverage(begins, ends)
    fitted = live.most(begins, ends) <= engine.max_live_calls * engine.num_engines
    usable = fitted & (tokens >= FEW_TOKENS) & (ends > begins) & _company_known(run, begins, ends)
    if usable.sum() < ENOUGH_CALLS:
        raise ConfigError(
            f"stage {run.stage.name!r}: only {usable.sum()} of {len(begins)} recorded calls never waited for "
            "a slot; that is too few to tell what a decode step takes\n  fix: give it with --decode-ms"
        )
    begins, ends, tokens = begins[usable], ends[usable], tokens[usable]
    learning = _learning(run).mean(begins, ends)
    number = live.mean(begins, ends) / engine.num_engines
    for _ in range(TURNS):
        fits: list[Fit] = []
        for contention, ticks in product(_contentions(learning), CALL_TICKS):
            work = (tokens + ticks) * longer(contention, learning)
            error, step_s, call_s = two_parts(work, work * number, ends - begins)
            found = {"step_s": step_s, "call_s": call_s, "call_ticks": ticks, "engine_contention": contention}
            fits.append((error, {name: float(value) for name, value in found.items()}))
        best = _plainest(_by_full_stretches(fits, run, calls, live) or fits, "engine_contention")
        again = live.mean_by_steps(
            begins, ends, best["step_s"] + NO_TIME_S, best["call_s"] / engine.num_engines
        )
        # Damped: with the full update the turns may oscillate.
        number = (number + again / engine.num_engines) / 2
    return best


def _by_full_stretches(fits: Sequence[Fit], run: RecordedRun, calls: Array, live: Coverage) -> list[Fit]:
    """The best fit for each contention, judged by stretches in which calls queued; [] when no such stretch
    overlaps with the learner.
    """
    engine = run.recipe.engine
    slots = engine.max_live_calls * engine.num_engines
    spans = [(first, last) for first, last in live.above(slots) if last - first >= FULL_S]
    begins, ends = _columns(spans)
    known = _company_known(run, begins, ends)
    begins, ends = begins[known], ends[known]
    learning = _learning(run).mean(begins, ends)
    if np.sum(learning >= MET) < ENOUGH_STRETCHES:
        return []
    ticks = min(fits, key=lambda fit: fit[0])[1]["call_ticks"]
    guess = float(np.median((calls[:, 1] - calls[:, 0]) / (calls[:, 2] + ticks)))
    steps = np.array(
        [full_step_s(calls, ticks, a, b, slots, guess) for a, b in zip(begins, ends, strict=True)]
    )
    judged = []
    for contention in sorted({fit[1]["engine_contention"] for fit in fits}):
        of_it = [fit for fit in fits if fit[1]["engine_contention"] == contention]
        found = min(of_it, key=lambda fit: fit[0])[1]
        predicted = (found["step_s"] + found["call_s"] * engine.max_live_calls) * longer(contention, learning)
        judged.append((float(np.sum((ends - begins) * (steps - predicted) ** 2)), found))
    return judged


def full_step_s(calls: Array, ticks: float, first: float, last: float, slots: int, guess: float) -> float:
    """Seconds of a decode step between two moments with all slots taken: a call that queued ran exactly as
    many steps, up to its end, as it has tokens.
    """
    begins, ends, tokens = calls[(calls[:, 0] < last) & (calls[:, 1] > first)].T
    found = guess
    for _ in range(ROUNDS):
        since = np.maximum(begins, ends - (tokens + ticks) * found)
        inside = np.clip(np.minimum(ends, last) - np.maximum(since, first), 0.0, None)
        share = np.divide(inside, ends - since, out=np.zeros_like(ends), where=ends > since)
        found = (last - first) * slots / max(1.0, float(((tokens + ticks) * share).sum()))
    return found


def _contentions(overlap: Array) -> list[float]:
    """The grid of contentions, or only 1 when engine and learner never overlap."""
    return CONTENTION if overlap.mean() >= MET else CONTENTION[:1]


def _learning(run: RecordedRun) -> Coverage:
    return Coverage(*_columns([(time.consumed, time.learned) for time in run.times]))


def _company_known(run: RecordedRun, begins: Array, ends: Array) -> Mask:
    """[N] whether the record has all calls that were live in each span. It lacks those of validations and of
    steps before the first that was read.
    """
    unknown = [(time.published, time.ended) for time in run.times if time.ended > time.published]
    unknown.append((0.0, run.validated))
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
    fits: list[Fit] = []
    for contention in _contentions(overlap):
        factor = longer(contention, overlap)
        error, constant, each = two_parts(factor, factor * tokens, ends - begins)
        found = {"learner_s": constant, "learner_token_s": each, "learner_contention": contention}
        fits.append((error, {name: float(value) for name, value in found.items()}))
    return _plainest(fits, "learner_contention")


def _plainest(fits: Sequence[Fit], contention: str) -> dict[str, float]:
    """Among the fits that are as good as the best, the best one with the least contention."""
    enough = min(error for error, _ in fits) * AS_GOOD
    least = min(found[contention] for error, found in fits if error <= enough)
    return min((fit for fit in fits if fit[1][contention] == least), key=lambda fit: fit[0])[1]


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[Array, Array]:
    begins, ends = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return begins, ends


def recorded_workload(run: RecordedRun, rates: Rates, *, samples: int | None = None) -> Workload:
    """The run's groups by step; `samples`: of each group, repeating or cutting its episodes."""
    wanted = samples or run.stage.samples_per_group

    def taken(group: Sequence[Any]) -> list[Any]:
        return [group[index % len(group)] for index in range(wanted)]

    return Workload(
        parts=tuple(
            tuple(load_of_episodes(taken(group), call_ticks=rates.call_ticks) for group in groups)
            for groups in run.groups
        )
    )
