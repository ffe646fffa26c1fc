"""The reinforcement stage: the controller's loop.

                 ProblemSampler --problem--> GroupRunner._run (one task for each group; Admission limits them)
                                                 |  ^
                            specs, params        |  |  episodes
                                                 v  |
    +---------------------------------->  Engines.run_group  (rollout actors; run while the learner trains)
    |                                            |
    |                                            v  episodes
    |                                      Rewards.score     (reward workers)
    |                                            |
    |                                            v  ScoredGroup
    |                                    GroupRunner._decide --> HealthWatch (warns, or ends the run)
    |                                       |          |
    |                               filtered out     kept, in the order of the group indices
    |                                                  |
    |                                                  v  batch of B groups
    |                              ReinforcementLoop._one_step --> Learner.step    (ranks)
    |                                                  |
    |       file, checksum, canary                     v  weights of version t + 1
    +------------------------------------------  Publisher.publish

Waits, what each is for, and what ends it:

    GroupRunner.admit           a group may start          Admission.publish (new version), or a group is
                                                           filtered out and gives up its position
    GroupRunner.wait_for_batch  the next B kept groups     every task of a group, when it is scored or fails
    Learner.step                canary of version t, if    the engines' answers (Publisher.verified)
                                tokens of it are trained
    Publisher.publish           canary of version t; the   the engines' answers; the validation's last group
                                running validation

Admission alone decides what may start, so the staleness bound holds at any S by the same code: every token
trained at step t was sampled by weights of version t - S or later. Validation does not stop training; only
the next weights wait for its end, so every validated token is of one version.

`EnginePool` and `RewardPool` replace engines and reward workers that die; the loop does not notice. A lost
learner ends the loop, and `run_rl` opens another one at the last checkpoint.
"""

import asyncio
import time
from typing import Any

from data.errors import StalledRun, StorageError
from data.tasks.sampler import ProblemSampler
from rewards.compose import factors_at
from rl.config.stages import RlStage
from rl.controller.admission import Admission
from rl.controller.group_runner import GroupRunner, GroupSource
from rl.controller.health import no_update_advice
from rl.controller.health_watch import HealthWatch
from rl.controller.progress import LoopActivity, showing
from rl.controller.publisher import Publisher
from rl.controller.seams import Engines, Learner, Rewards
from rl.controller.step_metrics import batch_metrics
from rl.controller.validation import Validation, is_due, is_known, validation_metrics
from rl.evaluation.bottleneck import advice, waiting_shares
from rl.runtime.learner_group import LearnerLost
from rl.scored_group import ScoredGroup
from rl.seeds import purpose_seed
from rl.stages.context import RunContext
from rl.storage.checkpoints import Checkpoint, newest_whole, save_final_model
from rl.storage.files import read_json
from rl.storage.implicit_version import CHECKSUM, ImplicitVersion
from rl.storage.rollout_record import RECORD, write_step
from rl.tracking.metrics import MetricsWriter
from rl.tracking.terminal import LiveSummary

MOST_LEARNERS = 3
"""Learners lost in a row, without a step between them, that end the stage."""


async def run_rl(context: RunContext, stage: RlStage) -> dict[str, Any]:
    """Train the stage from its last checkpoint. -> content of done.json.

    Raises StalledRun when the run cannot learn, LearnerLost when learners die one after the other.
    """
    lost = 0
    while True:
        loop = None
        activity = LoopActivity("starting engines and learner")
        try:
            with LiveSummary(stage.name, total=stage.steps, tell=context.activity.show) as live:
                async with showing(activity, live):
                    loop = await ReinforcementLoop.open(context, stage, activity)
                    shares = await loop.run(live)
            print(loop.last_line(shares), flush=True)
            return {"steps": stage.steps, "waited_for": shares}
        except LearnerLost as error:
            lost = 1 if loop is not None and loop.has_advanced else lost + 1
            if lost >= MOST_LEARNERS:
                raise
            context.report(stage.name, "learner", f"{error}; another learner starts at the last checkpoint")
        finally:
            if loop is not None:
                await loop.close()


