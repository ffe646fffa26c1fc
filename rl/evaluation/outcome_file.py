"""The outcomes file of an evaluation. Each episode is appended when it has been scored, so that a kill loses
only episodes in flight; once all are there, the file is rewritten in order.

    {"setting": {"weights": "1f3a...", "samples": 8, ...}, "episodes": 96, "checksum": "..."}
    {"problem_id": "37-10-9-4-2", "sample": 0, "correct": true, "total_tokens": 310, ..., "checksum": "..."}
    ...

A row may also hold its whole episode (`data.episodes.wire`), until the file is complete: then episodes are
moved to a file of their own. A checksum covers all of its line before it. The last row of a (problem, sample)
counts.
"""

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import xxhash

from data.episodes.trajectory import Episode
from data.episodes.wire import decode_episode, encode_episode, read_episodes, write_episodes
from data.errors import ConfigError, StorageError, TrajectoryError
from data.whole_file import whole_file
from rl.evaluation.outcomes import Outcome, outcome_from_dict, outcome_to_dict
from rl.scored_group import sample_of
from rl.storage.files import storing

SYNC_SECONDS = 1.0
"""Most seconds of rows that a machine failure loses. The death of the process loses none."""
Key = tuple[str, int]
"""Problem id and index of the sample."""


@dataclass(kw_only=True, slots=True)
class Contents:
    """What was read from an outcomes file, good rows only."""

    setting: Mapping[str, Any] | None = None
    """What was evaluated, and how; None without a readable first line."""
    num_episodes: int = 0
    """Number of rows of the complete file."""
    outcomes: dict[Key, Outcome] = field(default_factory=dict)
    """The last outcome of each episode."""
    episodes: dict[Key, Episode] = field(default_factory=dict)
    """Whole episodes, of rows that hold one."""
    damaged: list[int] = field(default_factory=list)
    """Numbers of the lines that are not rows, from 1, without a torn last line."""
    torn: bool = False
    """Whether the last line has no end: the process was killed while it wrote it."""


def read_contents(path: Path) -> Contents:
    """Read the good rows of a file that may be incomplete or damaged."""
    found = Contents()
    lines = path.read_bytes().split(b"\n")
    found.torn = lines.pop() != b""
    for number, line in enumerate(lines, start=1):
        try:
            _take(found, _checked(line), first=number == 1)
        except (AttributeError, KeyError, TypeError, ValueError):
            found.damaged.append(number)
    return found


def load_outcomes(path: Path) -> list[Outcome]:
    """Raises ConfigError if the file is missing, incomplete, or has a damaged line (by number)."""
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file\n  fix: evaluate first, or give the path of an outcomes file"
        )
    found = read_contents(path)
    again = "fix: start the evaluation again; good rows are kept"
    if found.setting is None and not found.damaged:
        raise ConfigError(f"{path}: is empty\n  {again}")
    if found.damaged:
        raise ConfigError(f"{path}, line {found.damaged[0]}: not an evaluation outcome\n  {again}")
    if len(found.outcomes) != found.num_episodes or found.torn:
        raise ConfigError(
            f"{path}: holds {len(found.outcomes)} of {found.num_episodes} episodes: evaluation was stopped, "
            f"or the file cut off\n  {again}"
        )
    return list(found.outcomes.values())


def save_outcomes(path: Path, outcomes: Sequence[Outcome], setting: Mapping[str, Any]) -> None:
    """A complete file, written whole or not at all."""
    _write_whole(path, [_first_line(setting, len(outcomes)), *map(_row, outcomes)])


def episodes_file(path: Path) -> Path:
    """The file with the whole episodes that belong to an outcomes file."""
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.episodes.jsonl.gz")


