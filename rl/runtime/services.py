"""The processes that the stages of a run share: engines, reward workers, scorers, learner ranks.

Each kind starts when a stage first needs it and is kept for later stages. How engines, learner and
reward workers are started is a parameter (`Factories`): simulation and tests pass their own.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from data.errors import ConfigError
from data.ledger.ledger import Ledger
from data.params import Params
from data.steps.step import StepKind
from data.text.codec import load_codec
from data.text.printable import printable
from rewards.actor import RewardActor
from rewards.score import Opinion
from rl.config.judges import scoring_judge
from rl.config.model import PretrainedModel
from rl.config.recipe import Recipe
from rl.config.scorer import ScorerConfig
from rl.config.stages import EvalStage, RewardModelStage, RlStage, StageConfig
from rl.controller.seams import Engines, Learner, Rewards
from rl.learner.settings import LearnerSettings, settings_of
from rl.runtime.engine_pool import EnginePool
from rl.runtime.engine_slot import LaunchSettings
from rl.runtime.learner_group import LearnerGroup
from rl.runtime.placement import Placement
from rl.runtime.rank_pool import RankPool
from rl.runtime.reward_pool import SCORERS, RewardPool
from rl.runtime.scorer_actor import JudgeActor, LabelActor, ScorerActor
from rl.runtime.scorer_desk import HostedDesk
from rl.runtime.worker_pool import WorkerPool
from rl.scorers.judge_worker import JudgeWorkerSettings
from rl.scorers.worker import ScorerSettings
from rl.storage.run_directory import RunDirectory
from rollout.engines.vllm_settings import VllmSettings

Report = Callable[[str, str], None]
"""(kind, message) of a fault that the run survives."""


class RunEngines(Engines, Protocol):
    """Engines with a beginning and an end, as the services need them."""

    async def load(self, model_dir: Path, version: int, /) -> None:
        """Publish a saved model to every engine."""

    def use_scorer(self, scorer: object | None, /) -> None:
        """The actor that episodes ask from now on, or none."""

    async def close(self) -> None:
        """End the engines and their processes."""

    def abandon(self) -> None:
        """Give up engines whose cluster is gone."""


class RunRewards(Rewards, Protocol):
    """Reward workers with an end."""

    report: Report

    def close(self) -> None:
        """End the workers and their processes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Arguments for starting the processes of a run."""

    recipe: Recipe
    directory: RunDirectory
    placement: Placement
    report: Report
    """Faults of the engines."""


async def start_engines(site: Site) -> RunEngines:
    """Start the recipe's vLLM engines at the initial weights."""
    recipe, engine = site.recipe, site.recipe.engine
    vllm = VllmSettings(
        model_dir=site.directory.start,
        max_length=recipe.model.max_length,
        dtype=engine.dtype,
        kv_cache_gb=engine.kv_cache_gb,
        max_live_calls=engine.max_live_calls,
        block_size=engine.block_size,
        kv=engine.kv,
        seed=recipe.seed,
        tensor_parallel=engine.tensor_parallel,
        device=engine.device,
        text_stops=isinstance(recipe.model, PretrainedModel)
        and (recipe.model.tags == "text" or recipe.stops_at_text),
    )
    settings = LaunchSettings(
        engine=vllm,
        tokenizer_dir=site.directory.start,
        start_seconds=engine.start_seconds,
        hang_seconds=engine.hang_seconds,
        logs=site.directory.logs,
    )
    return await EnginePool.start(
        settings,
        ray_options=[site.placement.engine(index) for index in range(engine.num_engines)],
        transfer=None if site.placement.beside_the_driver else site.directory.path,
        report=site.report,
    )


async def start_learner(site: Site, model_dir: Path, settings: LearnerSettings, ranks: RankPool) -> Learner:
    """Start the learner's ranks at the weights in `model_dir`."""
    return await LearnerGroup.start(model_dir, settings, ranks, site.directory.logs)


