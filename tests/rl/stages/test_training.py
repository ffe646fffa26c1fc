"""Whole trainings with real Ray, vLLM and TRL: what the staleness bound promises. That two runs of one seed
are the same is in test_resume and test_chaos, where one of them is even disturbed.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pickles import pickles

from data.episodes.trajectory import Episode
from data.episodes.wire import read_episodes
from data.tasks.problem import load_problems
from data.tasks.sampler import ProblemSampler
from rl.seeds import purpose_seed
from rl.tracking.metrics import read_metrics, strip_time

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def stage_of(run: Path, name: str) -> dict[str, Any]:
    stages = json.loads((run / "recipe.json").read_text())["stages"]
    return next(stage for stage in stages if stage["name"] == name)


def metrics(run: Path, stage: str | None = None) -> list[dict[str, Any]]:
    return [strip_time(record) for record in read_metrics(run / "metrics.jsonl", stage)]


def weights(run: Path, stage: str) -> bytes:
    return (run / "stages" / stage / "model" / "model.safetensors").read_bytes()


def record(run: Path, stage: str) -> Iterator[tuple[int, list[Episode], dict[str, Any]]]:
    """Each step with its episodes, in the order they were trained, and their scores."""
    folder = run / "stages" / stage / "record"
    for step in range(stage_of(run, stage)["steps"]):
        scores = json.loads((folder / f"step-{step:06d}.scores.json").read_text())["scores"]
        yield step, list(read_episodes(folder / f"step-{step:06d}.episodes.jsonl.gz")), scores


def groups_of(episodes: list[Episode]) -> list[int]:
    """Group numbers in the order they were trained."""
    return list(dict.fromkeys(int(episode.id.split("/")[0]) for episode in episodes))


def test_a_finished_run_holds_no_pickle_and_a_line_for_every_update(reference: Path) -> None:
    assert pickles(reference) == []
    assert [row["step"] for row in metrics(reference, "sft")] == list(range(1, 61))


def test_another_seed_gives_another_run(reference: Path, stale: Path) -> None:
    """The same weights to begin with, the same stage: only the seed differs."""
    # A pretrained model would take all cores: the fixture says 1, which is what a model from scratch has.
    assert stage_of(reference, "rl") | {"threads": 1} == stage_of(stale, "rl")
    assert (stale / "start" / "model.safetensors").read_bytes() == weights(reference, "sft")
    assert metrics(reference, "rl") != metrics(stale, "rl")
    assert weights(reference, "rl") != weights(stale, "rl")


@pytest.mark.parametrize("stage", ["rl", "ahead", "everything"])
def test_no_trained_token_is_older_than_the_bound(stale: Path, stage: str) -> None:
    bound = stage_of(stale, stage)["staleness"]
    lags: list[int] = []
    for step, episodes, _ in record(stale, stage):
        for episode in episodes:
            for call in episode.calls:
                assert sum(span.stop - span.start for span in call.versions) == len(call.output)
                lags += [step - span.version for span in call.versions for _ in range(span.start, span.stop)]
    assert len(lags) > 500
    assert 0 <= min(lags) <= max(lags) <= bound
    if bound:
        assert max(lags) > 0  # or the bound was not tested: rollouts must have run ahead
    reported = metrics(stale, stage)
    assert max(row.get("staleness/max", 0) for row in reported) == max(lags)


@pytest.mark.parametrize("stage", ["rl", "ahead", "everything"])
def test_groups_are_trained_once_each_in_the_order_of_the_sampler(stale: Path, stage: str) -> None:
    settings = stage_of(stale, stage)
    seed = json.loads((stale / "recipe.json").read_text())["seed"]
    problems = load_problems(stale / "problems" / "train.jsonl")
    sampler = ProblemSampler(len(problems), purpose_seed(seed, stage))
    trained: list[int] = []
    with_signal = []
    for _, episodes, scores in record(stale, stage):
        groups = groups_of(episodes)
        assert len(groups) == settings["groups_per_step"]
        trained += groups
        for group in groups:
            members = [episode for episode in episodes if episode.id.startswith(f"{group}/")]
            assert [episode.id for episode in members] == [
                f"{group}/{sample}" for sample in range(settings["samples_per_group"])
            ]
            assert {episode.problem_id for episode in members} == {problems[sampler.problem_at(group)].id}
            with_signal.append(len({scores[episode.id]["reward"] for episode in members} - {None}) > 1)
    assert all(before < after for before, after in pairwise(trained))
    if settings["drop_zero_variance"]:
        assert all(with_signal)
        left_out = sum(row.get("groups/filtered", 0) for row in metrics(stale, stage))
        # Groups filtered behind the last trained one are reported too: rollouts had run ahead.
        assert 0 < trained[-1] + 1 - len(trained) <= left_out
    else:
        assert trained == list(range(len(trained)))
        assert not all(with_signal)  # or there was nothing to leave out


def test_a_finished_run_is_not_done_again(reference: Path, braid: Any, tiny: tuple[str, ...]) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        found = {path: path.stat() for path in reference.rglob("*") if path.is_file()}
        return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in found.items()}

    before = state()
    assert "all stages are finished" in braid.complete(braid.train("countdown_cpu", reference, tiny))
    assert state() == before


def test_a_run_of_another_recipe_is_refused(reference: Path, braid: Any, tiny: tuple[str, ...]) -> None:
    before = sorted(reference.rglob("*"))
    command = braid.train("countdown_cpu", reference, (*tiny, "rl.steps=5"))
    assert command.wait() == 2
    assert "holds a run of another recipe" in command.output
    assert "rl.steps: 4 there, 5 here" in command.output
    assert "Traceback" not in command.output
    assert sorted(reference.rglob("*")) == before
