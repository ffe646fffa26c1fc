"""A file of better and worse answers in TRL's preference layout."""

import json
from pathlib import Path


def write_preferences(file: Path) -> Path:
    """Sums of two numbers, right and off by one, in the words of countdown."""
    rows = [
        {"prompt": f"<solo> {a + b} {a} {b} <think>", "chosen": f" <answer> {a} + {b} <eos>",
         "rejected": f" <answer> {a} + {b + 1} <eos>", "margin": 0.1 * a}
        for a in range(1, 6) for b in range(1, 6)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
