"""Job of one rank of a supervised stage. In its own module, so that the controller does not import trl."""

from dataclasses import dataclass
from pathlib import Path

from rl.config.stages import SupervisedStage


@dataclass(frozen=True, kw_only=True, slots=True)
class SupervisedJob:
    """Job of one rank. Jobs of a stage differ in `rank` only."""

    stage: SupervisedStage
    model_dir: Path
    """Weights that the stage begins with."""
    output_dir: Path
    """The stage's folder: progress, checkpoints and the final model, all written by rank 0."""
    checkpoint: Path | None = None
    """Checkpoint to resume from; its files are known to be whole."""
    seed: int
    rank: int
    world: int
    """Number of training ranks."""
    master: str
    """host:port of rank 0."""
    threads: int | None = 1
    """CPU threads of this rank; None: the machine's cores shared by its ranks."""
