"""The evaluation stage: held-out figures of finished stages, sampled and greedy, from one set of engines."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import xxhash

from data.tasks.problem import Problem
from rl.config.fingerprint import contents, science
from rl.config.recipe import Recipe
from rl.config.stages import EvalStage
from rl.config.task import JudgeTask
from rl.controller.rollouts import ScoredEpisode, roll_out
from rl.controller.seams import Rewards
from rl.evaluation.gather import in_order, outcomes_path, report
from rl.evaluation.judge_f1 import f1_lines, judge_f1
from rl.evaluation.outcome_file import OutcomeFile
from rl.evaluation.outcomes import Evaluation, Outcome, outcome_of
from rl.seeds import purpose_seed
from rl.stages.context import RunContext
from rl.storage.checksums import recorded
from rl.tracking.episode_progress import EpisodeProgress
from rl.tracking.metrics import METRICS_FILE, repair_metrics


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """One way to sample the problems of an evaluation."""

    kind: str
    """Part of the file name: "sampled" or "greedy"."""
    temperature: float
    samples: int
    """Number of episodes per problem."""


async def run_eval(context: RunContext, stage: EvalStage) -> dict[str, Any]:
    """Evaluates every checkpoint of the stage. After an interruption only missing episodes are sampled, and
    those that failed or could not be graded.
    """
    if warning := repair_metrics(context.directory.path / METRICS_FILE):
        context.services.report(stage.name, "metrics", warning)
    rewards = context.services.reward_pool(stage)
    problems = context.problems(stage, stage.split)[: stage.problems]
    decodings = [Decoding(kind="sampled", temperature=stage.temperature, samples=stage.samples)]
    if stage.greedy:
        decodings.append(Decoding(kind="greedy", temperature=0.0, samples=1))
    evaluations = {}
    for number, name in enumerate(stage.checkpoints):
        evaluation = _CheckpointEvaluation(context, stage, rewards, problems, name, number)
        found = {decoding.kind: tuple(await evaluation.outcomes(decoding)) for decoding in decodings}
        evaluations[name] = Evaluation(sampled=found["sampled"], greedy=found.get("greedy", ()))
    report(
        context.recipe,
        context.directory,
        stage,
        in_order(context.recipe, evaluations),
        seconds=context.accounting.seconds,
        peak_memory_gb=context.accounting.memory.peak_gb,
    )
    done: dict[str, Any] = {"checkpoints": list(stage.checkpoints)}
    if not isinstance(context.recipe.task_of(stage), JudgeTask):
        return done
    measured = {name: judge_f1(problems, each.sampled) for name, each in evaluations.items()}
    print("\n".join(f"{stage.name}: {line}" for line in f1_lines(measured)))
    return done | {"judge_f1": measured}


class _CheckpointEvaluation:
    """The evaluation of one checkpoint; its weights are loaded when the first episode is to be sampled."""

    def __init__(
        self,
        context: RunContext,
        stage: EvalStage,
        rewards: Rewards,
        problems: list[Problem],
        name: str,
        number: int,
    ) -> None:
        self._context, self._stage, self._rewards, self._problems = context, stage, rewards, problems
        self._name, self._number = name, number
        self._model = context.directory.model(name)
        self._loaded = False

    async def outcomes(self, decoding: Decoding) -> list[Outcome]:
        """All outcomes, in the order of problems and samples; what is in the outcomes file is not redone."""
        stage = self._stage
        keys = [(problem.id, sample) for problem in self._problems for sample in range(decoding.samples)]
        path = outcomes_path(self._context.directory, stage.name, self._name, decoding.kind)
        with OutcomeFile(path, self._setting(decoding), keys, keep=stage.keep_episodes) as file:
            for warning in file.warnings:
                self._context.services.report(stage.name, "evaluation", warning)
            missing = file.missing()
            if missing:
                await self._sample(decoding, file, skip=set(keys) - set(missing), total=len(keys))
            return file.finish() if missing or not file.complete else file.outcomes()

    async def _sample(
        self, decoding: Decoding, file: OutcomeFile, *, skip: set[tuple[str, int]], total: int
    ) -> None:
        context, stage = self._context, self._stage
        progress = EpisodeProgress(
            f"{stage.name}: {self._name}, {decoding.kind}", total=total, kept=len(skip)
        )

        def tell(text: str) -> None:
            context.activity.show(stage.name, text.removeprefix(f"{stage.name}: "))

        def on_episode(done: ScoredEpisode) -> None:
            attempts = file.attempts((done.episode.problem_id, done.sample)) + 1
            outcome = outcome_of(done.episode, sample=done.sample, score=done.score, attempts=attempts)
            file.append(outcome, done.episode)
            progress.done += 1

        printing = asyncio.create_task(progress.print_regularly(tell))
        try:
            engines = await context.services.engines(stage)
            if not self._loaded:
                await engines.load(self._model, self._number)
                self._loaded = True
            await roll_out(
                engines,
                self._rewards,
                context.recipe.protocol_of(stage),
                self._problems,
                context.task(stage).prompt,
                samples=decoding.samples,
                temperature=decoding.temperature,
                seed=self._seed(decoding),
                on_episode=on_episode,
                probes=context.recipe.probes_of(stage),
                skip=skip,
            )
        finally:
            printing.cancel()
        progress.print()

    def _seed(self, decoding: Decoding) -> int:
        return purpose_seed(self._context.recipe.seed, f"{self._stage.name}/{decoding.kind}")

    def _setting(self, decoding: Decoding) -> dict[str, Any]:
        """All settings that decide which episodes are sampled and how they are graded."""
        recipe, stage = self._context.recipe, self._stage
        checksums = recorded(self._model)
        return {
            "weights": {name: sum for name, sum in checksums.items() if name.endswith(".safetensors")},
            **grading(recipe, stage),
            **self._scorer(),
            "split": stage.split,
            "problems": _digest(self._problems),
            "samples": decoding.samples,
            "temperature": decoding.temperature,
            "seed": self._seed(decoding),
            "max_length": recipe.model.max_length,
        }

    def _scorer(self) -> dict[str, Any]:
        """What guides a search; {} for a protocol that asks no scorer."""
        recipe, directory = self._context.recipe, self._context.directory
        if recipe.scorer is None or not recipe.protocol_of(self._stage).takes_scorer:
            return {}
        trained = recipe.scorer.stage
        weights = {} if trained is None else recorded(directory.model(trained))
        found = {name: sum for name, sum in weights.items() if name.endswith(".safetensors")}
        return {"scorer": [science(recipe.scorer), contents(recipe.scorer), found]}


def grading(recipe: Recipe, stage: EvalStage) -> dict[str, Any]:
    """What an evaluation shows its model and how it grades, without paths and hardware. Rows are not in it:
    the digest of the problems has what they hold.

    Raises ConfigError when a file of the verifier or of a reward cannot be read.
    """
    protocol, task, rewards = recipe.protocol_of(stage), recipe.task_of(stage), recipe.rewards_of(stage)
    graders = {"verifier": task.verifier, "rewards": rewards, "protocol": protocol}
    return {
        "protocol": science(protocol),
        "task": science(task),
        "rewards": science(rewards),
        "files": {name: found for name, node in graders.items() if (found := contents(node))},
    }


def _digest(problems: list[Problem]) -> str:
    """A checksum of the problems' content, in order."""
    content = [[problem.id, problem.task, problem.fields] for problem in problems]
    return xxhash.xxh3_64_hexdigest(json.dumps(content, sort_keys=True).encode())
