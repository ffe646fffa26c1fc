"""Every protocol through the same recipe schema: demonstrations, supervised steps, real rollouts, real
updates, evaluation. One run, so that Ray and the engine start once.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from data.episodes.topology import critical_seconds, critical_tokens, total_tokens, width
from data.episodes.trajectory import Episode
from data.episodes.wire import read_episodes
from rl.evaluation.outcome_file import load_outcomes
from rl.tracking.metrics import read_metrics
from rollout.protocols import PROTOCOLS, default_params

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1100)]

LEARNED = {
    *("spawn_join", "parallel_paths", "outlined_threads", "async_fork", "plan_graph", "subtask_tree"),
    "outline_guided",
}
"""The model itself decides to fork: it has to learn the format first."""
ALIKE = {
    *(name for name in PROTOCOLS if name != "beam" and default_params(name).takes_scorer),
    "temporal_consistency",
}
"""Searches differ in a rule over scores, so `beam` stands for all, guided by the task's labels; and `rounds`
for judges that see what they said.
"""
TRAINED = [name for name in PROTOCOLS if name not in ALIKE]
SECONDS = 30.0
"""On the critical path that are charged 1, before the weight: more than a short episode takes."""
SFT = {
    "kind": "sft", "tokens_per_step": 1024, "forest_tokens": 512, "learning_rate": 4e-3, "optimizer": "muon",
    "warmup_steps": 3, "precision": "auto", "keep_engines": True, "demonstrations": 2000,
}  # fmt: skip
RL = {
    "kind": "rl", "steps": 2, "groups_per_step": 2, "samples_per_group": 4, "staleness": 1,
    "learning_rate": 1e-4, "warmup_steps": 0, "forest_tokens": 512, "drop_zero_variance": False,
    "rewards": [
        {"name": "correct", "correct": 1.0, "wrong": -0.5, "none": 0.0}, {"name": "format", "penalty": 0.2},
        # Costs differ from sample to sample: every group has signal.
        {"name": "critical_path"},
        {"name": "seconds", "scale": SECONDS, "weight": 0.5},
    ],
}  # fmt: skip


def stages() -> list[dict[str, Any]]:
    """Supervised, reinforcement and evaluation stage of every protocol, one curriculum."""
    made: list[dict[str, Any]] = []
    for name in TRAINED:
        protocol = {"name": name}
        steps = 80 if name in LEARNED else 20
        made.append({**SFT, "name": f"sft_{name}", "steps": steps, "protocol": protocol})
        made.append({**RL, "name": f"rl_{name}", "protocol": protocol})
        made.append(
            {
                "kind": "eval", "name": f"eval_{name}", "checkpoints": [f"rl_{name}"], "greedy": False,
                "bootstrap_samples": 100, "protocol": protocol,
            }
        )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def run(braid: Any, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all stages."""
    folder = tmp_path_factory.mktemp("protocols")
    small = [override for override in tiny if not override.startswith(("sft.", "rl.", "rewards"))]
    # Short searches: their structure is learned in seconds.
    short = ["task.params.max_first=3", "task.params.max_second=1", "task.test_problems=4"]
    overrides = [
        *small,
        *short,
        "model.max_length=2048",
        "scorer={labels: both}",
        f"stages={json.dumps(stages())}",
    ]
    command = braid.train("countdown_cpu", folder / "run", overrides)
    assert command.wait(800) == 0, command.output
    assert command.left_behind() == []
    return folder / "run"


def episodes(run: Path, name: str) -> list[Episode]:
    """What the protocol's reinforcement stage trained on."""
    paths = sorted((run / "stages" / f"rl_{name}" / "record").glob("*.episodes.jsonl.gz"))
    return [episode for path in paths for episode in read_episodes(path)]


@pytest.mark.parametrize("name", TRAINED)
def test_a_protocol_is_demonstrated_trained_and_evaluated(run: Path, name: str) -> None:
    # A stage goes on from the one before, which may have learned the same words already: then no falling loss
    # is asked for, but one far below that of a model that knows nothing.
    imitated = list(read_metrics(run / "metrics.jsonl", f"sft_{name}"))
    vocabulary = json.loads((run / "start" / "config.json").read_text())["vocab_size"]
    assert imitated[-1]["loss"] < max(imitated[0]["loss"], 0.5 * math.log(vocabulary))
    trained = episodes(run, name)
    assert len(trained) == 16 and {episode.protocol for episode in trained} == {name}
    steps = [row for row in read_metrics(run / "metrics.jsonl", f"rl_{name}") if row["step"] > 0]
    assert len(steps) == 2
    assert all(row["learner/trained_tokens"] > 0 and row["learner/updates"] > 0 for row in steps)
    assert all(row["staleness/max"] <= 1 for row in steps)
    assert any(width(episode) > 0 for episode in trained) or name == "sequential"
    for episode in trained:
        assert 0 < critical_tokens(episode) <= total_tokens(episode)
        for call in episode.calls:
            assert len(call.logprobs) == len(call.output) and call.num_trained <= len(call.output)
            assert call.finished_s >= call.started_s
    outcomes = load_outcomes(run / "stages" / f"eval_{name}" / f"rl_{name}.sampled.jsonl")
    assert len(outcomes) == 4
    for outcome in outcomes:
        assert 0 < outcome.critical_tokens <= outcome.total_tokens
        assert outcome.critical_seconds > 0


@pytest.mark.parametrize("name", TRAINED)
def test_measured_seconds_are_part_of_the_trained_reward(run: Path, name: str) -> None:
    scores: dict[str, Any] = {}
    for path in (run / "stages" / f"rl_{name}" / "record").glob("*.scores.json"):
        scores |= json.loads(path.read_text())["scores"]
    trained = episodes(run, name)
    charges = [scores[episode.id]["parts"]["seconds"] for episode in trained]
    measured = [critical_seconds(episode) for episode in trained]
    assert charges == pytest.approx([-0.5 * min(s / SECONDS, 1.0) for s in measured])
    assert len(set(charges)) > 1, "no two episodes take the same time"
    for episode in trained:
        score = scores[episode.id]
        assert score["reward"] == pytest.approx(sum(score["parts"].values()))


def test_every_protocol_is_an_arm_of_the_summary(run: Path) -> None:
    arms = json.loads((run / "summary.json").read_text())["arms"]
    assert set(arms) == set(TRAINED)
