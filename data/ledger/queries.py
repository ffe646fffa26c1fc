"""Queries on a run's ledger. The same SQL, with an example of each, is in docs/ledger.md.

Each query is an SQL text with the stage as a parameter, and a function that runs it on a ledger, while the
run is going or afterwards. All raise ConfigError when the file is not a ledger; an unknown stage has no rows.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from data.ledger.schema import reading

WORST_GROUPS = """
SELECT group_index, problem, groups.state, groups.step, AVG(reward) AS mean_reward, COUNT(reward) AS graded
FROM groups JOIN episodes USING (group_id)
WHERE stage = :stage
GROUP BY group_id
HAVING graded > 0
ORDER BY mean_reward, group_index
LIMIT :most
"""

LONGEST_EPISODES = """
SELECT group_index, sample, problem, critical_tokens, critical_seconds, total_tokens, num_threads, reward
FROM groups JOIN episodes USING (group_id)
WHERE stage = :stage
ORDER BY CASE :by WHEN 'tokens' THEN critical_tokens ELSE critical_seconds END DESC, group_index, sample
LIMIT :most
"""

STALENESS = """
SELECT groups.step - json_extract(span.value, '$[0]') AS staleness,
       SUM(json_extract(span.value, '$[2]') - json_extract(span.value, '$[1]')) AS tokens
FROM groups JOIN calls USING (group_id) JOIN json_each(calls.versions) AS span
WHERE stage = :stage AND state = 'consumed'
GROUP BY staleness
ORDER BY staleness
"""

PARTS_BY_STEP = """
SELECT step, part.key AS part, AVG(part.value) AS mean
FROM groups JOIN episodes USING (group_id) JOIN json_each(episodes.parts) AS part
WHERE stage = :stage AND state = 'consumed'
GROUP BY step, part.key
ORDER BY step, part.key
"""

MISHAPS = """
SELECT datetime(moment, 'unixepoch') AS at, kind, what, detail FROM (
    SELECT at AS moment, 'resume' AS kind, 'before step ' || step AS what,
           'groups undone: ' || undone || ', consumed ones among them: ' || rolled_back AS detail
    FROM incarnations
    WHERE stage = :stage
      AND incarnation > (SELECT MIN(incarnation) FROM incarnations WHERE stage = :stage)
    UNION ALL
    SELECT events.at, 'restart', 'group ' || group_index, detail
    FROM events JOIN incarnations USING (incarnation)
    WHERE stage = :stage AND kind = 'restarted'
    UNION ALL
    SELECT at, kind, what, detail FROM faults WHERE stage = :stage
)
ORDER BY moment
"""

RUNNING = """
SELECT group_index, problem, attempts, version, engine, datetime(started_at, 'unixepoch') AS since
FROM groups
WHERE stage = :stage AND state = 'running'
ORDER BY group_index
"""


class GroupReward(NamedTuple):
    """A scored group. Ungraded episodes are left out of its mean."""

    group_index: int
    problem_id: str
    state: str
    step: int | None
    mean_reward: float
    graded: int


class LongEpisode(NamedTuple):
    """An episode with its cost and reward."""

    group_index: int
    sample: int
    problem_id: str
    critical_tokens: int
    critical_seconds: float
    total_tokens: int
    num_threads: int
    reward: float | None


class PartOfStep(NamedTuple):
    """A reward term's mean contribution to the graded episodes of a step, as trained."""

    step: int
    part: str
    mean: float


class Mishap(NamedTuple):
    """A resume, a group run again, or a fault."""

    at: str
    """Date and time, UTC."""
    kind: str
    what: str
    detail: str


class RunningGroup(NamedTuple):
    """A group that is on an engine, or was when the run crashed."""

    group_index: int
    problem_id: str
    attempts: int
    version: int
    engine: str | None
    since: str
    """Date and time of the start, UTC."""


def worst_groups(path: Path, stage_name: str, *, most: int = 10) -> list[GroupReward]:
    """Groups with the lowest mean reward, lowest first."""
    return [GroupReward(*row) for row in _ask(path, WORST_GROUPS, stage=stage_name, most=most)]


def longest_episodes(
    path: Path, stage_name: str, *, by: Literal["tokens", "seconds"] = "tokens", most: int = 10
) -> list[LongEpisode]:
    """Episodes with the longest critical path, longest first."""
    return [LongEpisode(*row) for row in _ask(path, LONGEST_EPISODES, stage=stage_name, by=by, most=most)]


def staleness_histogram(path: Path, stage_name: str) -> dict[int, int]:
    """Staleness (step - version) -> sampled tokens of that staleness, over all consumed groups."""
    return dict(_ask(path, STALENESS, stage=stage_name))


def parts_by_step(path: Path, stage_name: str) -> list[PartOfStep]:
    """Mean contribution of each reward term at each step."""
    return [PartOfStep(*row) for row in _ask(path, PARTS_BY_STEP, stage=stage_name)]


def mishaps(path: Path, stage_name: str) -> list[Mishap]:
    """Resumes, restarts of groups, and faults, in the order in which they happened."""
    return [Mishap(*row) for row in _ask(path, MISHAPS, stage=stage_name)]


def running_groups(path: Path, stage_name: str) -> list[RunningGroup]:
    """Groups that are on the engines now."""
    return [RunningGroup(*row) for row in _ask(path, RUNNING, stage=stage_name)]


def _ask(path: Path, question: str, **parameters: object) -> list[Any]:
    with reading(path) as connection:
        return connection.execute(question, parameters).fetchall()
