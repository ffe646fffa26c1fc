"""Recorded episodes of a run with their rewards: those of a training step, and those an evaluation kept."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data.episodes.trajectory import Episode
from data.episodes.wire import read_episodes
from data.errors import BraidError, ConfigError
from rl.evaluation.outcome_file import read_contents
from rl.reporting.contents import Shown
from rl.scored_group import sample_of
from rl.storage.files import read_object
from rl.storage.rollout_record import RECORD

Known = Callable[[Episode], dict[str, Any]]
"""An episode -> what is known of its reward, as fields of `Shown`."""
ENDING = ".episodes.jsonl.gz"


def record_files(folder: Path) -> list[Path]:
    """Files of recorded episodes in a stage's folder: training steps in order, then evaluations."""
    return [*sorted(folder.glob(f"{RECORD}/*{ENDING}")), *sorted(folder.glob(f"*{ENDING}"))]


def place_of(file: Path) -> str:
    """Name of a file of episodes within its stage, such as "record/step-000012" or "rl.sampled"."""
    name = file.name.removesuffix(ENDING)
    return f"{RECORD}/{name}" if file.parent.name == RECORD else name


def read_shown(file: Path, *, only: str | None = None) -> Iterator[Shown]:
    """The episodes of a file with their rewards, or the one with the id `only`.

    Raises BraidError when the file or that of its rewards is damaged.
    """
    in_step = file.parent.name == RECORD
    scores = file.with_name(f"{file.name.removesuffix(ENDING)}.scores.json")
    rows = read_object(scores, scores=dict)["scores"] if in_step else {}
    if in_step and only is not None and only not in rows:
        return  # a step's episodes take a hundred times as long to read as its rewards
    known = (lambda episode: _of_record(rows.get(episode.id), scores)) if in_step else _of_evaluation(file)
    for episode in read_episodes(file):
        if only is None or episode.id == only:
            yield Shown(episode=episode, place=place_of(file), **known(episode))


def find_episode(
    run: Path, stages: Sequence[str], episode_id: str
) -> tuple[list[tuple[str, Shown]], list[str]]:
    """-> (stage, episode) of every recorded episode of this id, and messages on files that cannot be read."""
    found, damaged = list[tuple[str, Shown]](), list[str]()
    for stage in stages:
        for file in record_files(run / "stages" / stage):
            try:
                found += [(stage, shown) for shown in read_shown(file, only=episode_id)]
            except BraidError as error:
                damaged.append(str(error))
    return found, damaged


def _of_evaluation(file: Path) -> Known:
    """What an evaluation's outcomes say of the episodes that it kept."""
    outcomes = file.with_name(f"{file.name.removesuffix(ENDING)}.jsonl")
    graded = read_contents(outcomes).outcomes if outcomes.is_file() else {}

    def known(episode: Episode) -> dict[str, Any]:
        outcome = graded.get((episode.problem_id, sample_of(episode.id)))
        if outcome is None:
            return {}
        return {"reward": outcome.reward, "correct": outcome.correct, "reason": outcome.reason}

    return known


def _of_record(row: Any, path: Path) -> dict[str, Any]:
    """The known fields of an episode's recorded score. Raises ConfigError when they are damaged."""
    if row is None:
        return {}
    try:
        return {
            "reward": None if row["reward"] is None else float(row["reward"]),
            "correct": row.get("correct"),
            "reason": str(row.get("reason", "")),
            "parts": {str(name): float(value) for name, value in row.get("parts", {}).items()},
            "placed": tuple(
                (str(term), int(call), start, stop, float(value))
                for term, call, start, stop, value in row.get("placed", ())
            ),
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: is damaged ({error!r})\n  fix: restore the file") from error
