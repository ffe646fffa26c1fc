"""One side of a real run replaced by the time that it took in another run, to benchmark the other side alone.

The simulated sides implement the types of `rl.controller.seams`; `braid train --simulate` passes them to the
run as factories. Controller, admission, scoring, publishing, ledger and checkpoints are the real ones.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from data.checksum import file_checksum
from data.episodes.topology import total_tokens
from data.episodes.trajectory import Call, Episode, VersionSpan
from data.errors import PublishError
from rl.controller.seams import EpisodesReference
from rl.learner.settings import LearnerSettings
from rl.runtime.learner_group import LearnerGroup
from rl.runtime.rank_pool import RankPool
from rl.runtime.services import Factories, RunEngines, Site
from rl.scored_group import ScoredGroup, group_index_of
from rl.simulation.recorded import RecordedRun, read_run, read_times
from rollout.engines.base import EngineRequest, EngineResult, PublishReport
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec


def simulated_side(side: Literal["learner", "rollout"], source: Path) -> Factories:
    """Factories with one side replaced by what the finished run `source` has recorded of it.

    Raises ConfigError unless it is a run with a finished rl stage.
    """
    if side == "rollout":
        recorded = read_run(source)

        async def start_engines(site: Site) -> RunEngines:
            return SimulatedEngines(recorded)

        return Factories(engines=start_engines)
    times = LearnerTimes.of_run(source)

    async def start_learner(
        site: Site, model_dir: Path, settings: LearnerSettings, ranks: RankPool
    ) -> SimulatedLearner:
        learner = await SimulatedLearner.start(model_dir, settings, ranks, site.directory.logs)
        learner.use(times)
        return learner

    return Factories(learner=start_learner)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerTimes:
    """Recorded duration of each learner step."""

    seconds: tuple[float, ...]
    tokens: tuple[float, ...]
    """Sampled tokens that each step trained."""

    @classmethod
    def of_run(cls, path: Path, stage: str | None = None) -> "LearnerTimes":
        """Read them from a run. Raises ConfigError when it has no finished rl stage."""
        _, _, times = read_times(path, stage)
        return cls(
            seconds=tuple(time.learned - time.consumed for time in times),
            tokens=tuple(time.tokens for time in times),
        )

    def at(self, step: int, tokens: int) -> float:
        """Seconds of a step, scaled by its tokens; steps beyond the recorded ones repeat them."""
        index = step % len(self.seconds)
        return self.seconds[index] * tokens / max(self.tokens[index], 1.0)


class SimulatedLearner(LearnerGroup):
    """A learner that waits as long as the recorded one and learns nothing (`--simulate learner`).

    Only `step` is simulated. The ranks are real and keep the weights that the stage begins with: these are
    published under each new version, checked by the canary and saved, at their real cost.
    """

    _times: LearnerTimes

    def use(self, times: LearnerTimes) -> None:
        """Set the recorded times. Call it once, right after `start`."""
        self._times = times

    async def step(self, step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
        """Wait as long as the recorded learner would have taken for as many tokens. -> metrics."""
        tokens = sum(total_tokens(episode) for group in groups for episode in group.episodes)
        seconds = self._times.at(step, tokens)
        await asyncio.sleep(seconds)
        return {"simulated_s": seconds}


class SimulatedEngines:
    """Engines that return recorded episodes after their recorded time (`--simulate rollout`).

    Group k returns the episodes of group k of the recorded run (of another group where that one was filtered
    out), as answers to the current problem and under the current version. Scoring, learning and publishing
    have the recorded amount of work, but rewards mean nothing if the recipe is another one. Validation would
    get training episodes, so it has to be off. No engine answers the canary.
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
        """A fresh path where the learner writes the next weights."""
        return self._transfer_dir / f"{next(self._files)}.safetensors"

    def occupancy(self) -> dict[str, float]:
        """No metrics: there are no engines."""
        return {}

    def use_scorer(self, scorer: object | None) -> None:
        """Recorded episodes have their scores."""

    async def run_group(
        self,
        params: AnyParams,
        specs: Sequence[EpisodeSpec],
        moved: Callable[[str], None] = lambda engine: None,
    ) -> tuple[list[Episode], EpisodesReference]:
        """Wait as long as the recorded group took. -> (its episodes, the same as their handle)."""
        version, group = self._version, group_index_of(specs[0].id)
        recorded = self._recorded.get(group, self._groups[group % len(self._groups)])
        await asyncio.sleep(max(call.finished_s for episode in recorded for call in episode.calls))
        episodes = [
            replayed(recorded[index % len(recorded)], spec, version) for index, spec in enumerate(specs)
        ]
        return episodes, episodes

    async def publish(self, path: Path, version: int, checksum: str) -> list[PublishReport]:
        """Check the weights file as an engine would. Raises PublishError when its checksum differs."""
        found = await asyncio.to_thread(file_checksum, path)
        if found != checksum:
            raise PublishError(f"version {version}: {path} has checksum {found}, not {checksum}")
        self._version = version
        for old in self._transfer_dir.iterdir():
            if old != path:
                old.unlink()
        return []

    async def load(self, model_dir: Path, version: int) -> None:
        """Set the version; there is no engine to load the model."""
        self._version = version

    async def canary(self, requests: Sequence[EngineRequest]) -> list[list[EngineResult]]:
        """No answers: there are no engines."""
        return []

    async def close(self) -> None:
        """Remove the transfer directory."""
        self.abandon()

    def abandon(self) -> None:
        """Remove the transfer directory."""
        shutil.rmtree(self._transfer_dir, ignore_errors=True)


def replayed(episode: Episode, spec: EpisodeSpec, version: int) -> Episode:
    """The recorded episode with the identity of `spec`, its tokens attributed to weights `version`."""
    return replace(
        episode,
        id=spec.id,
        problem_id=spec.problem_id,
        calls=tuple(_at_version(call, version) for call in episode.calls),
    )


def _at_version(call: Call, version: int) -> Call:
    whole = VersionSpan(version=version, start=0, stop=len(call.output))
    return replace(call, versions=(whole,) if call.versions else ())
