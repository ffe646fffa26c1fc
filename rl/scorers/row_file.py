"""File with the rows of a reward model, made once and read by all ranks: gzipped JSON Lines.

{"problem": "cd-9-4", "episode": "3/0", "held_out": false, "first": 5, "ids": [..], "targets": {"7": 1.0}}
"""

import gzip
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from data.forests.rows import TargetRow
from data.forests.split import first_fit, split_rows
from data.text.codec import Codec
from data.whole_file import json_line, whole_file
from rl.imitation.demonstrations import WINDOW, LeftOut
from rl.scorers.target_rows import JudgedCall


def write_rows(path: Path, calls: Iterable[tuple[JudgedCall, bool]]) -> None:
    """Writes calls, each with whether it is held out, whole or not at all. Equal calls give equal files."""
    with (
        whole_file(path) as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0, compresslevel=3) as file,
    ):
        for call, held_out in calls:
            line = {
                "problem": call.problem_id,
                "episode": call.episode_id,
                "held_out": held_out,
                "first": call.row.first,
                "ids": call.row.ids,
                "targets": {place: call.row.targets[place] for place in call.places},
            }
            file.write(json_line(line))


def read_rows(path: Path, *, held_out: bool) -> Iterator[JudgedCall]:
    """The calls that are held out, or those that are not, in the order of the file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            if line["held_out"] == held_out:
                targets = {int(place): target for place, target in line["targets"].items()}
                yield JudgedCall.of(
                    line["problem"], line["episode"], tuple(line["ids"]), line["first"], targets
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetRows:
    """The rows of a stage; equal fields give equal forests on every rank."""

    path: Path
    codec: Codec
    seed: int
    left_out: LeftOut = field(default_factory=LeftOut, compare=False)
    """Calls that do not fit into a forest, counted while forests are made."""

    def forests(self, tokens: int) -> Iterator[list[TargetRow]]:
        """Rows of each forest of the training calls, in random order within a window; at most `tokens`
        distinct tokens each. Calls of an episode stay together, because they share most of their tokens.
        """
        rng = random.Random(f"braid/targets/{self.seed}")
        calls = read_rows(self.path, held_out=False)
        while window := list(islice(calls, WINDOW)):
            parts = self._parts(window, tokens)
            rng.shuffle(parts)
            yield from first_fit(parts, tokens)

    def held_out(self) -> list[JudgedCall]:
        """The calls that are not trained on."""
        return list(read_rows(self.path, held_out=True))

    def _parts(self, calls: list[JudgedCall], tokens: int) -> list[list[TargetRow]]:
        """Rows of each episode, split where they exceed a forest."""
        of_episode: dict[tuple[str, str], list[TargetRow]] = {}
        for call in calls:
            if len(call.row) > tokens:
                self.left_out.calls += 1
            else:
                of_episode.setdefault((call.problem_id, call.episode_id), []).append(call.row)
        return [part for rows in of_episode.values() for part in split_rows(rows, tokens)]