def scorer_starter(site: Site, stage: StageConfig) -> Callable[[], Any]:
    """What starts one process of the recipe's scorer, for the task of a stage."""
    recipe, config = site.recipe, site.recipe.scorer
    assert config is not None
    options, task = site.placement.here(), recipe.task_of(stage).params
    if config.labels is not None:
        return partial(LabelActor.options(**options).remote, config.labels, task, site.directory.start)
    judge = scoring_judge(recipe)
    if judge is not None:
        model_dir = config.path if config.stage is None else site.directory.model(config.stage)
        assert model_dir is not None, "the cross-checks ask for one of both"
        asked = JudgeWorkerSettings(
            model_dir=model_dir,
            tokenizer_dir=site.directory.start,
            protocol=judge.protocol,
            format=judge.format,
            step=StepKind(config.step),
            forest_tokens=config.forest_tokens,
        )
        return partial(JudgeActor.options(**options).remote, asked, task)
    if config.stage is not None:
        return _reward_model_starter(site, config.stage, config, task)
    assert config.path is not None, "the cross-checks ask for one of both"
    settings = ScorerSettings(
        model_dir=config.path,
        tokenizer_dir=site.directory.start,
        target=config.target,
        step=StepKind(config.step),
        forest_tokens=config.forest_tokens,
    )
    return partial(ScorerActor.options(**options).remote, settings, task)


def _reward_model_starter(site: Site, name: str, config: ScorerConfig, task: Params) -> Callable[[], Any]:
    """What starts a process with the reward model of a stage, which scores what it was trained on."""
    trained = site.recipe.stage(name)
    assert isinstance(trained, RewardModelStage), "the cross-checks ask for it"
    settings = ScorerSettings(
        model_dir=site.directory.model(name),
        tokenizer_dir=site.directory.start,
        target=trained.target,
        step=StepKind(trained.step),
        forest_tokens=config.forest_tokens,
    )
    return partial(ScorerActor.options(**site.placement.here()).remote, settings, task)


def start_scorers(site: Site, stage: RlStage | EvalStage) -> WorkerPool[Opinion] | None:
    """Start the recipe's scorer where a term of the stage takes its opinion."""
    config = site.recipe.scorer
    if config is None or not site.recipe.is_scored(stage):
        return None
    return WorkerPool(
        SCORERS,
        scorer_starter(site, stage),
        workers=config.workers,
        seconds=config.seconds,
        start_seconds=config.start_seconds,
    )


def start_desk(site: Site, stage: StageConfig, report: Callable[[str, str], None]) -> HostedDesk | None:
    """Start the recipe's scorer where the protocol of the stage asks it.

    Raises ConfigError when the recipe has none, or that of a stage without weights.
    """
    protocol, config = site.recipe.protocol_of(stage), site.recipe.scorer
    if not protocol.takes_scorer:
        return None
    if config is None:
        raise ConfigError(
            f"protocol {protocol.name}: asks a scorer, and the recipe has none\n"
            "  fix: name one in the recipe, as in scorer: {stage: prm} or scorer: {labels: both}"
        )
    if config.stage is not None and not site.directory.model(config.stage).is_dir():
        raise ConfigError(
            f"scorer.stage {config.stage!r}: has no weights in {site.directory.path}\n"
            "  fix: finish that stage first, with braid train"
        )
    return HostedDesk(scorer_starter(site, stage), config, site.placement.here(), report)


