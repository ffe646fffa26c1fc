"""The length policy: prompts that are too long are refused, dropped or cut, and counted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from data.errors import ConfigError
from data.tasks.dataset.loading import Loaded, Placed, prompt_of
from data.tasks.dataset.params import DatasetParams
from data.tasks.problem import Problem
from data.text.prompt import Prompt

Measure = Callable[[Prompt], int]
"""Tokens of a prompt as the model gets it. Raises ConfigError for one that its chat template refuses."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class LengthLimit:
    """A measure of prompts, and the most it may give."""

    measure: Measure
    tokens: int
    key: str
    """Key of the recipe that sets `tokens`."""


def apply_length_policy(loaded: Loaded, params: DatasetParams, limit: LengthLimit) -> None:
    """Measure every prompt of a split and treat those above the limit as `on_long` says, in place.

    Raises:
        ConfigError: a row that the model's chat template refuses; a prompt that is too long (on_long: error),
            or too many of them (on_long: drop).
    """
    kept: list[Placed] = []
    long: list[tuple[Placed, int]] = []
    longest = 0
    for placed in loaded.problems:
        length = _measured(placed, limit.measure)
        if length > limit.tokens and params.on_long == "cut":
            placed = _cut(placed, limit)
            length = limit.measure(prompt_of(placed.problem))
            loaded.cut += 1
        if length > limit.tokens:
            long.append((placed, length))
            continue
        kept.append(placed)
        longest = max(longest, length)
    most, fix = f"{limit.key} = {limit.tokens}", f"raise {limit.key}"
    if long and params.on_long == "error":
        raise ConfigError(
            f"{_named(long)}, more than {most} allows ({len(long)} of {loaded.rows} rows)\n"
            f"  fix: {fix}, or use task.params.on_long: drop (or cut)"
        )
    if len(long) > params.most_dropped * loaded.rows:
        raise ConfigError(
            f"{loaded.source}: {len(long)} of {loaded.rows} prompts are longer than {most} allows, and "
            f"most_dropped is {params.most_dropped:g} ({_named(long)})\n"
            f"  fix: {fix}, or task.params.most_dropped"
        )
    if long:
        loaded.dropped[f"longer than {most} allows"] += len(long)
    loaded.problems, loaded.longest = kept, longest


def _measured(placed: Placed, measure: Measure) -> int:
    try:
        return measure(prompt_of(placed.problem))
    except ConfigError as error:
        raise ConfigError(f"{placed.where}: {error}") from error


def _cut(placed: Placed, limit: LengthLimit) -> Placed:
    """The problem with the longest beginning of its text that fits.

    Raises:
        ConfigError: even without any text, history and template are too long.
    """
    fields: Mapping[str, Any] = placed.problem.fields
    text = str(fields["prompt"])
    prompt = prompt_of(placed.problem)
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if limit.measure(replace(prompt, text=text[:middle])) <= limit.tokens:
            low = middle
        else:
            high = middle - 1
    if not text[:low].strip():
        raise ConfigError(
            f"{placed.where}: what stands before the question leaves no room in {limit.tokens} tokens\n"
            f"  fix: raise {limit.key}, or use task.params.on_long: drop"
        )
    problem = Problem(placed.problem.id, placed.problem.task, {**fields, "prompt": text[:low]})
    return replace(placed, problem=problem)


def _named(long: list[tuple[Placed, int]]) -> str:
    """The longest rows: "train.jsonl, row 7: 812 tokens; ..."."""
    worst = sorted(long, key=lambda pair: -pair[1])[:_SHOWN]
    return "; ".join(f"{placed.where}: {length} tokens" for placed, length in worst)
