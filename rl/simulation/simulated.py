"""One side of a real run replaced by the time that it took in another run, so that the other side can be
benchmarked alone.

Both stand-ins have the interface of what they replace, and `rl.stages.reinforce` cannot tell. The controller,
admission, scoring, publishing, ledger and checkpoints are the real ones.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data.checksum import file_checksum
from data.episodes.topology import total_tokens
from data.episodes.trajectory import Call, Episode, VersionSpan
from data.errors import PublishError
from rl.runtime.learner_group import LearnerGroup
from rl.scored_group import ScoredGroup, group_index_of
from rl.simulation.recorded import RecordedRun, read_times
from rollout.engines.base import EngineRequest, EngineResult
from rollout.engines.vllm_engine import PublishReport
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulated:
    """Which side of a run is only played, and from which finished run (`--simulate`, `--simulate-from`)."""

    side: Literal["learner", "rollout"]
    source: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerTimes:
    """How long a learner took, by step."""

    seconds: tuple[float, ...]
    tokens: tuple[float, ...]
    """Sampled tokens that each step trained."""

    @classmethod
    def of_run(cls, path: Path, stage: str | None = None) -> "LearnerTimes":
        """Raises ConfigError for what is no run with a finished rl stage."""
        _, _, times = read_times(path, stage)
        return cls(
            seconds=tuple(time.learned - time.consumed for time in times),
            tokens=tuple(time.tokens for time in times),
        )

    def at(self, step: int, tokens: int) -> float:
        """Seconds of that step, in proportion to its tokens; a run that goes on longer starts over."""
        index = step % len(self.seconds)
        return self.seconds[index] * tokens / max(self.tokens[index], 1.0)


class SimulatedLearner(LearnerGroup):
    """A learner that takes its time and learns nothing: for `--simulate learner`.

    Only `step` is simulated. The weights that a stage begins with are really there, in the same processes:
    they are written and published under each new version, they answer the canary, and they are what is saved.
    So a publish costs what it costs, and the canary still finds an engine that has other weights.
    """

    _times: LearnerTimes

    def take(self, times: LearnerTimes) -> None:
        """Call it once, right after `start`."""
        self._times = times

    async def step(self, step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
        """Waits as long as the recorded learner would have taken for as many tokens. -> its metrics."""
        tokens = sum(total_tokens(episode) for group in groups for episode in group.episodes)
        seconds = self._times.at(step, tokens)
        await asyncio.sleep(seconds)
        return {"simulated_s": seconds}


class SimulatedEngines:
    """Engines that return recorded episodes after their recorded time: for `--simulate rollout`.

    Group k gets what group k sampled in the recorded run (or another, where that one was filtered out), as
    answers to the problem that is asked now and under the version that is published now. So scoring, learning
    and publishing have the recorded amount of work, but rewards mean nothing if the recipe is another one.
    Validation would get training episodes: leave it out. There are no engines, so no canary is checked.
    """

    def __init__(self, run: RecordedRun) -> None:
        groups = [group for step in run.groups for group in step]
        self._recorded = dict(enumerate(groups))
        self._recorded |= {group_index_of(group[0].id): group for group in groups}
        self._groups = groups
        self._version = 0
        self._files = itertools.count()
        shared = Path("/dev/shm")
        self._transfer_dir = Path(tempfile.mkdtemp(prefix="braid-", dir=shared if shared.is_dir() else None))

    def new_file(self) -> Path:
        """Where to write the next weights."""
        return self._transfer_dir / f"{next(self._files)}.safetensors"

    @property
    def process_ids(self) -> list[int]:
        """Of no engine."""
        return []

    def occupancy(self) -> dict[str, float]:
        """Of no engine."""
        return {}

    async def run_group(
        self,
        params: AnyParams,
        specs: Sequence[EpisodeSpec],
        moved: Callable[[str], None] = lambda engine: None,
    ) -> tuple[list[Episode], Any]:
        """-> (episodes, the same for whoever scores them). Nothing ever moves."""
        version, group = self._version, group_index_of(specs[0].id)
        recorded = self._recorded.get(group, self._groups[group % len(self._groups)])
        await asyncio.sleep(max(call.finished_s for episode in recorded for call in episode.calls))
        episodes = [
            retold(recorded[index % len(recorded)], spec, version) for index, spec in enumerate(specs)
        ]
        return episodes, episodes

    async def publish(self, path: Path, version: int, checksum: str) -> list[PublishReport]:
        """Reads the file, as an engine would. Raises PublishError when it is not what was written."""
        found = await asyncio.to_thread(file_checksum, path)
        if found != checksum:
            raise PublishError(f"version {version}: {path} has checksum {found}, not {checksum}")
        self._version = version
        for old in self._transfer_dir.iterdir():
            if old != path:
                old.unlink()
        return []

    async def load(self, model_dir: Path, version: int) -> None:
        """There is no engine to load it."""
        self._version = version

    async def canary(self, request: EngineRequest) -> list[EngineResult]:
        """Of no engine."""
        return []

    async def shutdown(self) -> None:
        """Ends nothing but itself."""
        self.abandon()

    def abandon(self) -> None:
        """Removes the transfer folder."""
        shutil.rmtree(self._transfer_dir, ignore_errors=True)


def retold(episode: Episode, spec: EpisodeSpec, version: int) -> Episode:
    """A recorded episode as if it had been sampled for this spec by the weights of this version."""
    return replace(
        episode,
        id=spec.id,
        problem_id=spec.problem_id,
        calls=tuple(_at_version(call, version) for call in episode.calls),
    )


def _at_version(call: Call, version: int) -> Call:
    whole = VersionSpan(version=version, start=0, stop=len(call.output))
    return replace(call, versions=(whole,) if call.versions else ())
