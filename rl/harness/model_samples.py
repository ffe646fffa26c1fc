"""Samples of a model directory: one vLLM engine without Ray, resumable per episode."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from data.checksum import file_checksum
from data.episodes.trajectory import Episode
from data.episodes.wire import read_episodes
from data.errors import ConfigError
from data.text.codec import Codec
from data.text.normalise import NORMALISERS
from rl.config.fingerprint import science
from rl.controller.rollouts import ScoredEpisode, roll_out
from rl.evaluation.outcome_file import OutcomeFile, episodes_file
from rl.evaluation.outcomes import Outcome, outcome_of
from rl.evaluation.strategies.sample import Sample, sample_of
from rl.harness.arms import Arm
from rl.harness.exam import Exam
from rl.harness.grading import Grader
from rl.harness.target import ModelTarget
from rl.scored_group import sample_of as sample_number
from rl.seeds import purpose_seed
from rl.tracking.episode_progress import EpisodeProgress
from rollout.engines.vllm_settings import GIB, VllmSettings, kv_bytes_per_token, least_kv_bytes, read_config
from rollout.host import EpisodeHost
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec

LEAST_CACHE_GB = 0.5
"""Key-value cache of the engine at the least."""
BLOCK = 32
"""Tokens of a block of the cache."""


class ModelSampler:
    """Samples arms from one model directory; `async with`. The engine starts when an episode is missing."""

    def __init__(
        self, target: ModelTarget, exam: Exam, codec: Codec, *, temperature: float, seed: int, out: Path
    ) -> None:
        """`out`: folder of the outcomes files, which a later start resumes from."""
        self._target, self._exam, self._codec = target, exam, codec
        self._temperature, self._seed, self._out = temperature, seed, out
        self._host: EpisodeHost | None = None
        weights = sorted(target.directory.glob("*.safetensors"))
        self._weights = {path.name: file_checksum(path) for path in weights}

    def episodes(self, arm: Arm) -> dict[tuple[str, int], Episode]:
        """Whole episodes of a finished arm, by problem and sample."""
        file = episodes_file(self._out / f"{arm.file}.jsonl")
        return {(e.problem_id, sample_number(e.id)): e for e in read_episodes(file)}

    async def samples(self, arm: Arm, grader: Grader) -> tuple[list[Outcome], dict[str, list[Sample]]]:
        """-> (outcomes, samples of every problem) of one arm, from its file as far as it goes.

        Raises StorageError, EngineError, and ConfigError for settings that the engine refuses.
        """
        if arm.params.takes_scorer:
            raise ConfigError(
                f"protocol {arm.params.name}: asks a scorer, which an evaluation outside a run has none of\n"
                "  fix: evaluate it in a run whose recipe names one, as in scorer: {stage: prm}"
            )
        problems = self._exam.problems
        keys = [(problem.id, sample) for problem in problems for sample in range(arm.samples)]
        path = self._out / f"{arm.file}.jsonl"
        with OutcomeFile(path, self._setting(arm), keys, keep=None) as file:
            for warning in file.warnings:
                print(f"warning: {warning}", flush=True)
            missing = set(file.missing())
            if missing:
                await self._roll_out(arm, grader, file, skip=set(keys) - missing, total=len(keys))
            outcomes = file.finish() if missing or not file.complete else file.outcomes()
        episodes = self.episodes(arm)
        normalise = NORMALISERS[self._exam.normaliser(arm.params)]
        pools: dict[str, list[Sample]] = {}
        for outcome in outcomes:
            episode = episodes[outcome.problem_id, outcome.sample]
            ids = episode.answer_ids()
            answer = None if ids is None else normalise("".join(self._codec.pieces(ids)).strip())
            sample = sample_of(episode, answer=answer, correct=outcome.correct is True)
            pools.setdefault(outcome.problem_id, []).append(sample)
        return outcomes, pools

    async def _roll_out(
        self, arm: Arm, grader: Grader, file: OutcomeFile, *, skip: set[tuple[str, int]], total: int
    ) -> None:
        progress = EpisodeProgress(f"{arm.strategy}, {arm.setting}", total=total, kept=len(skip))

        def on_episode(done: ScoredEpisode) -> None:
            attempts = file.attempts((done.episode.problem_id, done.sample)) + 1
            file.append(
                outcome_of(done.episode, sample=done.sample, score=done.score, attempts=attempts),
                done.episode,
            )
            progress.done += 1

        printing = asyncio.create_task(progress.print_regularly())
        try:
            await roll_out(
                _Engine(await self._started()),
                grader,
                arm.params,
                self._exam.problems,
                self._exam.task.prompt,
                samples=arm.samples,
                temperature=self._temperature,
                seed=purpose_seed(self._seed, arm.strategy),
                on_episode=on_episode,
                skip=skip,
            )
        finally:
            printing.cancel()
        progress.print()

    async def _started(self) -> EpisodeHost:
        if self._host is None:
            settings = engine_settings(self._target, seed=self._seed, words_only=self._codec.words_only)
            host = EpisodeHost.with_vllm(settings, self._target.directory)
            await host.start()
            self._host = host
        return self._host

    def _setting(self, arm: Arm) -> dict[str, Any]:
        """All that decides which episodes are sampled and how they are graded."""
        return {
            "weights": self._weights,
            "protocol": science(arm.params),
            "task": science(self._exam.section),
            "problems": digest([[p.id, p.task, p.fields] for p in self._exam.problems]),
            "samples": arm.samples,
            "temperature": self._temperature,
            "seed": self._seed,
            "max_length": self._target.max_length,
        }

    async def __aenter__(self) -> "ModelSampler":
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._host is not None:
            self._host.shutdown()


def engine_settings(target: ModelTarget, *, seed: int, words_only: bool) -> VllmSettings:
    """Settings of an engine for a target alone; `words_only` is that of its codec."""
    directory, length = target.directory, target.max_length
    token = kv_bytes_per_token(read_config(directory, "target"), "float32")
    # Two of the longest calls: below that, long calls are recomputed again and again.
    needed = 2 * least_kv_bytes(length, BLOCK, token) / GIB
    return VllmSettings(
        model_dir=directory,
        max_length=length,
        kv_cache_gb=max(LEAST_CACHE_GB, needed),
        block_size=BLOCK,
        seed=seed,
        text_stops=not words_only,
    )


class _Engine:
    """Implements `rl.controller.seams.EpisodeRunner` on a host in this process."""

    def __init__(self, host: EpisodeHost) -> None:
        self._host = host

    async def run_group(
        self, params: AnyParams, specs: Sequence[EpisodeSpec], /
    ) -> tuple[list[Episode], object]:
        return [*await asyncio.gather(*(self._host.run(params, spec) for spec in specs))], None


def digest(content: Sequence[Sequence[str | Mapping[str, Any]]]) -> str:
    """A checksum of problems or other JSON values, in order."""
    import json

    return xxhash.xxh3_64_hexdigest(json.dumps(content, sort_keys=True, default=str).encode())
