"""What the stages of a run share: problems, tokenizer, Ray, engines. Heavy parts start when first asked
for.
"""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray

from data.ledger.ledger import Ledger
from data.tasks.base import Split, Task
from data.tasks.problem import Problem, load_problems, save_problems
from data.tasks.registry import build_task
from data.text.tokenizer import Codec, add_structural_tokens, build_tokenizer, load_codec
from rewards.actor import RewardActor
from rl.config.model import PretrainedModel, ScratchModel
from rl.config.recipe import Recipe
from rl.config.stages import EvalStage, RlStage, StageConfig
from rl.config.task import TaskConfig
from rl.config.words import recipe_vocabulary
from rl.learner.settings import settings_of
from rl.runtime.engine_pool import EnginePool
from rl.runtime.learner_group import LearnerGroup
from rl.runtime.placement import Placement
from rl.runtime.rank_pool import RankPool
from rl.runtime.rank_worker import build_start_task
from rl.runtime.reward_pool import RewardPool
from rl.simulation.recorded import read_run
from rl.simulation.simulated import LearnerTimes, Simulated, SimulatedEngines, SimulatedLearner
from rl.storage.checksums import write_checksums
from rl.storage.files import whole_directory
from rl.storage.run_directory import RunDirectory, previous_model
from rl.tracking.accounting import Accounting
from rollout.engines.vllm_settings import VllmSettings


class RunContext:
    """One run while it runs."""

    def __init__(
        self,
        recipe: Recipe,
        directory: RunDirectory,
        accounting: Accounting,
        ledger: Ledger,
        placement: Placement,
        simulated: Simulated | None = None,
    ) -> None:
        self.recipe = recipe
        self._simulated = simulated
        self.placement = placement
        self.ranks = RankPool(placement)
        self.directory = directory
        self.accounting = accounting
        self.ledger = ledger
        self._engines: EnginePool | SimulatedEngines | None = None
        self._reward_pool: tuple[object, RewardPool] | None = None
        """And what it is for."""
        self._codec: Codec | None = None

    @property
    def codec(self) -> Codec:
        """The run's tokenizer (after `prepare`)."""
        if self._codec is None:
            self._codec = load_codec(self.directory.start)
        return self._codec

    def task(self, stage: StageConfig) -> Task:
        """The task a stage works on."""
        return build_task(self.recipe.task_of(stage).params)

    def problems(self, stage: StageConfig, split: Split) -> list[Problem]:
        """A split of the stage's task: from the run directory when it is the recipe's own task, else
        generated.
        """
        config = self.recipe.task_of(stage)
        saved = self.directory.problems(split)
        if config == self.recipe.task and saved.exists():
            return load_problems(saved)
        return make_problems(self.task(stage), config, split)

    def previous_model(self, stage: StageConfig) -> Path:
        """Folder of the weights that the stage begins with (`rl.storage.run_directory.previous_model`)."""
        return previous_model(self.recipe, self.directory, stage)

    def encode(self, stage: StageConfig) -> Any:
        """Problem -> prompt ids."""
        task, codec = self.task(stage), self.codec
        return lambda problem: codec.encode(task.prompt(problem))

    def reward_pool(self, stage: RlStage | EvalStage) -> RewardPool:
        """What scores the stage's episodes, in processes of their own. A stage that scores as the one before
        it takes over its pool.
        """
        terms, task = self.recipe.rewards_of(stage), self.recipe.task_of(stage).params
        purpose = terms, task, stage.reward_workers, stage.reward_seconds
        if self._reward_pool is None or self._reward_pool[0] != purpose:
            self.close_reward_pool()
            pool = RewardPool(
                lambda: RewardActor.options(**self.placement.here()).remote(
                    terms, task, self.directory.start
                ),
                workers=stage.reward_workers,
                seconds=stage.reward_seconds,
            )
            self._reward_pool = purpose, pool
        self._reward_pool[1].report = partial(self.report, stage.name)
        return self._reward_pool[1]

    def close_reward_pool(self) -> None:
        """End the reward workers."""
        if self._reward_pool is not None:
            self._reward_pool[1].close()
            self._reward_pool = None

    def report(self, stage: str, kind: str, what: str) -> None:
        """See `report_fault`."""
        report_fault(self.ledger, stage, kind, what)

    async def learner(self, stage: RlStage) -> LearnerGroup:
        """Another learner at the weights that the stage begins with; end it."""
        settings = settings_of(self.recipe, stage)
        given = self.previous_model(stage), settings, self.ranks, self.directory.logs
        if self._simulated is None or self._simulated.side != "learner":
            return await LearnerGroup.start(*given)
        times = LearnerTimes.of_run(self._simulated.source)
        simulated = await SimulatedLearner.start(*given)
        simulated.take(times)
        return simulated

    async def engines(self) -> EnginePool | SimulatedEngines:
        """The engines; started with the initial weights, so publish before use."""
        if self._engines is None and self._simulated is not None and self._simulated.side == "rollout":
            self._engines = SimulatedEngines(read_run(self._simulated.source))
        if self._engines is None:
            engine = self.recipe.engine
            settings = VllmSettings(
                model_dir=self.directory.start,
                max_length=self.recipe.model.max_length,
                dtype=engine.dtype,
                kv_cache_gb=engine.kv_cache_gb,
                max_live_calls=engine.max_live_calls,
                block_size=engine.block_size,
                kv=engine.kv,
                seed=self.recipe.seed,
                device=engine.device,
                text_stops=isinstance(self.recipe.model, PretrainedModel)
                and self.recipe.model.tags == "text",
            )
            self._engines = await EnginePool.start(
                settings,
                self.directory.start,
                ray_options=[self.placement.engine(index) for index in range(engine.num_engines)],
                hang_seconds=engine.hang_seconds,
                start_seconds=engine.start_seconds,
                logs=self.directory.logs,
                transfer=None if self.placement.beside_the_driver else self.directory.path,
                report=partial(self.report, "engines"),
            )
        return self._engines

    async def stop_engines(self, *, lost: bool = False) -> None:
        """End the engines; the next `engines()` starts new ones. `lost`: they are gone with their cluster."""
        if self._engines is not None:
            if lost:
                self._engines.abandon()
            else:
                await self._engines.shutdown()
            self._engines = None