def start_rewards(site: Site, stage: RlStage | EvalStage) -> RunRewards:
    """Start the stage's reward workers, and the scorer where a term takes its opinion."""
    terms, task = site.recipe.rewards_of(stage), site.recipe.task_of(stage)
    options, codec = site.placement.here(), site.directory.start
    return RewardPool(
        lambda: RewardActor.options(**options).remote(terms, task.params, codec, task.verifier),
        workers=stage.reward_workers,
        seconds=site.recipe.reward_seconds_of(stage),
        start_seconds=stage.reward_start_seconds,
        scorers=start_scorers(site, stage),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Factories:
    """How a run starts its engines, its learner and its reward workers."""

    engines: Callable[[Site], Awaitable[RunEngines]] = start_engines
    learner: Callable[[Site, Path, LearnerSettings, RankPool], Awaitable[Learner]] = start_learner
    rewards: Callable[[Site, RlStage | EvalStage], RunRewards] = start_rewards


class Services:
    """Starts and ends the processes of one run."""

    def __init__(
        self,
        recipe: Recipe,
        directory: RunDirectory,
        placement: Placement,
        ledger: Ledger,
        factories: Factories,
    ) -> None:
        self._recipe, self._ledger, self._factories = recipe, ledger, factories
        self._site = Site(
            recipe=recipe,
            directory=directory,
            placement=placement,
            report=lambda kind, message: self.report("engines", kind, message),
        )
        self.ranks = RankPool(placement)
        self._engines: RunEngines | None = None
        self._rewards: tuple[object, RunRewards] | None = None
        """The reward workers, and the settings they were started with."""
        self._desk: tuple[object, HostedDesk | None] = None, None
        """The scorers that episodes ask, and the settings they were started with."""

    async def engines(self, stage: StageConfig) -> RunEngines:
        """The engines, started when there are none, and beside them the scorer that the stage's protocol
        asks. Publish before use: they may have any weights.
        """
        desk = self._scorer_desk(stage)
        if self._engines is None:
            self._engines = await self._factories.engines(self._site)
        self._engines.use_scorer(None if desk is None else desk.actor)
        return self._engines

    async def close_engines(self, *, lost: bool = False) -> None:
        """End the engines; the next `engines()` starts others. `lost`: their cluster is gone."""
        if self._engines is not None:
            if lost:
                self._engines.abandon()
            else:
                await self._engines.close()
            self._engines = None
        self._close_desk(lost=lost)

    def _scorer_desk(self, stage: StageConfig) -> HostedDesk | None:
        """The stage's scorer; one with the same settings as that of the stage before is kept."""
        asked = self._recipe.protocol_of(stage).takes_scorer
        settings = (self._recipe.scorer, self._recipe.task_of(stage).params) if asked else None
        if self._desk[0] != settings:
            self._close_desk(lost=False)
        if asked and self._desk[1] is None:
            self._desk = settings, start_desk(self._site, stage, partial(self.report, stage.name))
        return self._desk[1]

    def scorers_of(self, name: str) -> WorkerPool[Opinion]:
        """Scorers with a stage's reward model, which the caller closes; limits as in section `scorer`."""
        config = self._recipe.scorer or ScorerConfig()
        task = self._recipe.task_of(self._recipe.stage(name)).params
        return WorkerPool(
            SCORERS,
            _reward_model_starter(self._site, name, config, task),
            workers=config.workers,
            seconds=config.seconds,
            start_seconds=config.start_seconds,
            report=partial(self.report, name),
        )

    def _close_desk(self, *, lost: bool) -> None:
        if self._desk[1] is not None:
            self._desk[1].close(lost=lost)
        self._desk = None, None

    def reward_pool(self, stage: RlStage | EvalStage) -> RunRewards:
        """The stage's reward workers. A stage with the same reward settings as the one before keeps them."""
        settings = (
            self._recipe.rewards_of(stage),
            self._recipe.task_of(stage).params,
            self._recipe.task_of(stage).verifier,
            stage.reward_workers,
            self._recipe.reward_seconds_of(stage),
            stage.reward_start_seconds,
            self._recipe.scorer if self._recipe.is_scored(stage) else None,
        )
        if self._rewards is None or self._rewards[0] != settings:
            self.close_rewards()
            self._rewards = settings, self._factories.rewards(self._site, stage)
        pool = self._rewards[1]
        pool.report = lambda kind, message: self.report(stage.name, kind, message)
        return pool

    def close_rewards(self) -> None:
        """End the reward workers."""
        if self._rewards is not None:
            self._rewards[1].close()
            self._rewards = None

    async def learner(self, stage: RlStage, model_dir: Path) -> Learner:
        """A new learner at the weights in `model_dir`. The caller releases or closes it."""
        settings = settings_of(self._recipe, stage, load_codec(self._site.directory.start).size)
        return await self._factories.learner(self._site, model_dir, settings, self.ranks)

    def report(self, stage_name: str, kind: str, message: str) -> None:
        """Print a fault that the run survives and write it to the ledger."""
        report_fault(self._ledger, stage_name, kind, message)

    async def close(self, *, lost: bool = False) -> None:
        """End everything. `lost`: the cluster is gone, and its processes with it."""
        await self.close_engines(lost=lost)
        if not lost:
            self.close_rewards()
            self.ranks.close()


def report_fault(ledger: Ledger, stage_name: str, kind: str, message: str) -> None:
    """Print a fault that the run survives and write it to the ledger."""
    print(f"{stage_name}: {printable(message)}", flush=True)
    ledger.fault(stage_name, kind, message)
