"""A stage that labels steps: by completions of recorded searches, by agreement, and by a file."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from data.episodes.trajectory import Episode
from data.episodes.wire import write_episodes
from data.errors import ConfigError, EngineError
from data.ledger.ledger import Ledger
from data.steps.formats.files import read_steps, write_steps
from data.steps.step import StepKind
from data.tasks.countdown import Countdown
from data.text.codec import Codec
from rl.cli import main
from rl.config import load_recipe
from rl.config.codec import make_codec
from rl.config.stages import LabelStage, RewardModelStage
from rl.problems import make_problems
from rl.runtime.services import Factories, Services, Site
from rl.scorers.completion_file import CompletionFile
from rl.scorers.label_file import LabelRow, read_labels, unlabelled_rows, write_labels
from rl.scorers.row_file import TargetRows, read_rows
from rl.stages.context import RunContext
from rl.stages.label_steps import run_label_steps
from rl.stages.reward_model import label_calls
from rl.storage.checksums import write_checksums
from rl.storage.run_directory import RunDirectory
from rollout.demonstrate import demonstrate
from rollout.engines.base import EngineRequest, EngineResult, OnTokens
from rollout.engines.scripted import ScriptedEngine
from rollout.protocols import build_protocol
from rollout.runner import EpisodeSpec, run_episode

MC = {"kind": "monte_carlo", "completions": 4}
RECORDS = {"files": ["records.episodes.jsonl.gz"]}
LEARNED = {
    "steps": 4,
    "tokens_per_step": 1024,
    "forest_tokens": 512,
    "learning_rate": 0.01,
    "warmup_steps": 0,
}
RECIPE: dict[str, Any] = {
    "name": "labels",
    "task": {"name": "countdown", "train_problems": 100, "validation_problems": 4, "test_problems": 4},
    "model": {
        "kind": "scratch", "hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2,
        "head_dim": 32, "intermediate_size": 128, "max_length": 512,
    },
    "protocol": {"name": "sequential"},
    "rewards": [{"name": "correct"}],
    "stages": [
        {"name": "sft", "kind": "sft", **LEARNED, "demonstrations": 100},
        {"name": "mc", "kind": "label_steps", "source": RECORDS, "by": MC},
        {"name": "hard", "kind": "label_steps", "source": RECORDS, "by": {**MC, "estimate": "hard"}},
        {"name": "lost", "kind": "label_steps", "source": RECORDS, "by": {**MC, "search": "binary"}},
        {"name": "people", "kind": "label_steps", "source": RECORDS,
         "by": {"kind": "file", "path": "people.jsonl"}},
        {"name": "both", "kind": "label_steps", "by": {"kind": "consensus", "stages": ["hard", "people"]}},
        {"name": "prm", "kind": "reward_model", **LEARNED, "labels": "mc", "held_out_percent": 40},
    ],
}  # fmt: skip
LOST = 2
"""Step of every second recorded search behind which the engine never finds the answer again."""


class Engines:
    """Engines that go on with a recorded search as it was, or give up at once, as the seed says: where
    something was lost they always give up.
    """

    def __init__(self, codec: Codec, searches: Sequence[Episode], lost: dict[tuple[int, ...], int]) -> None:
        self._codec, self._lost = codec, lost
        self._texts = [each.context_ids(each.calls[0]) + each.calls[0].output for each in searches]
        self.loaded: list[str] = []
        self.asked: list[EngineRequest] = []
        self.dies_after: int | None = None
        self.free: asyncio.Semaphore

    def use_scorer(self, scorer: object | None) -> None:
        assert scorer is None, "no protocol here asks one"

    async def load(self, model_dir: Path, version: int) -> None:
        self.loaded.append(model_dir.parent.name)
        self.free = asyncio.Semaphore(3)

    async def close(self) -> None:
        """Nothing to end."""

    async def run_group(self, params: Any, specs: Sequence[EpisodeSpec]) -> tuple[list[Episode], Any]:
        protocol = build_protocol(params, self._codec)
        async with self.free:
            episodes = [await run_episode(self, protocol, each) for each in specs]
        return episodes, episodes

    max_length = 512

    def cancel(self, request_ids: Sequence[str]) -> None:
        raise AssertionError("a search is one call")

    async def generate(self, request: EngineRequest, on_tokens: OnTokens | None = None) -> EngineResult:
        if len(self.asked) == self.dies_after:
            raise EngineError("the engine died")
        self.asked.append(request)
        script = ScriptedEngine(self._say, max_length=self.max_length)
        return await script.generate(request)

    def _say(self, context: tuple[int, ...], seed: int) -> Sequence[int]:
        text = next(text for text in self._texts if text[: len(context)] == context)
        given_up = seed % 2 or len(context) >= self._lost.get(text, len(text))
        return (self._codec.eos,) if given_up else text[len(context) :]


class House:
    """A run whose `sft` is trained, with records of ten solved searches beside the recipe."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "r.yaml").write_text(yaml.safe_dump(RECIPE))
        self.recipe = load_recipe(folder / "r.yaml")
        self.directory = RunDirectory(folder / "run")
        codec = make_codec(self.recipe)
        codec.save(self.directory.start)
        model = self.directory.stage("sft") / "model"
        model.mkdir()
        (model / "config.json").write_text("{}")
        write_checksums(model)
        accounting = SimpleNamespace(seconds=1.0, memory=SimpleNamespace(peak_gb=1.0))
        ledger = Ledger.open(self.directory.ledger)
        self.context = RunContext(self.recipe, self.directory, accounting, ledger, None)  # type: ignore[arg-type]
        self.searches = self._record(folder / "records.episodes.jsonl.gz")
        texts = [each.context_ids(each.calls[0]) + each.calls[0].output for each in self.searches]
        self.engines = Engines(self.context.codec, self.searches, dict.fromkeys(texts[::2], 10**6))

        async def start(site: Site) -> Any:
            return self.engines

        factories = Factories(engines=start)
        self.context.services = Services(self.recipe, self.directory, None, ledger, factories)  # type: ignore[arg-type]
        self.lose(texts[::2])

    def _record(self, path: Path) -> list[Episode]:
        """Solved searches of several lines."""
        task = Countdown(self.recipe.task.params)  # type: ignore[arg-type]
        protocol = build_protocol(self.recipe.protocol, self.context.codec)
        found: list[Episode] = []
        for number, problem in enumerate(make_problems(task, self.recipe.task, "train")):
            tree = task.search(problem, random.Random(number))
            made = demonstrate(
                protocol, task.prompt(problem), tree, id=f"{number}/0", problem_id=problem.id, max_length=512
            )
            if made is not None and tree.solution is not None and 60 < len(made.calls[0].output) < 160:
                found.append(made)
        found = found[:10]
        write_episodes(path, found)
        return found

    def lose(self, texts: Sequence[tuple[int, ...]]) -> None:
        """Plants the loss behind step `LOST` of these searches."""
        problems = {each.id: each for each in self.context.problems(self.stage("mc"), "train")}
        for text, episode in zip(texts, self.searches[::2], strict=True):
            task, problem = self.context.task(self.stage("mc")), problems[episode.problem_id]
            (row,) = unlabelled_rows(task, problem, episode, self.context.codec, StepKind.LINE)
            self.engines._lost[text] = row.first + row.stops[LOST]

    def stage(self, name: str) -> LabelStage:
        found = self.recipe.stage(name)
        assert isinstance(found, LabelStage)
        return found

    def label(self, name: str) -> dict[str, Any]:
        return asyncio.run(run_label_steps(self.context, self.stage(name)))

    def rows(self, name: str) -> list[LabelRow]:
        return read_labels(self.directory.stage(name) / "labels.jsonl")

    def lost(self, row: LabelRow) -> bool:
        return row.ids in self.engines._lost


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    made = House(tmp_path_factory.mktemp("labels"))
    made.done = {"mc": made.label("mc"), "hard": made.label("hard")}  # type: ignore[attr-defined]
    return made


