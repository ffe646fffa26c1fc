"""TRL's GRPOTrainer on what a Braid run trained: the other side of scripts/bench_async.py.

    python scripts/trl_grpo.py RUN --json FILE                            its own generation
    python scripts/trl_grpo.py RUN --json FILE --generation colocate      its vLLM, in its process

RUN is of the protocol `sequential`, one call an episode, which is all that GRPOTrainer samples. Taken from
RUN: the weights its rl stage began with; the problems, in the sampler's order; groups and samples of a step,
and updates per step; the most tokens of an answer; temperature, loss (token mean, clip, group std, no KL),
AdamW with its betas, rate, warm-up and largest gradient norm; adapters, if any; float32. Prompts are those of
the run, its chat template included; the reward is its `correct` term by its own checker or verifier. TRL's
gradient checkpointing, on by default, is off: Braid has none here.

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

from data.episodes.trajectory import Forced
from data.errors import ConfigError
from data.tasks.problem import Problem, load_problems
from data.tasks.registry import build_task
from data.tasks.sampler import ProblemSampler
from data.text.codec import Codec, load_codec
from rewards.compose import compose
from rewards.terms.correct import CorrectParams
from rewards.verifiers.process import VerifierPool
from rl.config import Recipe
from rl.config.stages import RlStage
from rl.seeds import purpose_seed
from rl.storage.run_directory import RunDirectory, previous_model
from rollout.offline import drive
from rollout.protocols import build_protocol
from rollout.protocols.sequential import SequentialParams
from rollout.protocols.shared.actions import Continue

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


def make_reward(job: Job, codec: Codec, clock: Clock) -> Callable[..., list[float]]:
    """TRL's reward function: Braid's own, on episodes made of what TRL has sampled. Also counts."""
    config = job.recipe.task_of(job.stage)
    task, protocol = build_task(config.params), build_protocol(job.recipe.protocol_of(job.stage), codec)
    terms = [term for term in job.recipe.rewards_of(job.stage) if isinstance(term, CorrectParams)]
    pool = None if config.verifier is None else VerifierPool(config.verifier)
    reward = compose(terms, task, codec, pool)

    def score(ids: tuple[int, ...], problem: Problem) -> float:
        prompt = task.prompt(problem)
        episode = drive(protocol, prompt, lambda _: ids, max_length=job.recipe.model.max_length)
        value = reward(problem, episode).value
        assert value is not None, "an episode without an answer has a value, too"
        return value

    def correct(completion_ids: list[list[int]], index: list[int], **_: Any) -> list[float]:
        rewards = [
            score(tuple(ids), job.problems[place]) for ids, place in zip(completion_ids, index, strict=True)
        ]
        clock.rewards.append(sum(rewards) / len(rewards))
        clock.tokens.append(sum(map(len, completion_ids)))
        return rewards

    return correct


def prompts_of(job: Job, codec: Codec) -> list[str]:
    """Text that TRL encodes to the ids that the calls of RUN began with. Raises ConfigError if it cannot."""
    task = build_task(job.recipe.task_of(job.stage).params)
    protocol = build_protocol(job.recipe.protocol_of(job.stage), codec)
    texts = []
    for problem in job.problems:
        first = protocol.open(task.prompt(problem))
        assert isinstance(first, Continue), "`sequential` begins with a call"
        spans = first.ask.context
        ids = [token for span in spans if isinstance(span, Forced) for token in span.ids]
        text = codec.decode(ids)
        if codec.tokenizer(text)["input_ids"] != ids:
            raise ConfigError(
                f"problem {problem.id}: its prompt as text is encoded to other ids, and TRL takes text\n"
                "  fix: compare on a model whose tokenizer adds no begin-of-text"
            )
        texts.append(text)
    return texts


def adapters(stage: RlStage) -> Any:
    """The adapters of the stage as TRL takes them; None: all weights are trained."""
    if stage.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=stage.lora.rank, lora_alpha=stage.lora.alpha, lora_dropout=0.0, target_modules="all-linear"
    )


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
    prompts = prompts_of(job, codec)

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
            peft_config=adapters(job.stage),
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
