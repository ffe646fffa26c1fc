"""The outcomes file: rows that come in any order, kills, damage, and other settings."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from episodes import call, episode

from data.episodes.trajectory import Episode
from data.episodes.wire import read_episodes
from data.errors import ConfigError
from rewards.score import Score
from rl.evaluation.outcome_file import Key, OutcomeFile, episodes_file, load_outcomes
from rl.evaluation.outcomes import Outcome, outcome_of

KEYS: list[Key] = [("q", 0), ("q", 1), ("p", 0), ("p", 1)]
"""Problems in the order of a file, which need not be that of the alphabet."""
SETTING = {"weights": "1f", "samples": 2, "budgets": (1, 2)}


def made(key: Key, correct: bool | None = True, **changes: object) -> tuple[Outcome, Episode]:
    problem_id, sample = key
    done = replace(episode([call(0, 0, 3)]), id=f"{KEYS.index(key) // 2}/{sample}", problem_id=problem_id)
    return outcome_of(done, sample=sample, score=Score(value=None, correct=correct), **changes), done  # type: ignore[arg-type]


def opened(path: Path, setting: dict[str, object] = SETTING, keep: int | None = 3) -> OutcomeFile:
    return OutcomeFile(path, setting, KEYS, keep=keep)


def fill(path: Path, keys: list[Key]) -> None:
    with opened(path) as file:
        for key in keys:
            file.append(*made(key))


def test_the_complete_file_is_in_order_whatever_came_first(tmp_path: Path) -> None:
    one, other = tmp_path / "a.sampled.jsonl", tmp_path / "b.sampled.jsonl"
    for path, order in ((one, KEYS), (other, KEYS[::-1])):
        with opened(path) as file:
            assert file.missing() == KEYS and not file.complete
            for key in order:
                file.append(*made(key))
            assert file.finish() == [made(key)[0] for key in KEYS]
    assert load_outcomes(one) == [made(key)[0] for key in KEYS]
    assert one.read_bytes() == other.read_bytes()
    assert list(read_episodes(episodes_file(one))) == [made(key)[1] for key in KEYS[:3]]
    with opened(one) as file:
        assert file.complete and file.missing() == [] and file.warnings == []


def test_a_kill_loses_nothing_but_a_torn_last_row(tmp_path: Path) -> None:
    path = tmp_path / "a.sampled.jsonl"
    fill(path, KEYS[1:3])
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(ConfigError, match="holds 1 of 4 episodes"):
        load_outcomes(path)
    with opened(path) as file:
        assert file.missing() == [("q", 0), ("p", 0), ("p", 1)] and file.warnings == []
        for key in file.missing():
            file.append(*made(key))
        file.finish()
    assert len(load_outcomes(path)) == 4
    # What was kept whole before the kill is still there.
    assert [done.id for done in read_episodes(episodes_file(path))] == ["0/0", "0/1", "1/0"]


def test_good_rows_of_a_damaged_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.sampled.jsonl"
    fill(path, KEYS)
    lines = path.read_bytes().split(b"\n")
    # A digit of a figure has changed: still JSON, and still an outcome.
    damaged = lines[2].replace(b'"total_tokens": 3', b'"total_tokens": 8')
    assert damaged != lines[2]
    path.write_bytes(b"\n".join([*lines[:2], damaged, b"\xff\x00garbage", *lines[3:]]))
    with pytest.raises(ConfigError, match="line 3: not an evaluation outcome"):
        load_outcomes(path)
    with opened(path) as file:
        assert file.missing() == [("q", 1)]
        (warning,) = file.warnings
        assert "line 3, 4 cannot be read; 3 good rows are kept" in warning
        file.append(*made(("q", 1)))
        file.finish()
    assert (tmp_path / "damaged-a.sampled.jsonl").exists()
    assert load_outcomes(path) == [made(key)[0] for key in KEYS]


def test_rows_of_another_setting_are_never_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "a.sampled.jsonl"
    fill(path, KEYS)
    with opened(path, SETTING | {"weights": "2e", "split": "test"}) as file:
        assert file.missing() == KEYS
        assert "was made with other split, weights; renamed to other-a.sampled.jsonl" in file.warnings[0]
    with opened(tmp_path / "other-a.sampled.jsonl") as file:
        assert file.missing() == []


def test_what_could_not_be_graded_is_redone_and_the_last_row_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.sampled.jsonl"
    with opened(path) as file:
        for key in KEYS:
            file.append(*made(key, correct=None if key == ("p", 0) else True))
        file.finish()
    for attempts in (2, 3):
        with opened(path) as file:
            assert file.missing() == [("p", 0)] and file.attempts(("p", 0)) == attempts - 1
            file.append(*made(("p", 0), None, attempts=attempts))
            file.finish()
    with opened(path) as file:
        assert file.complete  # three runs are enough
    assert [outcome.correct for outcome in load_outcomes(path)] == [True, True, None, True]


def test_episodes_that_are_asked_for_and_lost_are_run_again(tmp_path: Path) -> None:
    path = tmp_path / "a.sampled.jsonl"
    with opened(path) as file:
        for key in KEYS:
            file.append(*made(key))
        file.finish()
    content = episodes_file(path).read_bytes()
    episodes_file(path).write_bytes(content[: len(content) // 2])
    with opened(path) as file:
        assert file.missing() == KEYS[:3]
        assert "its episodes are run again" in file.warnings[0]
    episodes_file(path).write_bytes(content)
    with opened(path, keep=None) as file:
        assert file.missing() == KEYS[3:]


def test_files_that_are_not_outcomes(tmp_path: Path) -> None:
    path = tmp_path / "a.sampled.jsonl"
    with pytest.raises(ConfigError, match="no such file"):
        load_outcomes(path)
    for content in ("", "5\n", json.dumps({"problem_id": "q"}) + "\n", "\n\n", "null"):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"a\.sampled\.jsonl"):
            load_outcomes(path)
        with opened(path) as file:
            assert file.missing() == KEYS