@pytest.mark.medium
def test_every_step_is_completed_from_the_recorded_ids(house: House) -> None:
    rows = house.rows("mc")
    assert len(rows) == 10 and house.engines.loaded == ["sft"] * 2
    asked = house.engines.asked[: sum(4 * len(row.steps) for row in rows)]
    behind = {row.ids[: row.first + stop] for row in rows for stop in row.stops}
    assert {request.prompt for request in asked} == behind
    assert len({request.seed for request in asked}) == len(asked), "every completion has a seed of its own"
    for row in rows:
        # Half of the seeds go on to the right answer, unless something was lost.
        end = LOST if house.lost(row) else len(row.steps)
        for place, (label, outcomes) in enumerate(zip(row.labels, row.outcomes, strict=True)):
            assert outcomes is not None and len(outcomes) == 4
            assert label == sum(outcomes) / 4
            # Behind the answer's own line there is nothing left to give up.
            assert place < end or place == len(row.steps) - 1 or label == 0
    values = [label for row in rows for label in row.labels[:LOST]]
    assert {0.25, 0.5, 0.75} <= set(values), "soft labels stay soft"


def test_hard_labels_say_whether_any_is_right(house: House) -> None:
    for row in house.rows("hard"):
        assert row.labels == tuple(float(any(outcomes or ())) for outcomes in row.outcomes)


def test_figures_against_the_truth(house: House) -> None:
    done = house.done["mc"]  # type: ignore[attr-defined]
    rows = house.rows("mc")
    assert done["steps"] == done["labelled"] == done["prefixes"] == sum(len(row.steps) for row in rows)
    assert done["cut_off"] == 0 and done["computed"] == done["prompt"] + done["sampled"]
    assert done["prompt"] == sum(4 * (row.first + stop) for row in rows for stop in row.stops)
    found = json.loads((house.directory.stage("mc") / "noise.json").read_text())["valid"]
    # The solver makes no mistake, so all that is called wrong is called so wrongly.
    wrong = sum(label < 0.5 for row in rows for label in row.labels if label is not None)
    assert found["steps"] == done["steps"] and found["false_positives"] is None
    assert found["false_negatives"]["share"] == pytest.approx(wrong / done["steps"])
    rates = [found["by_completions"][k]["any"]["false_negatives"]["share"] for k in ("1", "2", "4")]
    assert rates == sorted(rates, reverse=True) and rates[0] > rates[-1], "more completions miss less"


