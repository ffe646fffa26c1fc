"""Reward models that a run trained on its own episodes."""

import json
import math
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from data.episodes.topology import probe_tokens, total_tokens
from data.episodes.wire import read_episodes
from data.tasks.registry import build_task
from data.text.codec import load_codec
from rewards.process.progress import progress
from rewards.terms.progress import answers_of
from rewards.verifiers.verdict import Judge
from rl.config import load_recipe
from rl.problems import make_problems
from rl.scorers.held_out import read_held_out, report
from rl.scorers.label_file import episode_digest, read_labels
from rl.scorers.pair_file import read_pairs
from rl.scorers.row_file import read_rows
from rl.stages.reward_model import is_held_out
from rl.tracking.metrics import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def folder(run: Path, name: str) -> Path:
    return run / "stages" / name


@pytest.mark.parametrize("name", ["prm", "orm", "paired"])
def test_figures_are_of_problems_that_it_was_not_trained_on(stale: Path, name: str) -> None:
    path = folder(stale, name)
    trained = {call.problem_id for call in read_rows(path / "targets.jsonl.gz", held_out=False)}
    held_out = list(read_rows(path / "targets.jsonl.gz", held_out=True))
    assert trained and held_out and not trained & {call.problem_id for call in held_out}
    assert all(is_held_out(call.problem_id, 30, 1) for call in held_out)
    scored = list(read_held_out(path / "held_out.jsonl"))
    assert [each.problem for each in scored] == [call.problem_id for call in held_out]
    assert all(0 < score < 1 for each in scored for score in each.scores)
    found: dict[str, Any] = json.loads((path / "held_out.json").read_text())
    assert found == json.loads(json.dumps(report(scored)))
    assert json.loads((path / "done.json").read_text())["held_out"] == found


def test_it_learns_the_labels(stale: Path) -> None:
    rows = list(read_metrics(stale / "metrics.jsonl", "prm"))
    assert [row["step"] for row in rows] == list(range(1, 7))
    assert rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3), "an untrained head gives everything 1/2"
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_its_weights_are_a_token_classifier_that_gives_the_recorded_scores(stale: Path) -> None:
    path = folder(stale, "prm")
    model = AutoModelForTokenClassification.from_pretrained(path / "model").eval()
    assert len(AutoTokenizer.from_pretrained(path / "model")) <= model.config.vocab_size
    calls = list(read_rows(path / "targets.jsonl.gz", held_out=True))[:5]
    for call, scored in zip(calls, read_held_out(path / "held_out.jsonl"), strict=False):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([call.row.ids])).logits[0]
        places = [call.row.first + place for place in call.places]
        assert logits.softmax(-1)[places, 1].tolist() == pytest.approx(list(scored.scores), abs=1e-5)


@pytest.mark.parametrize("name", ["orm", "paired"])
def test_a_model_of_whole_answers_has_one_number_and_gives_the_recorded_scores(
    stale: Path, name: str
) -> None:
    path = folder(stale, name)
    model = AutoModelForSequenceClassification.from_pretrained(path / "model").eval()
    assert model.config.num_labels == 1
    assert (path / "model" / "adapter.safetensors").exists() == (name == "orm"), "adapters are merged"
    calls = list(read_rows(path / "targets.jsonl.gz", held_out=True))
    for call, scored in zip(calls[:5], read_held_out(path / "held_out.jsonl"), strict=False):
        with torch.no_grad():
            reward = model(input_ids=torch.tensor([call.row.ids])).logits[0]
        assert reward.sigmoid().tolist() == pytest.approx(list(scored.scores), abs=1e-5)


def test_pairs_of_a_file_are_learned_and_those_of_some_prompts_are_held_out(stale: Path) -> None:
    path = folder(stale, "paired") / "pairs.jsonl.gz"
    trained, held_out = (list(read_pairs(path, held_out=which)) for which in (False, True))
    assert len(trained) + len(held_out) == 25 and len(held_out) > 3
    assert not {pair.problem for pair in trained} & {pair.problem for pair in held_out}
    assert {round(10 * pair.margin) for pair in trained} == {1, 2, 3, 4, 5}
    found = json.loads((folder(stale, "paired") / "held_out.json").read_text())
    assert found["targets"] == 2 * len(held_out) and 0 <= found["pairs"] <= 1
    rows = list(read_metrics(stale / "metrics.jsonl", "paired"))
    # A head of zeros: -log sigmoid(-margin), on average over the pairs of the first forest.
    losses = [math.log1p(math.exp(pair.margin)) for pair in trained]
    assert min(losses) <= rows[0]["loss"] <= max(losses) and rows[1]["loss"] != rows[0]["loss"]


def test_the_policy_is_not_touched(stale: Path) -> None:
    before = json.loads((folder(stale, "everything") / "model" / "config.json").read_text())
    assert before["architectures"] == ["Qwen3ForCausalLM"]
    after = json.loads((folder(stale, "prm") / "model" / "config.json").read_text())
    assert after["architectures"] == ["Qwen3ForTokenClassification"]
    assert after["id2label"] == {"0": "wrong", "1": "right"}


