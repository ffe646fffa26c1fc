"""What a stage waited for, with shares worked out by hand."""

from typing import Any

import pytest

from rl.config.stages import RlStage
from rl.evaluation.bottleneck import advice, waiting_shares


def stage(**changes: Any) -> RlStage:
    return RlStage(
        **{
            "name": "rl", "kind": "rl", "steps": 4, "groups_per_step": 2, "samples_per_group": 2,
            "learning_rate": 1e-3, **changes,
        }
    )  # fmt: skip


def row(
    rollout: float, reward: float, learner: float, publish: float, validation: float = 0
) -> dict[str, float]:
    names = ("rollout_wait", "reward_wait", "learner", "publish", "validation_wait")
    values = (rollout, reward, learner, publish, validation)
    return {f"time/{name}_s": value for name, value in zip(names, values, strict=True)}


def test_shares_are_of_all_the_time_the_steps_took() -> None:
    found = waiting_shares([row(30, 0, 20, 0), row(10, 0, 20, 0)], 100.0)
    assert found == pytest.approx(
        {"rollout": 0.4, "reward": 0, "learner": 0.4, "publish": 0, "validation": 0, "other": 0.2}
    )
    # A clock that lost a moment must not make a negative share: 8 + 2 = 10 of 10.
    found = waiting_shares([row(8, 0, 2, 0)], 9.99)
    assert found == pytest.approx(
        {"rollout": 0.8, "reward": 0, "learner": 0.2, "publish": 0, "validation": 0, "other": 0}
    )
    assert set(waiting_shares([], 0.0).values()) == {0.0}


@pytest.mark.parametrize(
    ("measured", "changes", "said"),
    [
        (row(6, 0, 4, 0), {}, "rl.staleness: 1"),
        (row(6, 0, 4, 0), {"staleness": 1}, "engine.num_engines"),
        # One that hardly learns gains nothing from doing it at once.
        (row(9.5, 0, 0.5, 0), {}, "engine.num_engines"),
        (row(1, 0, 9, 0), {"staleness": 2}, "rl.num_ranks"),
        (row(1, 7, 2, 0), {}, "rl.reward_workers"),
        (row(1, 0, 2, 7), {}, "rl.lora"),
        (row(1, 0, 2, 2, 5), {}, "rl.validate_every"),
    ],
)
def test_the_advice_names_the_key_of_the_largest(
    measured: dict[str, float], changes: dict[str, int], said: str
) -> None:
    line = advice(waiting_shares([measured], 10.0), stage(**changes))
    assert line.startswith("rl waited for: ") and said in line


def test_the_line_begins_with_the_largest_share() -> None:
    line = advice(waiting_shares([row(1, 0, 9, 0)], 20.0), stage(staleness=1))
    assert "waited for: other 50%, learner 45%, rollout 5%" in line
