"""Options of `braid plan`, and checks that they make sense."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import ConfigError

MOST_TOKENS = 1e9
"""Longest episode, in tokens."""
SLOWEST_TOKENS_PER_S = 1e-3
MOST_ENGINES = 100_000
MOST_GROUPS = 10_000
"""Largest batch; a larger one takes minutes to simulate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Options of the command line; None leaves a value to the run, or to the recipe."""

    stage: str | None = None
    run: Path | None = None
    nodes: Sequence[int] | None = None
    engines_per_node: int | None = None
    staleness: Sequence[int] | None = None
    groups_per_step: Sequence[int] | None = None
    steps: int | None = None
    learner_ranks: int | None = None
    decode_ms: tuple[float, float] | None = None
    learner_s: float | None = None
    learner_tokens_per_s: float | None = None
    publish_s: float | None = None
    contention: tuple[float, float] | None = None
    episodes: Sequence[tuple[float, float]] = ()
    filtered: float | None = None
    json: Path | None = None


def ensure_consistent(question: Question, engines: Sequence[int]) -> None:
    """Raises ConfigError for options that contradict each other or mean more than can be simulated.

    engines: the numbers of engines that follow from the options and the recipe.
    """
    for total, critical in question.episodes:
        option = f"--episode {total:g} {critical:g}"
        if critical > total:
            raise ConfigError(
                f"{option}: the longest path has more tokens than the episode\n"
                "  fix: give TOTAL first, then CRITICAL, which is at most TOTAL"
            )
        if critical < 1 or total > MOST_TOKENS:
            raise ConfigError(f"{option}: both must be from 1 to {MOST_TOKENS:g} tokens")
    if question.decode_ms is not None and not sum(question.decode_ms):
        raise ConfigError(
            "--decode-ms 0 0: a decode step takes no time\n  fix: give the time of a step, of a call, or both"
        )
    rate = question.learner_tokens_per_s
    if rate is not None and rate < SLOWEST_TOKENS_PER_S:
        raise ConfigError(f"--learner-tokens-per-s {rate:g}: must be at least {SLOWEST_TOKENS_PER_S:g}")
    if question.nodes is not None and max(question.contention or (1.0,)) > 1:
        raise ConfigError(
            "--nodes and --contention contradict each other: engines on other nodes share no cores with the "
            "learner\n  fix: leave one of the two out"
        )
    if max(engines) > MOST_ENGINES:
        raise ConfigError(
            f"{max(engines)} engines: at most {MOST_ENGINES} are simulated\n"
            "  fix: lower --nodes or --engines-per-node"
        )
    if question.groups_per_step and max(question.groups_per_step) > MOST_GROUPS:
        raise ConfigError(f"--groups-per-step {max(question.groups_per_step)}: at most {MOST_GROUPS}")
    if question.json is not None and question.json.is_dir():
        raise ConfigError(f"--json {question.json}: is a directory\n  fix: name a file in it")