def report_fault(ledger: Ledger, stage: str, kind: str, what: str) -> None:
    """A fault that the run survives: for whoever watches, and for the books."""
    print(f"{stage}: {what}", flush=True)
    ledger.fault(stage, kind, what)


def make_problems(task: Task, config: TaskConfig, split: Split) -> list[Problem]:
    """Problems of a split from its file, or generated. The same for every training seed."""
    file = config.file(split)
    if file is not None:
        return load_problems(file, validate=task.validate)
    return task.problems(split, config.num_problems(split), 0)


def prepare(recipe: Recipe, directory: RunDirectory, placement: Placement) -> None:
    """Problems, tokenizer and initial weights into the run directory; what is there already stays."""
    task = build_task(recipe.task.params)
    splits: Sequence[Split] = ("train", "validation", "test")
    for split in splits:
        if not directory.problems(split).exists() and (split == "train" or recipe.task.num_problems(split)):
            save_problems(directory.problems(split), make_problems(task, recipe.task, split))
    if (directory.start / "config.json").exists():
        return
    with whole_directory(directory.start) as folder:
        make_codec(recipe).save(folder)
        build = build_start_task.options(**placement.here())
        ray.get(build.remote(recipe.model, folder, folder, recipe.seed))
        write_checksums(folder)


def make_codec(recipe: Recipe) -> Codec:
    """The tokenizer of a from-scratch model, or a pretrained one, with the tags of the recipe's protocols."""
    tags, words = recipe_vocabulary(recipe)
    model = recipe.model
    if isinstance(model, ScratchModel):
        tasks = dict.fromkeys((recipe.task, *map(recipe.task_of, recipe.stages)))
        every = [*tags, *(word for task in tasks for word in build_task(task.params).words()), *words]
        return Codec(build_tokenizer(every, numbers=model.numbers, digits=model.digits))
    codec = load_codec(model.path)
    if model.tags == "add":
        add_structural_tokens(codec.tokenizer, tags)
        return Codec(codec.tokenizer)
    return codec


def copy_tokenizer(directory: RunDirectory, model_dir: Path) -> None:
    """Put the run's tokenizer beside weights, so that the folder stands alone."""
    for path in directory.start.iterdir():
        if "token" in path.name or path.suffix == ".jinja":
            shutil.copyfile(path, model_dir / path.name)
