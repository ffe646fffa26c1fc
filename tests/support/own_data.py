"""A small data set of word problems in GSM8K's layout, made up with a fixed seed."""

import json
import random
from pathlib import Path

_THINGS = ("apples", "books", "coins", "stamps", "shells", "cards", "pens", "eggs", "balls", "cups")
_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gita", "Hugo", "Ida", "Jon")


def gsm8k_rows(count: int = 200, seed: int = 0) -> list[dict[str, str]]:
    """Rows {question, answer} with distinct questions; the answer's last line is "#### 7"."""
    rng = random.Random(f"own data {seed}")
    rows: dict[str, str] = {}
    while len(rows) < count:
        name, thing = rng.choice(_NAMES), rng.choice(_THINGS)
        first, second = rng.randint(1, 9), rng.randint(1, 9)
        question = f"{name} has {first} {thing} and gets {second} more. How many {thing} are that now?"
        total = first + second
        rows[question] = f"{first} + {second} = <<{first}+{second}={total}>>{total} {thing}\n#### {total}"
    return [{"question": question, "answer": answer} for question, answer in rows.items()]


def write_rows(path: Path, rows: list[dict[str, str]] | None = None) -> Path:
    """The rows as JSON Lines; by default 200 of `gsm8k_rows`."""
    lines = [json.dumps(row) for row in (gsm8k_rows() if rows is None else rows)]
    path.write_text("\n".join(lines) + "\n")
    return path
