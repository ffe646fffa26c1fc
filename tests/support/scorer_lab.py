"""An episode that a scorer can judge, what it is asked, and a damaged copy of its weights."""

import shutil
from pathlib import Path

from data.episodes.trajectory import Episode
from data.steps.step import StepKind
from data.tasks.countdown import Countdown
from data.tasks.problem import Problem
from data.text.codec import load_codec
from rl.scorers.worker import ScorerSettings
from rollout.offline import drive
from rollout.protocols import build_protocol, default_params

PROBLEM = Problem("p", "countdown", {"numbers": [10, 9, 4, 2], "target": 41})
SAID = "<try> 9 * 4 10 2 36 <try> 10 / 2 5 36 <answer> 9 * 4 10 / 2 36 + 5 <eos>"


def one_call(tokenizer_dir: Path, said: str = SAID) -> Episode:
    """One call; of three lines, unless it says something else."""
    codec = load_codec(tokenizer_dir)
    ids = tuple(codec.tokenizer(said)["input_ids"])
    protocol = build_protocol(default_params("sequential"), codec)
    return drive(protocol, Countdown().prompt(PROBLEM), lambda _: ids)


def settings(model_dir: Path, tokenizer_dir: Path, **changes: object) -> ScorerSettings:
    """A scorer of lines."""
    given: dict[str, object] = {"target": "steps", "step": StepKind.LINE, "forest_tokens": 256} | changes
    return ScorerSettings(model_dir=model_dir, tokenizer_dir=tokenizer_dir, **given)  # type: ignore[arg-type]


def truncated(model_dir: Path, copy: Path) -> Path:
    """A copy whose weights lack their second half."""
    shutil.copytree(model_dir, copy)
    weights = copy / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    return copy