class ReinforcementLoop:
    """The steps of one stage, from a checkpoint to its last step."""

    def __init__(
        self,
        context: RunContext,
        stage: RlStage,
        engines: Engines,
        learner: Learner,
        rewards: Rewards,
        activity: LoopActivity,
        *,
        step: int,
        next_group: int,
    ) -> None:
        """`step` steps are done and groups before `next_group` consumed, as the last checkpoint has it."""
        recipe = context.recipe
        self._context, self._stage, self._ledger = context, stage, context.ledger
        self._engines, self._learner, self._rewards = engines, learner, rewards
        self._activity = activity
        self._folder = context.directory.stage(stage.name)
        self._terms = recipe.rewards_of(stage)
        self._first = step
        self.admission = Admission(
            groups_per_step=stage.groups_per_step,
            staleness=stage.staleness,
            total_steps=stage.steps,
            step=step,
            next_group=next_group,
        )
        problems = context.problems(stage, "train")
        self._source = GroupSource(
            params=recipe.protocol_of(stage),
            problems=problems,
            prompt_of=context.task(stage).prompt,
            terms=self._terms,
            sampler=ProblemSampler(
                len(problems),
                purpose_seed(recipe.seed, stage.name),
                shuffled=recipe.task_of(stage).is_shuffled,
            ),
            seed=purpose_seed(recipe.seed, f"{stage.name}/rollouts"),
            probes=recipe.probes_of(stage),
        )
        self._health = HealthWatch(stage, self._source.params, context.report, context.ledger.fault)
        self._groups = GroupRunner(
            stage, self._source, self.admission, engines, rewards, context.ledger, self._health.on_group
        )
        self._publisher = Publisher(
            engines,
            learner,
            context.ledger,
            stage_name=stage.name,
            max_length=recipe.model.max_length,
            dtype=recipe.engine.dtype,
        )
        self._validation = Validation(self._validate, lambda measures: None)
        self._rows: list[dict[str, float]] = []
        """Metrics of the steps since the loop was opened."""
        self._released = False

    @classmethod
    async def open(cls, context: RunContext, stage: RlStage, activity: LoopActivity) -> "ReinforcementLoop":
        """Start learner, engines and reward workers at the last checkpoint, or at the weights of the stage
        before.
        """

        def report(kind: str, what: str) -> None:
            context.report(stage.name, kind, what)

        saved = newest_whole(context.directory.stage(stage.name), report)
        state = read_json(saved / "state.json") if saved else {"step": 0, "next_group": 0}
        context.ledger.open_stage(stage.name, **state)
        starting = asyncio.ensure_future(context.services.learner(stage, context.previous_model(stage)))
        try:
            rewards = context.services.reward_pool(stage)
            engines = await context.services.engines(stage)
            learner = await starting
            loop = cls(context, stage, engines, learner, rewards, activity, **state)
            if saved:
                await learner.load(saved)
            activity.begin("first weight sync")
            await loop._publisher.publish(state["step"])
        except BaseException:
            starting.cancel()
            for ranks in await asyncio.gather(starting, return_exceptions=True):
                if not isinstance(ranks, BaseException):
                    ranks.close()
            raise
        return loop

    @property
    def has_advanced(self) -> bool:
        """Whether it has made a step since it was opened."""
        return self.admission.step > self._first

    async def close(self) -> None:
        """Cancel running groups and the validation, and end the learner unless the stage has finished."""
        await self._groups.cancel()
        await self._validation.cancel()
        self._publisher.cancel()
        if not self._released:
            self._learner.close()

    async def run(self, live: LiveSummary) -> dict[str, float]:
        """Train until the last step and save the final model. -> shares of the time since `open`, by what the
        loop waited for. An error of a group ends the stage.
        """
        stage, admission = self._stage, self.admission
        first, began = admission.step, time.monotonic()
        live.start(first)
        path = self._context.directory.path
        trackers = self._context.trackers(stage)
        with MetricsWriter(path, stage.name, resumed_step=first or -1, trackers=trackers) as metrics:

            def on_validated(measures: dict[str, float]) -> None:
                # The last row is still that of these weights: the next one is written after the next sync.
                metrics.add(measures)
                live.update(admission.version, measures)

            self._validation = Validation(self._validate, on_validated)
            if first == 0 and stage.validate_every:
                metrics.write(0, {})
            self._health.open(metrics)
            self._groups.admit()
            if is_due(stage, first) and not is_known(metrics.path, stage.name, first):
                self._validation.start()
            try:
                while admission.step < stage.steps:
                    await self._train_step(metrics, live)
            except StalledRun:
                await self._complete_checkpoint()
                raise
            self._activity.begin("last validation")
            self._rows.append({"time/validation_wait_s": await self._validation.wait()})
            await self._publisher.verified()
            self._activity.begin("last checkpoint")
            await self._learner.flush()
        shares = waiting_shares(self._rows, time.monotonic() - began)
        save_final_model(self._folder / f"step-{stage.steps:06d}", self._folder / "model")
        self._context.directory.complete_model(stage.name)
        self._learner.release()
        self._released = True
        return shares

    async def _train_step(self, metrics: MetricsWriter, live: LiveSummary) -> None:
        """One step with its metrics, validation, checkpoint and health checks."""
        stage, step = self._stage, self.admission.step + 1
        row = await self._one_step()
        self._rows.append(row)
        metrics.write(step, row)
        live.update(step, row)
        if is_due(stage, step):
            self._validation.start()
        if step % stage.checkpoint_every == 0 or step == stage.steps:
            self._activity.begin("checkpoint")
            row["time/checkpoint_s"] = await self._checkpoint()
            metrics.add({"time/checkpoint_s": row["time/checkpoint_s"]})
        self._health.on_step(step - 1, row)

    async def _complete_checkpoint(self) -> None:
        """Wait for the checkpoint that is being written, since a stalled run is resumed from it. A failure is
        reported; the checkpoint before it is used then.
        """
        self._activity.begin("last checkpoint")
        try:
            await self._learner.flush()
        except (LearnerLost, StorageError) as error:
            self._context.report(self._stage.name, "checkpoint", f"the newest is incomplete: {error}")

    def last_line(self, shares: dict[str, float]) -> str:
        """The stage's last line: what the loop waited for, or that nothing was trained."""
        return no_update_advice(self._stage.name, self._rows) or advice(shares, self._stage)

    async def _one_step(self) -> dict[str, float]:
        """Collect a batch, train it and publish the new weights. -> metrics."""
        stage, activity = self._stage, self._activity
        began = time.monotonic()
        activity.begin("collecting groups", lambda: self._groups.counts, stage.groups_per_step)
        scoring_s = await self._groups.wait_for_batch()
        step = self.admission.step
        factors = factors_at(self._terms, step)
        groups, num_filtered = self._groups.take_batch()
        self._groups.admit()
        waited = time.monotonic()
        self._check_staleness(step, groups)
        if any(episode.newest_version == step for group in groups for episode in group.episodes):
            activity.begin("verifying the engines' weights")
            await self._publisher.verified()
        activity.begin("learner")
        learned = await self._learner.step(step, groups)
        trained = time.monotonic()
        activity.begin("waiting for the validation")
        validation_s = await self._validation.wait()
        activity.begin("weight sync")
        cost = await self._publisher.publish(step + 1, groups)
        self.admission.publish(step + 1)
        self._groups.admit()
        published = time.monotonic()
        implicit = ImplicitVersion.of_metrics(learned)
        learned.pop(CHECKSUM, None)
        # What an implicit reward model says has a name of its own.
        named = {n if n.startswith("implicit/") else f"learner/{n}": value for n, value in learned.items()}
        row = batch_metrics(step, groups) | named
        row["groups/filtered"] = float(num_filtered)
        row |= {f"schedule/{t.name}": factors[t.name] for t in self._terms if t.schedule.kind != "constant"}
        # In a thread: compressing in the event loop would keep admitted groups from starting.
        record = await asyncio.to_thread(write_step, self._folder / RECORD, step, groups, factors, implicit)
        self._ledger.consumed(stage.name, step, groups, record=record)
        return row | {
            "time/rollout_wait_s": waited - began - scoring_s,
            "time/reward_wait_s": scoring_s,
            "time/learner_s": trained - waited,
            "time/validation_wait_s": validation_s,
            "time/publish_s": published - trained - validation_s,
            **cost,
            **self._engines.occupancy(),
            "time/tokens_per_s": row["tokens/sampled"] / (published - began),
        }

    def _check_staleness(self, step: int, groups: list[ScoredGroup]) -> None:
        """Assert for every trained token that its version is at most S steps old."""
        versions = [episode.oldest_version for group in groups for episode in group.episodes]
        oldest = min((version for version in versions if version is not None), default=step)
        assert oldest >= step - self._stage.staleness, f"step {step} trains a token of version {oldest}"

    async def _validate(self) -> dict[str, float]:
        """Validate the current weights. -> metrics."""
        return await validation_metrics(
            self._engines,
            self._rewards,
            self._source.params,
            self._context.problems(self._stage, "validation"),
            self._source.prompt_of,
            self._stage,
            seed=purpose_seed(self._context.recipe.seed, "validation"),
        )

    async def _checkpoint(self) -> float:
        """Copy the learner's state, to be written beside the next steps. -> seconds that it took."""
        began = time.monotonic()
        checkpoint = Checkpoint(
            folder=self._folder,
            step=self.admission.step,
            next_group=self.admission.first_open,
            keep=self._stage.keep_checkpoints,
        )
        await self._learner.checkpoint(checkpoint)
        return time.monotonic() - began