def test_a_stage_is_rewarded_by_what_it_says_and_is_replayed_to_the_bit(stale: Path) -> None:
    rows = [row for row in read_metrics(stale / "metrics.jsonl", "guided") if row["step"] > 0]
    assert [row["step"] for row in rows] == [1, 2]
    # An episode without a line has no opinion; one on which the scorer failed would be ungraded.
    assert all(0 < row["scorer/mean"] < 1 and row["scorer/missing"] < 12 for row in rows)
    assert all(row["reward/ungraded"] == 0 and row["learner/updates"] > 0 for row in rows)
    model = AutoModelForTokenClassification.from_pretrained(folder(stale, "prm") / "model").eval()
    record = folder(stale, "guided") / "record"
    scores = json.loads((record / "step-000000.scores.json").read_text())["scores"]
    for episode in read_episodes(record / "step-000000.episodes.jsonl.gz"):
        placed = [row for row in scores[episode.id]["placed"] if row[0] == "process" and row[1] == 0]
        if placed:
            break
    call = episode.calls[0]
    ids = episode.context_ids(call) + call.output
    with torch.no_grad():
        right = model(input_ids=torch.tensor([ids])).logits[0].softmax(-1)[:, 1].tolist()
    said = [right[len(ids) - len(call.output) + stop - 1] for _, _, _, stop, _ in placed]
    steps = [0.5 * (after - before) for before, after in pairwise([1.0, *said])]
    assert [row[-1] for row in placed] == pytest.approx(steps, abs=1e-5) and placed
    done = subprocess.run(
        [sys.executable, "-m", "rl.cli", "replay", stale, "--stage", "guided"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_answers_are_forced_out_of_a_stages_thoughts_and_paid(stale: Path) -> None:
    """In the same stage: its record has them, their tokens count, and what they show is the reward."""
    record, rows = folder(stale, "guided") / "record", read_metrics(stale / "metrics.jsonl", "guided")
    scores = json.loads((record / "step-000000.scores.json").read_text())["scores"]
    recipe = load_recipe(stale / "recipe.json")
    task = build_task(recipe.task.params)
    judge = Judge(task, load_codec(stale / "start"))
    problems = {each.id: each for each in make_problems(task, recipe.task, "train")}
    made = list(read_episodes(record / "step-000000.episodes.jsonl.gz"))
    for episode in made:
        assert episode.probes and all(not probe.call.num_trained for probe in episode.probes)
        assert len({probe.call.seed for probe in episode.probes}) == len(episode.probes)
        found = judge.judge_probes(problems[episode.problem_id], episode)
        places = answers_of(episode, [each.verdict for each in found])
        gained = {
            (place.call, place.stop): 0.5 * value
            for place, value in zip(places[1:], progress(places), strict=True)
            if place.stop
        }
        told = scores[episode.id]["placed"]
        blocks = {
            (call, stop): value for term, call, start, stop, value in told if term == "progress" and stop
        }
        assert blocks == gained
    probes = sum(probe_tokens(episode) for episode in made)
    row = next(row for row in rows if row["step"] == 1)
    assert row["tokens/probes"] == probes > 0
    assert row["tokens/sampled"] == probes + sum(map(total_tokens, made))
    with closing(sqlite3.connect(stale / "ledger.sqlite")) as ledger:
        (held,) = ledger.execute(
            "SELECT SUM(output_tokens) FROM calls JOIN groups USING (group_id) "
            "WHERE stage = 'guided' AND step = 0 AND role = 'probe'"
        ).fetchone()
    assert held == probes
    assert 0 <= row["probes/regret"] <= 1 and 0 <= row["probes/answered"] <= 1
    assert any("answers forced at" in score["reason"] for score in scores.values())


def test_steps_are_completed_from_a_forking_record_and_learned(stale: Path) -> None:
    rows = read_labels(folder(stale, "mc") / "labels.jsonl")
    done = json.loads((folder(stale, "mc") / "done.json").read_text())
    episodes = {
        episode_digest(episode): episode
        for file in sorted((folder(stale, "rl") / "record").glob("*.episodes.jsonl.gz"))
        for episode in read_episodes(file)
    }
    assert len({row.episode for row in rows}) <= 12
    for row in rows:
        call = episodes[row.episode].calls[row.call]
        assert row.ids == episodes[row.episode].context_ids(call) + call.output
        assert row.stops == tuple(sorted(set(row.stops))) and row.stops[-1] <= len(call.output)
        labelled = row.labels[:-1] if row.cut_off else row.labels
        assert all(label in (0.0, 0.5, 1.0) for label in labelled)
    assert (
        done["prefixes"] == done["labelled"] == sum(label is not None for row in rows for label in row.labels)
    )
    assert done["cached"] > 0.3 * done["prompt"], "steps of a call share their prefix"
    noise = json.loads((folder(stale, "mc") / "noise.json").read_text())
    assert set(noise["valid"]["by_completions"]) == {"1", "2"}
    targets = [
        each for which in (False, True)
        for each in read_rows(folder(stale, "learned") / "targets.jsonl.gz", held_out=which)
    ]  # fmt: skip
    assert sorted(each.row.ids for each in targets) == sorted(row.ids for row in rows if row.is_labelled)
