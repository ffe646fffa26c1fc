"""What one rank of supervised fine-tuning is told. Apart from `rl.imitation.trainer`, so that the driver need
not import trl.
"""

from dataclasses import dataclass
from pathlib import Path

from rl.config.stages import SftStage

PROGRESS = "progress.jsonl"
"""Log lines of rank 0 so far, in `output_dir`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SftRankJob:
    """One rank's work. All ranks get the same job but for `rank`."""

    stage: SftStage
    model_dir: Path
    output_dir: Path
    """Checkpoints while it runs, and the final model (written by rank 0)."""
    seed: int
    rank: int
    world: int
    master: str
    """host:port of rank 0."""
