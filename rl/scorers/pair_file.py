"""File with the pairs of a reward model, made once and read by all ranks: gzipped JSON Lines.

{"problem": "cd-9-4", "held_out": false, "margin": 0.0, "better": {"episode": "3/0", "first": 5, "ids": [..]},
 "worse": {..}}
"""

import gzip
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from data.forests.forest import unique_tokens
from data.forests.rows import TargetRow
from data.whole_file import json_line, whole_file
from rl.imitation.demonstrations import WINDOW, LeftOut
from rl.scorers.pairs import Pair
from rl.scorers.row_file import TargetRows
from rl.scorers.target_rows import JudgedCall


@dataclass(frozen=True, kw_only=True, slots=True)
class PairForest:
    """Rows of one forest, and the pairs among them."""

    rows: list[TargetRow]
    pairs: list[tuple[int, int, float]]
    """Index of the better row, index of the worse one, margin."""


def write_pairs(path: Path, pairs: Iterable[tuple[Pair, bool]]) -> None:
    """Writes pairs, each with whether it is held out, whole or not at all. Equal pairs give equal files."""
    with (
        whole_file(path) as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0, compresslevel=3) as file,
    ):
        for pair, held_out in pairs:
            line = {"problem": pair.problem, "held_out": held_out, "margin": pair.margin}
            sides = {"better": _side(pair.better), "worse": _side(pair.worse)}
            file.write(json_line({**line, **sides}))


def read_pairs(path: Path, *, held_out: bool) -> Iterator[Pair]:
    """The pairs that are held out, or those that are not, in the order of the file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            if line["held_out"] == held_out:
                yield Pair(
                    better=_call(line["problem"], line["better"], 1.0),
                    worse=_call(line["problem"], line["worse"], 0.0),
                    margin=line["margin"],
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRows:
    """The pairs of a stage; equal fields give equal forests on every rank."""

    path: Path
    calls: TargetRows
    """All labelled calls, of which those that are held out are scored at the end."""
    left_out: LeftOut = field(default_factory=LeftOut, compare=False)
    """Calls of pairs that do not fit into a forest, counted while forests are made."""

    def forests(self, tokens: int) -> Iterator[PairForest]:
        """Forests of at most `tokens` distinct tokens of the training pairs, problems in random order within
        a window. Pairs of a problem follow each other, because they share its prompt and answers.
        """
        rng = random.Random(f"braid/pairs/{self.calls.seed}")
        pairs = read_pairs(self.path, held_out=False)
        while window := list(islice(pairs, WINDOW)):
            by_problem: dict[str, list[Pair]] = {}
            for pair in window:
                by_problem.setdefault(pair.problem, []).append(pair)
            problems = list(by_problem.values())
            rng.shuffle(problems)
            yield from self._packed([pair for members in problems for pair in members], tokens)

    def _packed(self, pairs: list[Pair], tokens: int) -> Iterator[PairForest]:
        """The pairs in their order, as many in a forest as fit; equal rows once."""
        places: dict[tuple[int, ...], int] = {}
        made = PairForest(rows=[], pairs=[])
        for pair in pairs:
            both = (pair.better.row, pair.worse.row)
            if unique_tokens(both) > tokens:
                self.left_out.calls += 2
                continue
            new = [row for row in both if row.ids not in places]
            if new and unique_tokens([*made.rows, *new]) > tokens:
                yield made
                places, made, new = {}, PairForest(rows=[], pairs=[]), list(both)
            for row in new:
                places[row.ids] = len(made.rows)
                made.rows.append(row)
            made.pairs.append((places[both[0].ids], places[both[1].ids], pair.margin))
        if made.pairs:
            yield made


def _side(call: JudgedCall) -> dict[str, Any]:
    return {"episode": call.episode_id, "first": call.row.first, "ids": call.row.ids}


def _call(problem: str, side: dict[str, Any], target: float) -> JudgedCall:
    ids, first = tuple(side["ids"]), side["first"]
    return JudgedCall.of(problem, side["episode"], ids, first, {len(ids) - first - 1: target})