def test_the_search_probes_few_steps_and_none_of_a_right_answer(tmp_path: Path) -> None:
    house = House(tmp_path)
    wrong = [
        replace(each, answer=None if not place % 2 else each.answer)
        for place, each in enumerate(house.searches)
    ]
    write_episodes(tmp_path / "records.episodes.jsonl.gz", wrong)
    done = house.label("lost")
    rows = house.rows("lost")
    probed = [sum(outcomes is not None for outcomes in row.outcomes) for row in rows]
    assert done["prefixes"] == sum(probed)
    for row, probes in zip(rows, probed, strict=True):
        if row.answer_correct:
            assert probes == 0 and set(row.labels) == {1.0}
            continue
        first = row.labels.index(0.0)
        assert first <= LOST and probes <= len(row.steps).bit_length() + 1
        assert set(row.labels[first + 1 :]) == {None}
        assert all(label is not None and label > 0 for label in row.labels[:first])
    found = json.loads((house.directory.stage("lost") / "noise.json").read_text())
    assert found["valid"]["by_completions"] == {}


def test_a_stage_that_fails_goes_on_with_the_steps_that_are_missing(tmp_path: Path, house: House) -> None:
    again = House(tmp_path)
    again.engines.dies_after = 4 * 10 + 2
    with pytest.raises(EngineError):
        again.label("mc")
    folder = again.directory.stage("mc")
    assert not (folder / "labels.jsonl").exists()
    with (folder / "completions.jsonl").open("a") as file:
        file.write('{"id": "torn')
    with CompletionFile(folder / "completions.jsonl") as completions:
        kept = len(completions.all())
    assert 10 - 3 <= kept <= 10, "at most the steps in flight are lost"
    again.engines.dies_after, before = None, len(again.engines.asked)
    done = again.label("mc")
    assert done == house.done["mc"]  # type: ignore[attr-defined]
    assert len(again.engines.asked) - before == 4 * (done["prefixes"] - kept)
    expected = house.directory.stage("mc")
    for name in ("labels.jsonl", "noise.json"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes()


def test_people_and_agreement(house: House, tmp_path: Path) -> None:
    """People label eight of ten calls: four with the engines' first error, two with another one, two not at
    all.
    """
    file = Path(house.stage("people").by.path)  # type: ignore[union-attr]
    rows = house.rows("hard")
    given = []
    for place, row in enumerate(rows[:8]):
        labels: tuple[float | None, ...] = row.labels
        if place in (4, 5):
            labels = (0.0, *labels[1:]) if row.step_row.first_error != 0 else (1.0,) * len(labels)
        if place >= 6:
            labels = (None,) * len(labels)
        given.append(replace(row.step_row, labels=labels))
    write_steps(file, given, "trl")
    done = house.label("people")
    assert done["rows"] == 8
    done = house.label("both")
    assert (done["kept"], done["of"]) == (4, 8)
    assert [row.id for row in house.rows("both")] == [row.id for row in rows[:4]]
    for row, other in zip(house.rows("both"), rows, strict=False):
        assert row.step_row.first_error == other.step_row.first_error
        assert {label for label in row.labels if label is not None} <= {0.0, 1.0}
    write_steps(file, [replace(given[0], prompt="another")], "trl")
    with pytest.raises(ConfigError, match=r"people: no step has a label .*labels for 0 of 10 calls"):
        house.label("people")


def test_a_reward_model_learns_the_labels(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    stage = house.recipe.stage("prm")
    assert isinstance(stage, RewardModelStage)
    rows = TargetRows(
        path=house.directory.stage("prm") / "targets.jsonl.gz", codec=house.context.codec, seed=0
    )
    label_calls(house.context, stage, rows, None)
    trained, held_out = ([*read_rows(rows.path, held_out=which)] for which in (False, True))
    found = {call.row.ids: call for call in (*trained, *held_out)}
    assert trained and held_out and len(found) == 10
    for row in house.rows("mc"):
        call = found[row.ids]
        assert [call.row.targets[place] for place in call.places] == list(row.labels)
        assert call.places == [stop - 1 for stop in row.stops]
    assert "targets of" in capsys.readouterr().out


def test_other_programs_read_the_file(house: House) -> None:
    name, rows = read_steps(house.directory.stage("mc") / "labels.jsonl")
    assert name == "trl"
    assert [(row.steps, row.labels) for row in rows] == [(row.steps, row.labels) for row in house.rows("mc")]


def test_the_command_compares_a_file_with_the_truth(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = house.directory.stage("mc") / "labels.jsonl"
    assert main(["steps", str(path), "--truth"]) == 0
    said = capsys.readouterr().out
    assert "against the truth" in said and "4 completions, any" in said
    write_labels(tmp_path / "a.jsonl", [replace(row, truth=None) for row in house.rows("mc")])
    assert main(["steps", str(tmp_path / "a.jsonl"), "--truth"]) == 2
    assert "has no exact labels" in capsys.readouterr().err
