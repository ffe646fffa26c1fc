"""Rejection sampling as stages of a recipe: engines sample, rewards judge, the best are imitated."""

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
from data.episodes.wire import read_episodes
from data.errors import EngineError
from data.ledger.ledger import Ledger
from data.tasks.parts import Parts
from data.tasks.problem import Problem
from data.text.codec import Codec
from rewards.actor import RewardWorker
from rl.config import Recipe, load_recipe
from rl.config.codec import make_codec
from rl.config.stages import EvalStage, SftStage
from rl.evaluation.outcome_file import load_outcomes, read_contents
from rl.imitation.demonstrations import DemonstrationSource
from rl.imitation.recorded_episodes import RecordedEpisodes
from rl.problems import make_problems
from rl.runtime.services import Factories, Services, Site
from rl.stages.context import RunContext
from rl.stages.evaluate import run_eval
from rl.stages.sft import row_source
from rl.storage.checksums import write_checksums
from rl.storage.run_directory import RunDirectory
from rollout.demonstrate import demonstrate
from rollout.engines.scripted import ScriptedEngine
from rollout.protocols import build_protocol
from rollout.runner import EpisodeSpec, run_episode

RECIPE: dict[str, Any] = {
    "name": "rejection",
    "task": {"name": "parts", "train_problems": 12, "validation_problems": 4, "test_problems": 4},
    "model": {
        "kind": "scratch", "hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2,
        "head_dim": 32, "intermediate_size": 128, "max_length": 256, "numbers": 60,
    },
    "protocol": {"name": "spawn_join"},
    "rewards": [{"name": "correct"}],
    "stages": [
        {"name": "sft", "kind": "sft", "steps": 60, "tokens_per_step": 1024, "forest_tokens": 128,
         "learning_rate": 0.01, "demonstrations": 100},
        {"name": "sample", "kind": "eval", "checkpoints": ["sft"], "split": "train", "problems": 10,
         "samples": 3, "greedy": False, "keep_episodes": None},
        {"name": "best", "kind": "sft", "steps": 60, "tokens_per_step": 1024, "forest_tokens": 128,
         "learning_rate": 0.01, "source": {"kind": "recorded", "stages": ["sample"], "max_per_problem": 1}},
        {"name": "eval", "kind": "eval", "checkpoints": ["sft", "best"]},
    ],
}  # fmt: skip


class ScriptedEngines:
    """Engines whose third sample of every problem is wrong, and the second one says more than it must."""

    def __init__(self, task: Parts, codec: Codec, problems: Sequence[Problem]) -> None:
        self._task, self._codec = task, codec
        self._problems = {problem.id: problem for problem in problems}
        self.loaded: list[str] = []
        self.free = asyncio.Semaphore(4)
        self.sampled: list[str] = []
        """Ids of the episodes, in order."""
        self.dies_after: int | None = None

    def use_scorer(self, scorer: object | None) -> None:
        assert scorer is None, "no protocol here asks one"

    async def load(self, model_dir: Path, version: int) -> None:
        self.loaded.append(model_dir.parent.name)

    async def run_group(self, params: Any, specs: Sequence[EpisodeSpec]) -> tuple[list[Episode], Any]:
        async with self.free:
            return await self._run(params, specs)

    async def _run(self, params: Any, specs: Sequence[EpisodeSpec]) -> tuple[list[Episode], Any]:
        protocol, codec = build_protocol(params, self._codec), self._codec
        episodes = []
        for work in specs:
            if len(self.sampled) == self.dies_after:
                raise EngineError("the engine died")
            self.sampled.append(work.id)
            tree = self._task.search(self._problems[work.problem_id], random.Random(0))
            if work.id.endswith("/2"):
                tree = replace(tree, solution=str(int(tree.solution or 0) % 60 + 1))
            if work.id.endswith("/1"):
                tree = replace(tree, conclusion=f"{tree.conclusion} = {tree.solution}")
            demo = demonstrate(
                protocol, work.prompt, tree, id="d", problem_id=work.problem_id, max_length=256
            )
            assert demo is not None
            said = {demo.context_ids(call): call.output for call in demo.calls}
            engine = ScriptedEngine(lambda context, seed, said=said: said[context], max_length=256)
            episodes.append(await run_episode(engine, protocol, work))
        assert codec.eos in episodes[0].calls[-1].output
        return episodes, episodes


class InlineRewards:
    """A reward worker in this process."""

    report: Any = None

    def __init__(self, worker: RewardWorker) -> None:
        self._worker = worker

    async def score(self, problem: Problem, episodes: Sequence[Episode], reference: Any) -> list[Any]:
        return list(self._worker.score_group(problem, episodes))


