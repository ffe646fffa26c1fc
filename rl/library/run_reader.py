"""A run read from its files: metrics, episodes and tokens, as dataclasses and as Arrow tables."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from data.episodes.trajectory import Call, Episode
from data.errors import ConfigError
from rl.episode_export.source import Source, sources
from rl.library.tables import EPISODES, TOKENS, metrics_table, table
from rl.storage.files import read_json
from rl.storage.identity import RECIPE_FILE
from rl.tracking.metrics import METRICS_FILE, read_metrics
from rl.tracking.trackers.names import named


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMetrics:
    """All metrics of one step of a stage."""

    stage: str
    step: int
    values: Mapping[str, float]
    """Metric -> value; NaN and infinities are numbers here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedEpisode:
    """An episode that a stage recorded, with its reward."""

    stage: str
    place: str
    """File within the stage, such as "record/step-000012" or "rl.sampled"."""
    episode: Episode
    reward: float | None
    """None when it could not be graded."""
    correct: bool | None
    reason: str
    parts: Mapping[str, float]
    """Contribution of each reward term."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """One sampled token and where it stands."""

    stage: str
    place: str
    episode: str
    """Id of its episode."""
    call: int
    thread: int
    role: str
    """The protocol's name for the kind of call."""
    position: int
    """Index in the output of its call."""
    id: int
    text: str
    logprob: float | None
    """Log-probability under the distribution that it was sampled from."""
    version: int | None
    """Weight version that sampled it."""
    trained: bool
    """Whether it carries loss."""


class Run:
    """A run directory, for reading; the run may be going on."""

    def __init__(self, path: Path | str) -> None:
        """Raises ConfigError for a directory that is not a run."""
        self.path = Path(path)
        recipe_file = self.path / RECIPE_FILE
        if not recipe_file.is_file():
            raise ConfigError(f"{self.path}: is not a run directory (no recipe.json)\n  fix: name one")
        recipe = read_json(recipe_file)
        self.name: str = recipe["name"]
        """Name of the recipe."""
        self.stages: tuple[str, ...] = tuple(stage["name"] for stage in recipe["stages"])
        """Names of the recipe's stages, in order."""

    def metrics(self, stage: str | None = None) -> list[StepMetrics]:
        """One entry for each step of a stage, or of all. Raises ConfigError for a damaged file."""
        return [
            StepMetrics(stage=record["stage"], step=record["step"], values=named(record))
            for record in read_metrics(self.path / METRICS_FILE, stage)
        ]

    def episodes(self, stage: str | None = None) -> Iterator[RecordedEpisode]:
        """Recorded episodes of a stage, or of all, read as they are asked for.

        Raises ConfigError for an unknown stage and one that recorded nothing, StorageError for damaged files.
        """
        for source in sources(self.path, stage):
            yield from _episodes(source)

    def tokens(self, stage: str | None = None) -> Iterator[Token]:
        """Every sampled token of the recorded episodes; raises what `episodes` does."""
        for source in sources(self.path, stage):
            for recorded in _episodes(source):
                for call in recorded.episode.calls:
                    yield from _tokens(source, recorded.episode.id, call)

    def metrics_table(self, stage: str | None = None) -> pa.Table:
        """A row for each step: `stage`, `step`, and a column for each metric (null where it has none)."""
        return metrics_table([(row.stage, row.step, row.values) for row in self.metrics(stage)])

    def episodes_table(self, stage: str | None = None) -> pa.Table:
        """A row for each recorded episode, with reward and costs (`rl.library.tables.EPISODES`)."""
        return table(EPISODES, self.episodes(stage))

    def tokens_table(self, stage: str | None = None) -> pa.Table:
        """A row for each sampled token (`rl.library.tables.TOKENS`)."""
        return table(TOKENS, self.tokens(stage))


def _episodes(source: Source) -> Iterator[RecordedEpisode]:
    for shown in source.episodes():
        yield RecordedEpisode(
            stage=source.stage,
            place=source.place,
            episode=shown.episode,
            reward=shown.reward,
            correct=shown.correct,
            reason=shown.reason,
            parts=shown.parts,
        )


def _tokens(source: Source, episode_id: str, call: Call) -> Iterator[Token]:
    versions = [span.version for span in call.versions for _ in range(span.start, span.stop)]
    for position, token in enumerate(call.output):
        yield Token(
            stage=source.stage,
            place=source.place,
            episode=episode_id,
            call=call.index,
            thread=call.thread,
            role=call.role,
            position=position,
            id=token,
            text=source.decode((token,)),
            logprob=call.logprobs[position] if call.logprobs else None,
            version=versions[position] if versions else None,
            trained=position < call.num_trained,
        )
