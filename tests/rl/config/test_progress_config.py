"""The term `progress` takes a protocol out of whose root an answer can be forced; rewards of blocks and steps
take a critic of tokens.
"""

from pathlib import Path

import pytest
from recipe_lab import SMALL, message, write

from rl.config import load_recipe

PROGRESS = "rewards=[{name: correct}, {name: progress, weight: 0.5, credit: %s}]"


def test_a_protocol_that_allows_it(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL), [PROGRESS % "joins"])
    plan = recipe.probes_of(recipe.stage("rl"))
    assert plan is not None and (plan.places, plan.answers) == ("joins", 4)
    plain = load_recipe(write(tmp_path, SMALL))
    assert plain.probes_of(plain.stage("rl")) is None


@pytest.mark.parametrize(
    ("protocol", "credit", "reason", "remedy"),
    [
        ("{name: self_consistency}", "trace", "the root of self_consistency does not think in one text",
         "fix: use sequential, spawn_join, async_fork, with their tags"),
        ("{name: sequential}", "joins", "sequential joins no threads", "fix: set credit: trace or blocks"),
        ("{name: sequential, answer: {kind: whole}}", "trace", "an answer of kind: whole has no beginning",
         "fix: use another kind in protocol.answer"),
    ],
)  # fmt: skip
def test_a_protocol_that_does_not(
    tmp_path: Path, protocol: str, credit: str, reason: str, remedy: str
) -> None:
    said = message(write(tmp_path, SMALL), "model.max_length=512", f"protocol={protocol}", PROGRESS % credit)
    assert "rewards = 'progress'" in said and reason in said and remedy in said


def test_a_verifier_has_time_for_the_forced_answers(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1 + 1?", "answer": "2"}\n')
    content = SMALL | {
        "task": {"name": "dataset", "params": {"train": {"file": str(rows)}}, "verifier": "math"},
        "model": {"kind": "pretrained", "path": "somewhere", "max_length": 256},
        "protocol": {"name": "sequential", "answer": {"kind": "boxed"}},
        "stages": [stage for stage in SMALL["stages"] if stage["kind"] == "rl"],
    }
    plain = load_recipe(write(tmp_path, content))
    probed = load_recipe(write(tmp_path, content), [PROGRESS % "trace"])
    verifier = plain.task.verifier
    assert verifier is not None
    more = probed.reward_seconds_of(probed.stage("rl")) - plain.reward_seconds_of(plain.stage("rl"))
    assert more == 4 * verifier.seconds


@pytest.mark.parametrize(
    ("term", "refused"),
    [
        ("{name: process}", True), ("{name: process, aggregate: join}", False),
        ("{name: progress, credit: blocks}", True), ("{name: progress}", False),
    ],
)  # fmt: skip
def test_a_critic_of_calls_takes_no_rewards_inside_calls(tmp_path: Path, term: str, refused: bool) -> None:
    given = (
        "rl.drop_zero_variance=false", "rl.algorithm={name: ppo, critic: {level: call}}",
        f"rewards=[{{name: correct}}, {term}]",
    )  # fmt: skip
    if not refused:
        load_recipe(write(tmp_path, SMALL), given)
        return
    said = message(write(tmp_path, SMALL), *given)
    assert "rl.algorithm.critic.level = 'call': credits calls as a whole, and pro" in said
    assert "rewards steps inside them" in said and "fix: use level: token" in said
