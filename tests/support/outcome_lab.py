"""Made-up answers to made-up problems, reward models with a random head, and one rank that trains them."""

import json
import random
from pathlib import Path
from typing import Any

import torch

from data.text.codec import load_codec
from rl.config.stages import RewardModelStage
from rl.imitation.job import SupervisedJob
from rl.imitation.progress import PROGRESS
from rl.learner.scorer_model import ScorerTarget, load_scorer
from rl.scorers.pair_file import PairRows, write_pairs
from rl.scorers.pairs import Pair, pairs_of
from rl.scorers.row_file import TargetRows, write_rows
from rl.scorers.target_rows import JudgedCall


def answers(problems: int = 4, each: int = 4, *, seed: int = 3) -> list[JudgedCall]:
    """Right and wrong answers by turns; those to one problem share its prompt."""
    rng = random.Random(seed)
    made: list[JudgedCall] = []
    for problem in range(problems):
        prompt = tuple(rng.randrange(5, 60) for _ in range(5))
        for number in range(each):
            said = tuple(rng.randrange(5, 60) for _ in range(rng.randint(2, 9)))
            label = {len(said) - 1: float(number % 2 == 0)}
            made.append(JudgedCall.of(f"p{problem}", f"{problem}/{number}", prompt + said, 5, label))
    return made


def save_scorer(base: Path, folder: Path, target: ScorerTarget = "outcome") -> Path:
    """`base` with a random head."""
    model, generator = load_scorer(base, target), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.score.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


def stage_of(**changes: Any) -> RewardModelStage:
    """Two updates over one forest of everything."""
    given = {
        "kind": "reward_model", "name": "orm", "target": "outcome", "steps": 2, "tokens_per_step": 1024,
        "forest_tokens": 1024, "learning_rate": 1e-3, "warmup_steps": 0,
    }  # fmt: skip
    return RewardModelStage.model_validate(given | changes)


def rows_at(folder: Path, base: Path, calls: list[JudgedCall]) -> TargetRows:
    """The calls as a stage writes them; those of the last problem are held out."""
    rows = TargetRows(path=folder / "targets.jsonl.gz", codec=load_codec(base), seed=0)
    write_rows(rows.path, [(call, call.problem_id == calls[-1].problem_id) for call in calls])
    return rows


def pairs_at(folder: Path, base: Path, calls: list[JudgedCall], pairs: list[Pair] | None = None) -> PairRows:
    """The same with pairs, by default all that there are."""
    rows = PairRows(path=folder / "pairs.jsonl.gz", calls=rows_at(folder, base, calls))
    made = pairs if pairs is not None else pairs_of(calls, most=100, margin=0.0, seed=0)
    write_pairs(rows.path, [(pair, pair.problem == calls[-1].problem_id) for pair in made])
    return rows


def train_once(
    stage: RewardModelStage, base: Path, folder: Path, rows: TargetRows | PairRows, **job: Any
) -> list[float]:
    """Trains in this process. -> the loss of every update."""
    from rl.scorers.trainer import train_scorer

    folder.mkdir(exist_ok=True)
    settings = {"seed": 0, "rank": 0, "world": 1, "master": ":"} | job
    train_scorer(SupervisedJob(stage=stage, model_dir=base, output_dir=folder, **settings), rows)
    lines = map(json.loads, (folder / PROGRESS).read_text().splitlines())
    return [line["loss"] for line in lines if "step" in line]
