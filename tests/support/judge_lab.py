"""A chat model's recipe that labels its own episodes and trains a judge on these labels."""

import copy
from pathlib import Path
from typing import Any

from recipe_lab import SMALL, write

JUDGE_STAGES: list[dict[str, Any]] = [
    {"name": "rl", "kind": "rl", "steps": 2, "groups_per_step": 2, "samples_per_group": 2,
     "learning_rate": 1e-4},
    {"name": "mc", "kind": "label_steps", "source": {"stages": ["rl"]}, "step": "paragraph",
     "by": {"kind": "monte_carlo"}},
    {"name": "judge", "kind": "rl", "steps": 2, "groups_per_step": 2, "samples_per_group": 2,
     "learning_rate": 1e-4, "start": "start", "task": {"name": "judge", "params": {"stage": "mc"}},
     "protocol": {"name": "sequential", "max_tokens": 77, "answer": {"kind": "boxed"}}},
    {"name": "judged", "kind": "label_steps", "source": {"stages": ["rl"]}, "step": "paragraph",
     "by": {"kind": "judge", "completions": 4}},
    {"name": "more", "kind": "rl", "steps": 2, "groups_per_step": 2, "samples_per_group": 2,
     "learning_rate": 1e-4, "start": "rl"},
]  # fmt: skip


def judging(tmp_path: Path, **changes: dict[str, Any]) -> Path:
    """A chat model's recipe that trains a judge on its own labels; `changes` are merged by stage."""
    (tmp_path / "rows.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    stages = [{**stage, **changes.get(str(stage["name"]), {})} for stage in JUDGE_STAGES]
    content = copy.deepcopy(SMALL) | {
        "task": {"name": "dataset", "params": {"train": str(tmp_path / "rows.jsonl")}, "verifier": "gsm8k"},
        "model": {"kind": "pretrained", "path": "somewhere", "max_length": 2048},
        "protocol": {"name": "sequential"}, "stages": stages,
    }  # fmt: skip
    return write(tmp_path, content)
