"""The reinforcement stage: the controller's loop. Problems in, versions out.

    admit -> run the group's episodes -> score -> (filter) -> consume B groups in order -> learner step
    -> publish

Rollouts of admitted groups go on while the learner works; `rl.controller.admission.Admission` alone decides
what may start, so the staleness bound holds at any S by the same code.

Rewards may depend on the step (`schedule` of a term). Scoring does not wait for it: a group is weighed when
its step consumes it, with that step's factors. Only the filter has to know them earlier: it waits until all
steps that may still come to train the group (`Admission.steps_of`) have the same factors. So the order in
which groups finish decides neither which of them are trained nor with what weights.

Validation does not stop the training; only the next weights wait for the end of it, so that every validated
token is of one version.

Engines and reward workers that die are replaced by `rl.runtime.engine_pool` and `rl.runtime.reward_pool`, and
the loop sees nothing of it. A learner that is lost takes the loop with it: another one begins at the last
checkpoint.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from data.tasks.sampler import ProblemSampler
from rewards.compose import factors_at
from rl.config.stages import RlStage
from rl.controller.admission import Admission
from rl.controller.canary import TOLERANCE, Canary, canary_text, verify
from rl.controller.rollouts import group_specs, roll_out
from rl.controller.step_metrics import batch_metrics
from rl.controller.validation import Validation, is_due, is_known
from rl.evaluation.bottleneck import advice, waiting_shares
from rl.evaluation.outcomes import Outcome, outcome_of
from rl.evaluation.summary import summarise
from rl.runtime.learner_group import LearnerGroup, LearnerLost
from rl.scored_group import ScoredGroup
from rl.seeds import purpose_seed
from rl.stages.context import RunContext
from rl.storage.checkpoints import newest_whole, save_checkpoint, save_final_model
from rl.storage.files import read_json
from rl.storage.rollout_record import RECORD, write_step
from rl.tracking.metrics import MetricsWriter
from rl.tracking.terminal import LiveSummary

MOST_LEARNERS = 3
"""Lost in a row, without a step between them."""


async def run_rl(context: RunContext, stage: RlStage) -> dict[str, Any]:
    """Trains the stage; resumes from its last checkpoint. -> what done.json keeps."""
    lost = 0
    while True:
        loop = None
        try:
            loop = await ReinforcementLoop.open(context, stage)
            return {"steps": stage.steps, "waited_for": await loop.run()}
        except LearnerLost as error:
            lost = 1 if loop is not None and loop.has_advanced else lost + 1
            if lost >= MOST_LEARNERS:
                raise
            context.report(stage.name, "learner", f"{error}; another one begins at the last checkpoint")
        finally:
            if loop is not None:
                await loop.close()


class ReinforcementLoop:
    """State of a running stage; see the module."""

    def __init__(self, context: RunContext, stage: RlStage, *, step: int, next_group: int) -> None:
        self._context = context
        self._stage = stage
        self._folder = context.directory.stage(stage.name)
        self._params = context.recipe.protocol_of(stage)
        self._problems = context.problems(stage, "train")
        self._sampler = ProblemSampler(len(self._problems), purpose_seed(context.recipe.seed, stage.name))
        self._seed = purpose_seed(context.recipe.seed, f"{stage.name}/rollouts")
        self._encode = context.encode(stage)
        self._terms = context.recipe.rewards_of(stage)
        self.admission = Admission(
            groups_per_step=stage.groups_per_step,
            staleness=stage.staleness,
            total_steps=stage.steps,
            step=step,
            next_group=next_group,
        )
        self._first = step
        self._scored: dict[int, ScoredGroup] = {}
        """Groups with full weights, to be kept or filtered out."""
        self._finished: dict[int, ScoredGroup] = {}
        """Kept ones, still with full weights."""
        self._running: set[asyncio.Task[None]] = set()
        self._canary: asyncio.Future[None] | None = None
        """The engines' answer for the weights published last."""
        self._validation = Validation(self._validate, lambda measures: None)
        self._scoring = 0
        """Running groups that are past sampling."""
        self._changed = asyncio.Event()
        self._ledger = context.ledger
        self._filtered = 0
        self._engines: Any = None
        self._learner: Any = None
        self._rewards: Any = None

    @classmethod
    async def open(cls, context: RunContext, stage: RlStage) -> "ReinforcementLoop":
        """Start learner and engines at the last checkpoint, or at the stage before."""
        folder = context.directory.stage(stage.name)

        def report(kind: str, what: str) -> None:
            context.report(stage.name, kind, what)

        saved = newest_whole(folder, report)
        state = read_json(saved / "state.json") if saved else {"step": 0, "next_group": 0}
        context.ledger.open_stage(stage.name, **state)
        loop = cls(context, stage, **state)
        learner = asyncio.ensure_future(context.services.learner(stage, context.previous_model(stage)))
        try:
            loop._rewards = context.services.reward_pool(stage)
            loop._engines = await context.services.engines()
            loop._learner = await learner
            if saved:
                await loop._learner.load(saved)
            await loop._publish(state["step"])
        except BaseException:
            learner.cancel()
            for ranks in await asyncio.gather(learner, return_exceptions=True):
                if isinstance(ranks, LearnerGroup):
                    ranks.close()
            await loop.close()
            raise
        return loop

    @property
    def has_advanced(self) -> bool:
        """Whether it has made a step since it was opened."""
        return self.admission.step > self._first

    async def close(self) -> None:
        """Ends what belongs to the stage alone; groups that still run are dropped."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._validation.cancel()
        if self._canary is not None:
            self._canary.cancel()
        if self._learner is not None:
            self._learner.close()

    async def run(self) -> dict[str, float]:
        """Until the last step. Errors of a rollout end the stage; it resumes from its last checkpoint.
        -> shares of its time (since the last resume), by what it waited for.
        """
        stage, admission = self._stage, self.admission
        first, began = admission.step, time.monotonic()
        rows: list[dict[str, float]] = []
        with (
            MetricsWriter(self._context.directory.path, stage.name, resumed_step=first or -1) as metrics,
            LiveSummary(stage.name, total=stage.steps, first=first) as live,
        ):

            def found(measures: dict[str, float]) -> None:
                # The last row is still that of these weights: the next is written once the next are out.
                metrics.add(measures)
                live.update(admission.version, measures)

            self._validation = Validation(self._validate, found)
            if first == 0 and stage.validate_every:
                metrics.write(0, {})
            self._admit()
            if is_due(stage, first) and not is_known(metrics.path, stage.name, first):
                self._validation.start()
            while admission.step < stage.steps:
                row = await self._one_step()
                rows.append(row)
                metrics.write(admission.step, row)
                live.update(admission.step, row)
                if is_due(stage, admission.step):
                    self._validation.start()
                if admission.step % stage.checkpoint_every == 0 or admission.step == stage.steps:
                    await self._checkpoint()
            rows.append({"time/validation_wait_s": await self._validation.wait()})
            await self._verified()
        shares = waiting_shares(rows, time.monotonic() - began)
        print(advice(shares, stage), flush=True)
        last = self._folder / f"step-{stage.steps:06d}"
        save_final_model(last, self._folder / "model")
        self._context.directory.complete_model(stage.name)
        self._learner.release()
        self._learner = None
        return shares

    async def _one_step(self) -> dict[str, float]:
        began = time.monotonic()
        scored = await self._wait_for_batch()
        step = self.admission.step
        factors = factors_at(self._terms, step)
        groups = [self._finished.pop(index).with_schedule(factors) for index in self.admission.consume()]
        self._admit()
        waited = time.monotonic()
        self._check_staleness(step, groups)
        if any(episode.newest_version == step for group in groups for episode in group.episodes):
            await self._verified()
        learned = await self._learner.step(step, groups)
        trained = time.monotonic()
        validated = await self._validation.wait()
        cost = await self._publish(step + 1, groups)
        self.admission.publish(step + 1)
        self._admit()
        published = time.monotonic()
        row = batch_metrics(step, groups) | {f"learner/{name}": value for name, value in learned.items()}
        row["groups/filtered"] = float(self._filtered)
        self._filtered = 0
        row |= {f"schedule/{t.name}": factors[t.name] for t in self._terms if t.schedule.kind != "constant"}
        # Off this loop: compressing would keep admitted groups from starting.
        record = await asyncio.to_thread(write_step, self._folder / RECORD, step, groups, factors)
        self._ledger.consumed(self._stage.name, step, groups, record=record)
        row |= {
            "time/rollout_wait_s": waited - began - scored,
            "time/reward_wait_s": scored,
            "time/learner_s": trained - waited,
            "time/validation_wait_s": validated,
            "time/publish_s": published - trained - validated,
            **cost,
            **self._engines.occupancy(),
            "time/tokens_per_s": row["tokens/sampled"] / (published - began),
        }
        return row

    async def _wait_for_batch(self) -> float:
        """Until a step's groups are there. -> seconds of it in which nothing but scoring was waited for."""
        scored = 0.0
        while self.admission.ready() is None:
            self._admit()
            self._changed.clear()
            only_scoring = 0 < self._scoring == len(self._running)
            began = time.monotonic()
            await self._changed.wait()
            scored += time.monotonic() - began if only_scoring else 0.0
            self._raise_failures()
        return scored

    def _admit(self) -> None:
        """Start every group that may start."""
        while self.admission.admissible() is not None:
            group_index = self.admission.start()
            task = asyncio.create_task(self._run_group(group_index))
            self._running.add(task)
            task.add_done_callback(lambda _: self._changed.set())

    async def _run_group(self, group_index: int) -> None:
        stage = self._stage
        problem = self._problems[self._sampler.problem_at(group_index)]
        specs = group_specs(
            problem,
            self._encode(problem),
            group_index=group_index,
            samples=stage.samples_per_group,
            temperature=stage.temperature,
            seed=self._seed,
        )
        self._ledger.start(stage.name, group_index, problem.id, version=self.admission.version)
        began = time.monotonic()
        episodes, reference = await self._engines.run_group(
            self._params, specs, partial(self._on_move, group_index)
        )
        ran = time.monotonic()
        self._scoring += 1
        self._changed.set()
        try:
            scores = await self._rewards.score(problem, episodes, reference)
        finally:
            self._scoring -= 1
        self._ledger.finish(
            stage.name, group_index, episodes, scores,
            engine=None, rollout_s=ran - began, reward_s=time.monotonic() - ran,
        )  # fmt: skip
        self._scored[group_index] = ScoredGroup(
            index=group_index, problem_id=problem.id, episodes=tuple(episodes), scores=tuple(scores)
        )
        self._decide()

    def _on_move(self, group_index: int, engine: str) -> None:
        version = self.admission.version
        self._ledger.restart(self._stage.name, group_index, version=version, engine=engine, why="actor died")

    def _decide(self) -> None:
        """Keep or filter out the scored groups that no open question can weigh otherwise any more. In order,
        since what becomes of one narrows the steps of those behind it.
        """
        for group_index in sorted(self._scored):
            kept = True
            if self._stage.drop_zero_variance:
                factors, *others = (
                    factors_at(self._terms, step) for step in self.admission.steps_of(group_index)
                )
                if any(other != factors for other in others):
                    continue
                kept = self._scored[group_index].with_schedule(factors).has_signal(self._stage.algorithm)
            scored = self._scored.pop(group_index)
            self.admission.finish(group_index, kept=kept)
            if kept:
                self._finished[group_index] = scored
            else:
                self._filtered += 1
                self._ledger.filtered(self._stage.name, group_index)
        # A group that was left out has given up its place.
        self._admit()

    def _raise_failures(self) -> None:
        for task in [task for task in self._running if task.done()]:
            self._running.discard(task)
            task.result()

    def _check_staleness(self, step: int, groups: list[ScoredGroup]) -> None:
        """Promise 4, asserted on every trained token."""
        versions = [episode.oldest_version for group in groups for episode in group.episodes]
        oldest = min((version for version in versions if version is not None), default=step)
        assert oldest >= step - self._stage.staleness, f"step {step} trains a token of version {oldest}"

    async def _publish(self, version: int, trained: Sequence[ScoredGroup] = ()) -> dict[str, float]:
        """Learner's weights to all engines, and a canary after them. `trained`: where its text is taken from;
        nothing at the start of a stage. -> what it cost.
        """
        await self._verified()
        episodes = (episode for group in trained for episode in group.episodes)
        text = canary_text(episodes, self._context.recipe.model.max_length)
        expected = await self._learner.logprobs(*text) if text else ()
        began = time.monotonic()
        path = self._engines.new_file()
        checksum = await self._learner.publish(path)
        written = time.monotonic()
        reports = await self._engines.publish(path, version, checksum)
        sent = time.monotonic()
        # None when every engine died meanwhile: those that replaced them began with these weights.
        pause_s = max((report.pause_s for report in reports), default=0.0)
        num_bytes = max((report.bytes for report in reports), default=0)
        self._ledger.published(
            self._stage.name, version, seconds=sent - began, num_bytes=num_bytes, pause_s=pause_s
        )
        if text is not None:
            asked = Canary(version=version, context=text[0], output=text[1], expected=expected)
            tolerance = TOLERANCE[self._context.recipe.engine.dtype]
            self._canary = asyncio.ensure_future(verify(asked, self._engines, tolerance))
            # Read, or asyncio prints a traceback when the stage ends for another reason.
            self._canary.add_done_callback(lambda future: future.cancelled() or future.exception())
        return {
            "time/publish_write_s": written - began,
            "time/publish_send_s": sent - written,
            "time/publish_pause_s": pause_s,
            "time/publish_gb_per_s": num_bytes / 1e9 / (sent - began),
        }

    async def _verified(self) -> None:
        """Once the engines have shown that their weights are those published last. Raises PublishError."""
        if self._canary is not None:
            await self._canary

    async def _validate(self) -> dict[str, float]:
        """Accuracy and cost on the validation problems, at the training temperature."""
        stage = self._stage
        outcomes: list[Outcome] = []
        await roll_out(
            self._engines,
            self._rewards,
            self._params,
            self._context.problems(stage, "validation"),
            self._encode,
            samples=stage.validation_samples,
            temperature=stage.temperature,
            seed=purpose_seed(self._context.recipe.seed, "validation"),
            on_episode=lambda done: outcomes.append(
                outcome_of(done.episode, sample=done.sample, score=done.score)
            ),
        )
        measures = summarise(outcomes, critical_budgets=(), bootstrap_samples=100, seed=0)
        return {
            "validation/accuracy": measures.accuracy,
            "validation/critical_tokens": measures.critical_tokens,
            "validation/total_tokens": measures.total_tokens,
            "validation/threads": measures.threads,
        }

    async def _checkpoint(self) -> None:
        await save_checkpoint(
            self._folder,
            self.admission.step,
            next_group=self.admission.first_open,
            keep=self._stage.keep_checkpoints,
            save=self._learner.save,
        )
