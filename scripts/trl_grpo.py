"""TRL's GRPOTrainer on what a Braid run trained: the other side of scripts/bench_async.py.

    python scripts/trl_grpo.py RUN --json FILE                            its own generation
    python scripts/trl_grpo.py RUN --json FILE --generation colocate      its vLLM, in its process

RUN is of the protocol `sequential`, one call an episode, which is all that GRPOTrainer samples. Taken from
RUN: the weights its rl stage began with; the problems, in the sampler's order; groups and samples of a step,
and updates per step; the most tokens of an answer; temperature, loss (token mean, clip, group std, no KL),
AdamW with its betas, rate, warm-up and largest gradient norm; float32. The reward is the recipe's `correct`
term by the task's own checker. TRL's gradient checkpointing, on by default, is off: Braid has none here.

vLLM's CPU backend replaces the weights of linear layers by packed copies, which colocate mode cannot update
(`load_weights` fails). `--plain-gemm` makes vLLM keep them, by the patch that Braid's own engines use.

Threads are those of OMP_NUM_THREADS. The file: for each step the second at which it was done, its reward and
the tokens it sampled.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.tasks.base import Task
from data.tasks.problem import Problem, load_problems
from data.tasks.registry import build_task
from data.tasks.sampler import ProblemSampler
from data.text.codec import Codec, load_codec
from rewards.terms.correct import CorrectParams
from rl.config import Recipe
from rl.config.stages import RlStage
from rl.seeds import purpose_seed
from rl.storage.run_directory import RunDirectory, previous_model
from rollout.protocols.sequential import SequentialParams

KV_GIB = "1"
"""GiB of vLLM's KV cache in colocate mode: the smallest accepted. Braid's recipe has 0.25."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Settings of the training."""

    recipe: Recipe
    stage: RlStage
    model: Path
    problems: list[Problem]
    """Problems in the order of training."""
    max_tokens: int
    steps: int
    """Number of training batches."""

    @property
    def samples(self) -> int:
        """Number of episodes in a step."""
        return self.stage.groups_per_step * self.stage.samples_per_group


@dataclass(kw_only=True, slots=True)
class Clock:
    """What happened in each step."""

    finished_s: list[float] = field(default_factory=list)
    """Monotonic seconds at which a step's last update was done."""
    rewards: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    """Sampled by a step."""


def read_job(run: Path, steps: int) -> Job:
    """What RUN trained. Raises ConfigError when it is no run."""
    directory = RunDirectory(run)
    recipe = directory.recipe()
    stage = next(stage for stage in recipe.stages if isinstance(stage, RlStage))
    params = recipe.protocol_of(stage)
    assert isinstance(params, SequentialParams), "GRPOTrainer samples one call an episode"
    problems = load_problems(directory.problems("train"))
    sampler = ProblemSampler(len(problems), purpose_seed(recipe.seed, stage.name))
    count = steps * stage.groups_per_step
    return Job(
        recipe=recipe,
        stage=stage,
        model=previous_model(recipe, directory, stage),
        problems=[problems[sampler.problem_at(group)] for group in range(count)],
        max_tokens=params.max_tokens,
        steps=steps,
    )


def reward_of(
    ids: Sequence[int], problem: Problem, *, task: Task, codec: Codec, term: CorrectParams
) -> float:
    """As Braid judges `... <answer> BODY <eos>` and `... <giveup> <eos>`."""
    answer, giveup = codec.token("<answer>"), codec.token("<giveup>")
    if len(ids) < 2 or ids[-1] not in codec.ends or ids[-2] in (answer, giveup) or answer not in ids:
        return term.none
    body = ids[len(ids) - ids[::-1].index(answer) : -1]
    return term.correct if task.check(problem, codec.decode(body)) else term.wrong


def make_reward(job: Job, codec: Codec, clock: Clock) -> Callable[..., list[float]]:
    """TRL's reward function; also counts."""
    task = build_task(job.recipe.task_of(job.stage).params)
    term = next(term for term in job.recipe.rewards_of(job.stage) if isinstance(term, CorrectParams))

    def correct(completion_ids: list[list[int]], index: list[int], **_: Any) -> list[float]:
        rewards = [
            reward_of(ids, job.problems[place], task=task, codec=codec, term=term)
            for ids, place in zip(completion_ids, index, strict=True)
        ]
        clock.rewards.append(sum(rewards) / len(rewards))
        clock.tokens.append(sum(map(len, completion_ids)))
        return rewards

    return correct


def settings(job: Job, folder: str, generation: str) -> Any:
    """GRPOConfig: one update is a minibatch of the step, sampled once for all of them."""
    from trl import GRPOConfig

    stage = job.stage
    updates = stage.minibatches
    own = {"generation_kwargs": {"use_cache": True}}  # off in models saved by Braid
    vllm = {"use_vllm": True, "vllm_mode": "colocate", "vllm_max_model_length": job.recipe.model.max_length}
    return GRPOConfig(
        output_dir=folder,
        max_steps=job.steps * updates,
        per_device_train_batch_size=job.samples // updates,
        steps_per_generation=updates,
        num_generations=stage.samples_per_group,
        max_completion_length=job.max_tokens,
        temperature=stage.temperature,
        shuffle_dataset=False,
        loss_type="dapo",
        epsilon=stage.algorithm.clip_low,
        epsilon_high=stage.algorithm.clip_high,
        scale_rewards="group",
        beta=0.0,
        learning_rate=stage.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=stage.warmup_steps * updates,
        max_grad_norm=stage.max_grad_norm,
        weight_decay=stage.weight_decay,
        adam_beta1=0.9,
        adam_beta2=0.95,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        seed=job.recipe.seed,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        **(vllm if generation == "colocate" else own),
    )


def train(job: Job, generation: str) -> Clock:
    """Runs GRPOTrainer to the end."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOTrainer

    codec, clock = load_codec(job.model), Clock()
    task = build_task(job.recipe.task_of(job.stage).params)
    prompts = [f"<solo> {task.prompt(problem).text} <think>" for problem in job.problems]

    class Steps(TrainerCallback):
        """Notes when each batch was finished."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % job.stage.minibatches == 0:
                clock.finished_s.append(time.monotonic())

    with tempfile.TemporaryDirectory(prefix="braid-trl-") as folder:
        trainer = GRPOTrainer(
            model=str(job.model),
            reward_funcs=make_reward(job, codec, clock),
            args=settings(job, folder, generation),
            train_dataset=Dataset.from_dict({"prompt": prompts, "index": list(range(len(prompts)))}),
            processing_class=codec.tokenizer,
            callbacks=[Steps()],
        )
        trainer.train()
    return clock


def main(argv: Sequence[str] | None = None) -> int:
    """-> process exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.generation == "colocate":
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = KV_GIB
    if arguments.plain_gemm:
        from rollout.engines.vllm_compat import use_plain_gemm

        use_plain_gemm(batch_invariant=False, max_rows=0)
    job = read_job(arguments.run, arguments.steps)
    clock = train(job, arguments.generation)
    document = {
        "samples_per_step": job.samples, "finished_s": clock.finished_s, "rewards": clock.rewards,
        "tokens": clock.tokens,
    }  # fmt: skip
    arguments.json.write_text(json.dumps(document) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory whose rl stage has begun")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file for the figures")
    parser.add_argument("--generation", choices=("transformers", "colocate"), default="transformers")
    parser.add_argument("--steps", type=int, default=4, metavar="N", help="batches")
    parser.add_argument("--plain-gemm", action="store_true", help="see above")
    return parser


if __name__ == "__main__":
    sys.exit(main())
