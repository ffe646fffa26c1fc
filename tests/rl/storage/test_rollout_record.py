"""A step's record is read whole or refused with one message."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from run_lab import Made, write_run

from data.errors import BraidError, ConfigError
from rewards.score import CallReward, StepReward
from rl.storage.implicit_version import ImplicitVersion
from rl.storage.rollout_record import RECORD, recorded_groups, recorded_implicit, write_step


@pytest.fixture
def record(tmp_path: Path) -> Path:
    made = Made(calls=1, tokens=3, rollout_s=1.0, wait_s=1.0, learner_s=1.0)
    return write_run(tmp_path, [made]) / "stages" / "rl" / RECORD


def test_groups_come_back_in_order_with_their_rewards(record: Path) -> None:
    groups = recorded_groups(record, 0)
    assert [len(group.episodes) for group in groups] == [2, 2]
    assert [group.index for group in groups] == sorted(group.index for group in groups)


def test_rewards_of_calls_and_steps_come_back(record: Path, tmp_path: Path) -> None:
    group = recorded_groups(record, 0)[0]
    first = replace(
        group.scores[0],
        calls=(CallReward(term="mine", call=0, value=0.1),),
        steps=(StepReward(term="mine", call=0, start=0, stop=2, value=1 / 3),),
    )
    given = replace(group, scores=(first, *group.scores[1:]))
    write_step(tmp_path / "again", 7, [given], {})
    (found,) = recorded_groups(tmp_path / "again", 7)
    assert found.scores[0].placed == first.placed and found.scores[1].placed == []
    assert found.rewards == group.rewards

    (path,) = (tmp_path / "again").glob("*.scores.json")
    path.write_text(path.read_text().replace('"mine",', "3,"))
    with pytest.raises(ConfigError, match=r"scores\.json: rewards of calls and steps are damaged"):
        recorded_groups(tmp_path / "again", 7)


def test_what_an_implicit_reward_model_needs_comes_back(record: Path, tmp_path: Path) -> None:
    group = recorded_groups(record, 0)[0]
    scores = tuple(replace(s, correct=known) for s, known in zip(group.scores, (True, None), strict=True))
    assert recorded_implicit(record, 0) is None
    version = ImplicitVersion(version=3, checksum=0xAB)
    assert ImplicitVersion.of_metrics(version.metrics()) == version
    write_step(tmp_path / "again", 7, [replace(group, scores=scores)], {}, version)
    (found,) = recorded_groups(tmp_path / "again", 7)
    assert [score.correct for score in found.scores] == [True, None]
    assert recorded_implicit(tmp_path / "again", 7) == {"version": 3, "checksum": "0000000000ab"}
    (path,) = (tmp_path / "again").glob("*.scores.json")
    path.write_text(path.read_text().replace('"correct":true', '"correct":3').replace("true", "3"))
    with pytest.raises(ConfigError, match=r"scores\.json: correct is 3, not true, false or null"):
        recorded_groups(tmp_path / "again", 7)


@pytest.mark.parametrize("content", ["", "[]", "3", '{"scores": []}', '{"scores": {}}', "[" * 100_000])
def test_damaged_scores_are_one_message(record: Path, content: str) -> None:
    (path,) = record.glob("*.scores.json")
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"scores\.json: [^\n]*\n  fix: restore the file"):
        recorded_groups(record, 0)


def test_a_reward_of_another_type_is_one_message(record: Path) -> None:
    (path,) = record.glob("*.scores.json")
    content = json.loads(path.read_text())
    for score in content["scores"].values():
        score["reward"] = "high"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="has no reward of episode"):
        recorded_groups(record, 0)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_episodes_are_one_message(record: Path, share: float) -> None:
    (path,) = record.glob("*.episodes.jsonl.gz")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BraidError, match=r"episodes\.jsonl\.gz"):
        recorded_groups(record, 0)
    path.write_bytes(gzip.compress(b"{}\n"))
    with pytest.raises(BraidError, match=r"episodes\.jsonl\.gz"):
        recorded_groups(record, 0)
