"""Ray actors of the training side, and the task that builds initial weights.

They import torch inside their methods, so that the driver does not load it.
"""

import gc
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from data.stacks import write_stacks_on_signal
from rl.config.stages import RewardModelStage
from rl.controller.seams import Text
from rl.scored_group import ScoredGroup
from rl.storage.checkpoints import Checkpoint, CheckpointWriter


class RankWorker:
    """One rank, in its own process: of a supervised stage (`train`), or of the learner (`start`, then
    the rest; see `rl.learner.learner.Learner`). One stage after the other, as `rl.runtime.rank_pool` has it.
    """

    _model_dir: Path
    _lora: Any
    _ranks: Any
    _learner: Any
    _base_checksum: str
    _writer: CheckpointWriter

    _listener: socket.socket | None = None
    """Open from `address` until the ranks have joined."""

    def address(self) -> str:
        """host:port at which this process, as rank 0, listens for the other ranks."""
        from rl.learner.collectives import open_listener

        self._listener = open_listener(ray.util.get_node_ip_address())
        host, port = self._listener.getsockname()[:2]
        return f"{host}:{port}"

    def _join(self, ranks: Any, address: str) -> None:
        listener, self._listener = self._listener, None
        ranks.init(address, listener)

    def train(self, job: Any, source: Any) -> None:
        """Runs a rank of a supervised stage to the end: `rl.imitation.trainer`, or `rl.scorers.trainer`."""
        from rl.learner.collectives import Ranks, limit_threads

        limit_threads(job.threads, job.world)
        self._join(Ranks(rank=job.rank, world=job.world), job.master)
        if isinstance(job.stage, RewardModelStage):
            from rl.scorers.trainer import train_scorer

            train_scorer(job, source)
        else:
            from rl.imitation.trainer import train_sft

            train_sft(job, source)

    def start(self, model_dir: Path, settings: Any, ranks: Any, address: str) -> tuple[int, str]:
        """Start a learner; the model is loaded once all ranks have joined. -> process id, node id."""
        from rl.learner.collectives import limit_threads
        from rl.learner.learner import Learner

        limit_threads(settings.threads, ranks.world)
        self._model_dir, self._ranks, self._lora = model_dir, ranks, settings.stage.lora
        self._base_checksum, self._writer = "", CheckpointWriter()
        self._join(ranks, address)
        self._learner = Learner(model_dir, settings, ranks)
        write_stacks_on_signal()
        return os.getpid(), ray.get_runtime_context().get_node_id()

    def release(self) -> None:
        """Frees the learner's memory after a stage."""
        self._learner = None
        gc.collect()

    def step(self, step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
        """Train on one batch."""
        metrics: dict[str, float] = self._learner.step(step, groups)
        return metrics

    def publish(self, path: Path) -> str:
        """Write the weights, rounded as engines serve them, or the adapters alone, where engines read them.
        -> checksum of the file; "" on ranks that only take part in gathering.
        """
        from safetensors.torch import save_file

        from data.checksum import file_checksum
        from rl.learner.finite import ensure_finite
        from rollout.engines.adapter_file import BASE_FILE, write_adapter_file

        weights = self._learner.published()
        if self._ranks.rank:
            return ""
        path.parent.mkdir(parents=True, exist_ok=True)
        ensure_finite(weights, "publishing the weights")
        if self._lora is None:
            save_file(weights, str(path))
        else:
            self._base_checksum = self._base_checksum or file_checksum(self._model_dir / BASE_FILE)
            write_adapter_file(
                path,
                weights,
                base=self._model_dir,
                base_checksum=self._base_checksum,
                scaling=self._lora.scaling,
            )
        return file_checksum(path)

    def logprobs(self, texts: Sequence[Text], rounds: bool) -> list[list[float]]:
        """Log-probabilities of each text's output, for the canary."""
        values: list[list[float]] = self._learner.logprobs(texts, rounds=rounds)
        return values

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Copies the learner's state; rank 0 writes the copy in a thread. Waits for the write before it, and
        raises that one's error.
        """
        self._writer.wait()
        snapshot = self._learner.snapshot()
        if snapshot is not None:
            self._writer.start(checkpoint, snapshot.write)

    def flush(self) -> None:
        """Returns when the last checkpoint is complete on disk. Raises StorageError."""
        self._writer.wait()

    def load(self, directory: Path) -> None:
        """Restore a checkpoint into this rank."""
        self._learner.load(directory)


def build_start(model: Any, codec_dir: Path, output: Path, seed: int) -> str:
    """Initial weights of a from-scratch or pretrained model into `output`. -> a line for the screen."""
    from data.text.codec import load_codec
    from rl.config.model import ScratchModel
    from rl.learner.model import build_model
    from rl.learner.pretrained_start import write_pretrained_start

    codec = load_codec(codec_dir)
    if not isinstance(model, ScratchModel):
        return write_pretrained_start(model.path, codec, output)
    policy = build_model(model, vocabulary=codec.size, pad=codec.pad, eos=codec.eos, seed=seed)
    policy.save_pretrained(str(output), max_shard_size="1TB")
    return f"start: {sum(parameter.numel() for parameter in policy.parameters()):,} weights"


RankActor = ray.remote(RankWorker)
build_start_task = ray.remote(build_start)
