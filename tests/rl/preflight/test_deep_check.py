"""`braid check --deep` passes Braid's own parts, and finds what is planted in an extension."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extension_lab import doubles, restored_registries, second_opinion
from recipe_lab import SMALL, write

from data.errors import ConfigError
from rl.config import load_recipe
from rl.preflight.deep_check import check_deeply

OWN: dict[str, Any] = {
    **SMALL,
    "extensions": ["doubles.py", "second_opinion.py"],
    "task": {"name": "doubles", "train_problems": 15, "validation_problems": 4, "test_problems": 8},
    "protocol": {"name": "second_opinion", "max_tokens": 60},
    "rewards": [{"name": "correct"}, {"name": "brevity", "free": 20}],
}


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with restored_registries():
        yield


def deep(folder: Path, content: dict[str, Any], **planted: tuple[str, str]) -> list[str]:
    """What the check finds, with `before -> after` planted in an extension."""
    for path in (doubles(folder), second_opinion(folder)):
        if path.stem in planted:
            before, after = planted[path.stem]
            assert before in path.read_text()
            path.write_text(path.read_text().replace(before, after))
    return [f"{result.about}: {result.found}" for result in check_deeply(load_recipe(write(folder, content)))]


@pytest.mark.medium
def test_extensions_that_keep_every_promise(tmp_path: Path) -> None:
    assert deep(tmp_path, OWN) == [
        "sft: second_opinion: 60 episodes of random tokens end within every budget",
        "sft: second_opinion: 15 of 15 searches are demonstrated, right, and read back",
        "sft: rewards: correct, brevity: finite on 75 episodes",
        "processes: the recipe is the same in another process",
    ]


GROUP = """async def score_group(self, judged):
        return [self.alone(each) for each in judged]

    def alone(self, judged: Judged) -> Score:"""


@pytest.mark.medium
def test_a_term_that_grades_a_group_is_tried_too(tmp_path: Path) -> None:
    found = deep(tmp_path, OWN, doubles=("def __call__(self, judged: Judged) -> Score:", GROUP))
    assert found[2] == "sft: rewards: correct, brevity: finite on 75 episodes"


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["sequential", "spawn_join", "rounds", "best_of_n"])
def test_braids_own_parts(tmp_path: Path, protocol: str) -> None:
    rewards = [{"name": name} for name in ("correct", "format", "critical_path", "parallelism", "overlong")]
    content = {
        **SMALL, "protocol": {"name": protocol}, "rewards": rewards,
        "model": {**SMALL["model"], "max_length": 1024},
    }  # fmt: skip
    assert len(deep(tmp_path, content)) == 4


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        (
            {"second_opinion": ("return end\n        seen", "return self.open(thread.prompt)\n        seen")},
            "protocol.name = 'second_opinion': an episode of random tokens",
        ),
        (
            {"second_opinion": ("self.say(*solo_words(tree, self.answer), EOS)", 'self.say("<found>", EOS)')},
            "demonstrates none of 15 searches",
        ),
        (
            {"doubles": ("answer = f\"{number} + {number}\", str(2 * number)",
                         "answer = f\"{number} + {number}\", str(3 * number)")},
            "the task's check refuses its answer",
        ),
        ({"doubles": ("-0.01 * max", "float('nan') * max")}, "rewards.brevity = 'brevity': an episode of"),
        ({"doubles": ('components={"brevity": value}', "components={}")}, "its components are {}"),
        ({"doubles": ("-0.01 * max", "random.random() * max")}, "it is not the same twice"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(tmp_path: Path, planted: dict[str, tuple[str, str]], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        deep(tmp_path, OWN, **planted)
    assert told in str(caught.value) and "fix: correct the extension" in str(caught.value)
