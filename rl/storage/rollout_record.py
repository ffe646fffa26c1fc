"""The rollout record: what every step of a stage consumed, from which the learner can be run again.

stages/NAME/record/
    step-000012.episodes.jsonl.gz    in order; every id, log-probability, version, time (data.wire)
    step-000012.scores.json          their rewards as trained, with reasons, and the factors of the schedules
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from data.episodes.trajectory import Episode
from data.episodes.wire import read_episodes, write_episodes
from data.errors import ConfigError
from data.whole_file import write_json
from rewards.score import Score
from rl.scored_group import ScoredGroup, group_index_of
from rl.storage.files import read_json

RECORD = "record"
"""Name of the folder, in a stage's."""


def write_step(folder: Path, step: int, groups: Sequence[ScoredGroup], factors: Mapping[str, float]) -> str:
    """-> name of the file with the episodes."""
    folder.mkdir(exist_ok=True)
    path = _episodes(folder, step)
    write_episodes(path, (episode for group in groups for episode in group.episodes))
    scores = {
        episode.id: {
            "reward": score.value,
            "parts": dict(score.components),
            "correct": score.correct,
            "reason": score.reason,
        }
        for group in groups
        for episode, score in zip(group.episodes, group.scores, strict=True)
    }
    write_json(_scores(folder, step), {"step": step, "factors": dict(factors), "scores": scores})
    return path.name


def recorded_groups(folder: Path, step: int) -> list[ScoredGroup]:
    """What a step consumed, in its order. Raises ConfigError when it is not there."""
    path = _episodes(folder, step)
    if not path.is_file():
        raise ConfigError(f"{path}: is missing, so step {step} cannot be replayed")
    scores = read_json(_scores(folder, step))["scores"]
    groups: dict[int, list[Episode]] = {}
    for episode in read_episodes(path):
        groups.setdefault(group_index_of(episode.id), []).append(episode)
    return [
        ScoredGroup(
            index=index,
            problem_id=episodes[0].problem_id,
            episodes=tuple(episodes),
            scores=tuple(Score(value=scores[episode.id]["reward"]) for episode in episodes),
        )
        for index, episodes in groups.items()
    ]


def _episodes(folder: Path, step: int) -> Path:
    return folder / f"step-{step:06d}.episodes.jsonl.gz"


def _scores(folder: Path, step: int) -> Path:
    return folder / f"step-{step:06d}.scores.json"