def a_run(tmp_path: Path) -> tuple[Recipe, RunContext, ScriptedEngines]:
    """A run directory in which `sft` is trained."""
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    recipe = load_recipe(path)
    directory = RunDirectory(tmp_path / "run")
    make_codec(recipe).save(directory.start)
    model = directory.stage("sft") / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    write_checksums(model)
    accounting = SimpleNamespace(seconds=1.0, memory=SimpleNamespace(peak_gb=1.0))
    ledger = Ledger.open(directory.ledger)
    context = RunContext(recipe, directory, accounting, ledger, None)  # type: ignore[arg-type]
    worker = RewardWorker(recipe.rewards, recipe.task.params, directory.start)
    task = context.task(recipe.stage("sft"))
    assert isinstance(task, Parts)
    engines = ScriptedEngines(task, context.codec, make_problems(task, recipe.task, "train"))

    async def start_engines(site: Site) -> Any:
        return engines

    factories = Factories(engines=start_engines, rewards=lambda site, stage: InlineRewards(worker))
    context.services = Services(recipe, directory, None, ledger, factories)  # type: ignore[arg-type]
    return recipe, context, engines


def test_rejection_sampling_as_stages_of_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, context, engines = a_run(tmp_path)
    sample, best = recipe.stage("sample"), recipe.stage("best")
    assert isinstance(sample, EvalStage) and isinstance(best, SftStage)
    asyncio.run(run_eval(context, sample))
    assert engines.loaded == ["sft"]
    folder = context.directory.stage("sample")
    summary = json.loads((folder / "summary.json").read_text())
    measures = summary["arms"]["spawn_join"]["sft"]
    assert (measures["problems"], round(measures["accuracy"], 3)) == (10, 0.667)
    assert not (context.directory.path / "summary.json").exists()
    assert len(list(read_episodes(folder / "sft.sampled.episodes.jsonl.gz"))) == 30

    source = row_source(context, best)
    assert "best: 10 of 30 recorded episodes are imitated (10 wrong, 10 surplus)" in capsys.readouterr().out
    assert isinstance(source, RecordedEpisodes)
    (episodes,) = source.windows()
    trained = {problem.id: problem for problem in context.problems(best, "train")[:10]}
    assert {episode.problem_id for episode in episodes} == trained.keys()
    for episode in episodes:
        answer = context.codec.decode(episode.answer_ids() or ())
        assert context.task(best).check(trained[episode.problem_id], answer)
    assert {episode.id.split("/")[1] for episode in episodes} == {"0", "1"}
    assert list(source.forests(best.forest_tokens))
    # What is imitated is decided once, also for a resume.
    (folder / "sft.sampled.episodes.jsonl.gz").unlink()
    assert list(row_source(context, best).windows()) == [episodes]


@pytest.mark.medium
def test_an_evaluation_that_fails_goes_on_from_the_episodes_it_has(tmp_path: Path) -> None:
    figures = []
    for name, dies_after in (("undisturbed", None), ("interrupted", 17)):
        (tmp_path / name).mkdir()
        recipe, context, engines = a_run(tmp_path / name)
        stage = recipe.stage("sample")
        assert isinstance(stage, EvalStage)
        engines.dies_after = dies_after
        path = context.directory.stage("sample") / "sft.sampled.jsonl"
        kept = 0
        if dies_after is not None:
            with pytest.raises(EngineError):
                asyncio.run(run_eval(context, stage))
            kept = len(read_contents(path).outcomes)
            # Four at once: only those are lost.
            assert 17 - 4 <= kept <= 17
            engines.dies_after = None
            engines.sampled.clear()
            engines.free = asyncio.Semaphore(4)
        asyncio.run(run_eval(context, stage))
        assert len(engines.sampled) == len(set(engines.sampled)) == 30 - kept
        asyncio.run(run_eval(context, stage))
        assert len(engines.sampled) == 30 - kept
        folder = path.parent
        outcomes = load_outcomes(path)
        episodes = [episode.id for episode in read_episodes(folder / "sft.sampled.episodes.jsonl.gz")]
        summary = json.loads((folder / "summary.json").read_text())
        summary["arms"]["spawn_join"]["sft"].pop("critical_seconds")
        del summary["seeds"]
        figures.append(([replace(outcome, critical_seconds=0.0) for outcome in outcomes], episodes, summary))
    assert figures[0] == figures[1]


def test_the_solver_is_the_default(tmp_path: Path) -> None:
    recipe, context, _ = a_run(tmp_path)
    stage = recipe.stage("sft")
    assert isinstance(stage, SftStage)
    source = row_source(context, stage)
    assert isinstance(source, DemonstrationSource)
    assert sum(len(window) for window in source.windows()) == 100


def test_a_tokenizer_has_the_words_of_every_stages_task(tmp_path: Path) -> None:
    content = {**RECIPE, "stages": [{**RECIPE["stages"][0], "task": {"name": "countdown"}}]}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content))
    codec = make_codec(load_recipe(tmp_path / "r.yaml"))
    assert codec.decode(codec.encode("A = 3 / 4 X . <spawn>")) == "A = 3 / 4 X . <spawn>"