class OutcomeFile:
    """The outcomes file of an evaluation that is under way; a context manager.

    Opening it reads what an earlier start has left. Rows of another setting are never mixed in: such a file
    is renamed. A damaged file is copied, and its good rows are kept. `warnings` reports both.
    """

    def __init__(
        self, path: Path, setting: Mapping[str, Any], keys: Sequence[Key], *, keep: int | None
    ) -> None:
        """`keys` are all episodes of the evaluation, in the order of the complete file; the first `keep` of
        them (None: all) are kept whole. Raises ConfigError if the file cannot be read.
        """
        self.path = path
        # As read back from JSON: tuples have become lists.
        self._setting: dict[str, Any] = json.loads(json.dumps(setting))
        self._keys = keys
        self._whole = set(keys[:keep])
        self.warnings: list[str] = []
        """Messages about the file that was found."""
        path.parent.mkdir(parents=True, exist_ok=True)
        found = self._open(path) if path.exists() else Contents()
        self._outcomes = found.outcomes
        # A complete file, and one that was stopped while episodes were moved, has them there.
        self._episodes = self._moved_episodes() | found.episodes
        for key in [key for key in self._outcomes if key in self._whole and key not in self._episodes]:
            del self._outcomes[key]
        self.complete = not self.missing() and not found.episodes
        """Whether an earlier start has finished the file."""
        self._file = path.open("a", encoding="utf-8")
        if self._file.tell() == 0:
            self._file.write(_first_line(self._setting, len(keys)) + "\n")
        self._synced = time.monotonic()

    def missing(self) -> list[Key]:
        """Episodes that are to be run: those without a row, and those to be redone."""
        done = self._outcomes
        return [key for key in self._keys if key not in done or done[key].to_redo]

    def attempts(self, key: Key) -> int:
        """Number of times the episode was run so far."""
        return self._outcomes[key].attempts if key in self._outcomes else 0

    def outcomes(self) -> list[Outcome]:
        """All outcomes of the complete file, in its order."""
        return [self._outcomes[key] for key in self._keys]

    def append(self, outcome: Outcome, episode: Episode | None) -> None:
        """Adds the row of a scored episode; None where its source gives no ids. StorageError if it cannot."""
        key = outcome.problem_id, outcome.sample
        whole = episode if key in self._whole else None
        with storing(str(self.path)):
            self._file.write(_row(outcome, whole) + "\n")
            self._file.flush()
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        self._outcomes[key] = outcome
        if whole is not None:
            self._episodes[key] = whole

    def finish(self) -> list[Outcome]:
        """Rewrites the complete file in order and moves whole episodes to their own. -> all outcomes."""
        outcomes = self.outcomes()
        with storing(str(self.path)):
            write_episodes(
                episodes_file(self.path), (self._episodes[key] for key in self._keys if key in self._whole)
            )
            save_outcomes(self.path, outcomes, self._setting)
        return outcomes

    def close(self) -> None:
        """Closes the file; what is in it stays."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, path: Path) -> Contents:
        """Good rows of the file; all others are removed from it."""
        try:
            found = read_contents(path)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        if found.setting is not None and found.setting != self._setting:
            changed = sorted(
                key
                for key in self._setting.keys() | found.setting.keys()
                if self._setting.get(key) != found.setting.get(key)
            )
            path.replace(path.with_name(f"other-{path.name}"))
            what = f"was made with other {', '.join(changed)}"
            self.warnings.append(f"{path}: {what}; renamed to other-{path.name}")
            return Contents()
        known = set(self._keys)
        found.outcomes = {key: outcome for key, outcome in found.outcomes.items() if key in known}
        if found.setting is None:
            found.outcomes, found.episodes = {}, {}
        if found.damaged:
            shutil.copyfile(path, path.with_name(f"damaged-{path.name}"))
            lines = ", ".join(map(str, found.damaged[:3])) + (", ..." if len(found.damaged) > 3 else "")
            kept = f"{len(found.outcomes)} good rows are kept; the file as it was is damaged-{path.name}"
            self.warnings.append(f"{path}: line {lines} cannot be read; {kept}")
        if found.damaged or found.torn or found.setting is None:
            rows = [_row(outcome, found.episodes.get(key)) for key, outcome in found.outcomes.items()]
            _write_whole(path, [_first_line(self._setting, len(self._keys)), *rows])
        return found

    def _moved_episodes(self) -> dict[Key, Episode]:
        """Whole episodes of the complete file."""
        path = episodes_file(self.path)
        if not self._outcomes or not path.exists():
            return {}
        try:
            episodes = list(read_episodes(path))
        except (StorageError, TrajectoryError) as error:
            what = str(error).splitlines()[0]
            self.warnings.append(f"{what}; its episodes are run again")
            return {}
        return {(episode.problem_id, sample_of(episode.id)): episode for episode in episodes}


def _first_line(setting: Mapping[str, Any], num_episodes: int) -> str:
    return _line({"setting": dict(setting), "episodes": num_episodes})


def _row(outcome: Outcome, episode: Episode | None = None) -> str:
    record = outcome_to_dict(outcome)
    return _line(record if episode is None else record | {"episode": encode_episode(episode)})


def _line(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, allow_nan=False)
    return f'{text[:-1]}, "checksum": "{xxhash.xxh3_64_hexdigest(text.encode())}"}}'


def _checked(line: bytes) -> dict[str, Any]:
    """The record of a line, without its checksum. Raises ValueError if they do not fit together."""
    text, _, checksum = line.decode().rpartition(', "checksum": ')
    text += "}"
    if checksum != f'"{xxhash.xxh3_64_hexdigest(text.encode())}"}}':
        raise ValueError("the checksum is wrong")
    record: dict[str, Any] = json.loads(text)
    return record


def _take(found: Contents, record: dict[str, Any], *, first: bool) -> None:
    if first:
        found.num_episodes = int(record["episodes"])
        found.setting = record["setting"]
        return
    episode = record.pop("episode", None)
    outcome = outcome_from_dict(record)
    key = outcome.problem_id, outcome.sample
    # The last one counts, at its own position.
    found.outcomes.pop(key, None)
    found.outcomes[key] = outcome
    if episode is not None:
        found.episodes[key] = decode_episode(episode)


def _write_whole(path: Path, lines: Iterable[str]) -> None:
    with whole_file(path) as file:
        file.writelines(f"{line}\n".encode() for line in lines)
