"""Recorded episodes for supervised fine-tuning: which files hold them, and which episodes are imitated.

Source: rejection sampling as in RFT (arXiv 2308.01825), which keeps distinct correct samples of each problem.
The task's verifier grades every episode again, so a record needs no scores.

    files -> episodes on this stage's training problems -> correct, well-formed, no copies
          -> at most `max_per_problem` of each problem, the shortest or any -> shuffled
"""

import bisect
import glob
import random
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

from data.episodes.topology import critical_tokens
from data.episodes.trajectory import Episode, Forced
from data.episodes.wire import read_episodes
from data.errors import ConfigError, StorageError, TrajectoryError
from data.tasks.base import Task
from data.tasks.problem import Problem
from data.text.prompt import Prompt
from rewards.verifiers.verdict import Judge, Verdict
from rl.config.stages import EpisodesSource, RecordedSource
from rl.imitation.demonstrations import WINDOW, RowSource
from rl.storage.run_directory import RunDirectory
from rollout.protocols.shared.base import Continue, ThinkingProtocol


@dataclass(kw_only=True, slots=True)
class SelectionCounts:
    """How many episodes were read, kept, and left out for which reason."""

    read: int = 0
    unknown: int = 0
    """Episodes on problems that this stage does not train on, held-out ones among them."""
    malformed: int = 0
    wrong: int = 0
    """Wrong answers, missing ones, and those that could not be checked."""
    copies: int = 0
    """Token for token equal to an earlier episode on the same problem."""
    surplus: int = 0
    """Beyond `max_per_problem`, or beyond `demonstrations` in all."""
    kept: int = 0

    def __str__(self) -> str:
        reasons = {name: count for name, count in asdict(self).items() if name not in ("read", "kept")}
        left = ", ".join(f"{count} {name}" for name, count in reasons.items() if count)
        return f"{self.kept} of {self.read} recorded episodes are imitated" + (f" ({left})" if left else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedEpisodes(RowSource):
    """The selected episodes, in the order of their file."""

    path: Path

    def windows(self) -> Iterator[list[Episode]]:
        episodes = read_episodes(self.path)
        while window := list(islice(episodes, WINDOW)):
            yield window


def record_files(source: EpisodesSource, directory: RunDirectory) -> list[Path]:
    """Records of the named stages, then the files of `files`. Raises ConfigError where there are none."""
    found: list[Path] = []
    for name in source.stages:
        folder = directory.stage(name)
        records = sorted([*folder.glob("record/*.episodes.jsonl.gz"), *folder.glob("*.episodes.jsonl.gz")])
        if not records:
            raise ConfigError(f"{folder}: holds no recorded episodes\n  fix: finish stage {name!r} first")
        found += records
    return found + [path for pattern in source.files for path in matching_files(pattern)]


def matching_files(pattern: Path, what: str = "episode record") -> list[Path]:
    """Files that match a pattern of the recipe; `what` each is. Raises ConfigError when there are none."""
    found = sorted(path for name in glob.glob(str(pattern), recursive=True) if (path := Path(name)).is_file())
    if not found:
        raise ConfigError(f"{pattern}: there is no such {what}; correct the path or the pattern")
    return found


def read_records(files: Sequence[Path], protocol: str) -> Iterator[tuple[Path, Episode]]:
    """Every episode with its file. Raises ConfigError for a damaged record, or one of another protocol."""
    for file in files:
        try:
            for episode in read_episodes(file):
                _ensure_protocol(file, episode, protocol)
                yield file, episode
        except (StorageError, TrajectoryError, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0].removeprefix(f"{file}: ")
            raise ConfigError(
                f"{file}: is not a whole episode record ({reason})\n  fix: leave the file out"
            ) from error


@dataclass(kw_only=True, slots=True)
class _TopK:
    """The best episodes of one problem so far."""

    ranked: list[tuple[float, int, Episode]] = field(default_factory=list)
    """(Sort key, number in reading order, episode), at most k."""
    seen: set[int] = field(default_factory=set)
    """Hashes of the outputs of every episode so far."""

    def is_new(self, episode: Episode) -> bool:
        """Whether no earlier episode had the same outputs."""
        words = hash(tuple(call.output for call in episode.calls))
        new = words not in self.seen
        self.seen.add(words)
        return new

    def add(self, rank: float, number: int, episode: Episode, most: int) -> None:
        bisect.insort(self.ranked, (rank, number, episode), key=lambda entry: entry[:2])
        del self.ranked[most:]


def select(
    records: Iterable[tuple[Path, Episode]],
    source: RecordedSource,
    *,
    task: Task,
    protocol: ThinkingProtocol,
    problems: Mapping[str, Problem],
    judge: Judge,
    most: int | None,
    seed: int,
) -> tuple[list[Episode], SelectionCounts]:
    """The episodes that pass the stage's filters, shuffled; at most `most`. Memory holds kept ones only.

    An episode that `judge` cannot grade counts as wrong.

    Raises:
        ConfigError: nothing is left, or an episode does not begin as it would here: then its ids may mean
            something else.
    """
    rng = random.Random(f"braid/recorded/{seed}")
    counts, best = SelectionCounts(), dict[str, _TopK]()
    for file, episode in records:
        counts.read += 1
        problem = problems.get(episode.problem_id)
        if problem is None:
            counts.unknown += 1
            continue
        _ensure_opening(file, episode, protocol, task.prompt(problem))
        if source.well_formed and episode.violations:
            counts.malformed += 1
        elif source.correct and judge.judge(problem, episode).verdict is not Verdict.CORRECT:
            counts.wrong += 1
        elif not (ranking := best.setdefault(episode.problem_id, _TopK())).is_new(episode):
            counts.copies += 1
        else:
            rank = rng.random() if source.best == "any" else critical_tokens(episode)
            ranking.add(rank, counts.read, episode, source.max_per_problem)
    chosen = [episode for ranking in best.values() for _, _, episode in ranking.ranked]
    rng.shuffle(chosen)
    chosen = chosen[:most]
    counts.kept = len(chosen)
    counts.surplus = (
        counts.read - counts.unknown - counts.malformed - counts.wrong - counts.copies - counts.kept
    )
    if not chosen:
        raise ConfigError(f"source: {counts}; loosen its filters, or record more episodes")
    return chosen, counts


def _ensure_protocol(file: Path, episode: Episode, protocol: str) -> None:
    if episode.protocol != protocol:
        raise ConfigError(
            f"{file}: episode {episode.id} was recorded under protocol {episode.protocol!r}, but this stage "
            f"teaches {protocol!r}; leave the file out, or give the stage that protocol"
        )


def _ensure_opening(file: Path, episode: Episode, protocol: ThinkingProtocol, prompt: Prompt) -> None:
    """Raises ConfigError unless the episode begins with the tags and ids that it would begin with here."""
    opened = protocol.open(prompt)
    asks = [opened.ask] if isinstance(opened, Continue) else [*opened.children, opened.resume]
    expected = [
        sum((span.ids for span in ask.context if isinstance(span, Forced)), ()) for ask in asks if ask
    ]
    if episode.calls and episode.context_ids(episode.calls[0]) not in expected:
        raise ConfigError(
            f"{file}: episode {episode.id} does not begin as one on problem {episode.problem_id!r} would "
            "here: it was recorded with another tokenizer, or other settings of the protocol or the task; "
            "leave the file out, or give the stage those settings"
        )
