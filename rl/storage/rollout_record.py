"""The rollout record: the episodes and rewards of every step, from which `braid replay` trains again.

stages/NAME/record/
    step-000012.episodes.jsonl.gz    in order; every id, log-probability, version, time (data.episodes.wire)
    step-000012.scores.json          their rewards as trained, with reasons; the schedule factors; version and
                                     checksum of the implicit reward model that scored their tokens
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from data.episodes.trajectory import Episode
from data.episodes.wire import read_episodes, write_episodes
from data.errors import ConfigError
from data.whole_file import write_json
from rewards.score import CallReward, Placed, Score, StepReward
from rl.scored_group import ScoredGroup, group_index_of
from rl.storage.files import read_json, read_object
from rl.storage.implicit_version import ImplicitVersion

RECORD = "record"
"""Name of the folder, inside a stage's folder."""
_ROW = TypeAdapter(Placed)


def write_step(
    folder: Path,
    step: int,
    groups: Sequence[ScoredGroup],
    factors: Mapping[str, float],
    implicit: ImplicitVersion | None = None,
) -> str:
    """Write the groups that a step consumed, and which implicit reward model scored their tokens.
    -> name of the file with the episodes.
    """
    folder.mkdir(exist_ok=True)
    path = _episodes(folder, step)
    write_episodes(path, (episode for group in groups for episode in group.episodes))
    scores = {
        episode.id: {
            "reward": score.value,
            "parts": dict(score.components),
            "placed": score.placed,
            "correct": score.correct,
            "opinion": score.opinion,
            "reason": score.reason,
        }
        for group in groups
        for episode, score in zip(group.episodes, group.scores, strict=True)
    }
    said = {} if implicit is None else {"implicit": implicit.recorded()}
    write_json(_scores(folder, step), {"step": step, "factors": dict(factors), **said, "scores": scores})
    return path.name


def recorded_implicit(folder: Path, step: int) -> dict[str, Any] | None:
    """Version and checksum of the implicit reward model that scored a step; None where there was none."""
    content = read_json(_scores(folder, step))
    return content.get("implicit") if isinstance(content, dict) else None


def recorded_groups(folder: Path, step: int) -> list[ScoredGroup]:
    """The groups that a step trained on, in order.

    Raises:
        ConfigError: a file of the step is missing, or its scores are damaged or do not cover its episodes.
        StorageError: the episodes are damaged.
    """
    path = _episodes(folder, step)
    if not path.is_file():
        raise ConfigError(f"{path}: is missing, so step {step} cannot be replayed\n  fix: restore the file")
    scores = read_object(_scores(folder, step), scores=dict)["scores"]
    groups: dict[int, list[Episode]] = {}
    for episode in read_episodes(path):
        score = scores.get(episode.id)
        if not isinstance(score, dict) or not isinstance(score.get("reward"), float | int | None):
            raise ConfigError(
                f"{_scores(folder, step)}: has no reward of episode {episode.id}, so step {step} cannot be "
                "replayed\n  fix: restore the file"
            )
        groups.setdefault(group_index_of(episode.id), []).append(episode)
    missing = scores.keys() - {episode.id for episodes in groups.values() for episode in episodes}
    if missing:
        raise ConfigError(
            f"{path}: lacks {len(missing)} of {len(scores)} episodes, so step {step} cannot be replayed\n"
            "  fix: restore the file"
        )
    return [
        ScoredGroup(
            index=index,
            problem_id=episodes[0].problem_id,
            episodes=tuple(episodes),
            scores=tuple(_score(scores[episode.id], _scores(folder, step)) for episode in episodes),
        )
        for index, episodes in groups.items()
    ]


def _score(found: dict[str, Any], path: Path) -> Score:
    """What a replay needs of a recorded score. Raises ConfigError when its local rewards, or what it says of
    the answer, are damaged.
    """
    correct = found.get("correct")
    if not isinstance(correct, bool | None):
        raise ConfigError(f"{path}: correct is {correct!r}, not true, false or null\n  fix: restore the file")
    try:
        placed = [_ROW.validate_python(tuple(row)) for row in found.get("placed", ())]
    except (TypeError, ValidationError) as error:
        raise ConfigError(
            f"{path}: rewards of calls and steps are damaged ({error})\n  fix: restore the file"
        ) from error
    return Score(
        value=found["reward"],
        correct=correct,
        calls=tuple(
            CallReward(term=term, call=call, value=value)
            for term, call, start, stop, value in placed
            if start is None or stop is None
        ),
        steps=tuple(
            StepReward(term=term, call=call, start=start, stop=stop, value=value)
            for term, call, start, stop, value in placed
            if start is not None and stop is not None
        ),
    )


def _episodes(folder: Path, step: int) -> Path:
    return folder / f"step-{step:06d}.episodes.jsonl.gz"


def _scores(folder: Path, step: int) -> Path:
    return folder / f"step-{step:06d}.scores.json"
