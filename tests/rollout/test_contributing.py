"""The worked example of CONTRIBUTING.md runs as it stands there."""

import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extension_lab import restored_registries, second_opinion
from protocol_lab import WordEncoder, drive, ids, scripted

from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rl.config.extensions import load_extensions
from rollout.demonstrate import demonstrate
from rollout.protocols import PROTOCOLS

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture(params=["in the tree", "as an extension"])
def example(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Any, str]]:
    """The protocol's module, and the text of its test."""
    protocol, test = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    if request.param == "as an extension":
        with restored_registries():
            load_extensions([second_opinion(tmp_path)])
            yield sys.modules[PROTOCOLS["second_opinion"].__module__], test
        return
    module = types.ModuleType("second_opinion")
    # pydantic looks for a class's names in its module.
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(protocol, str(PAGE), "exec"), module.__dict__)
    yield module, test


def test_the_example_passes_its_own_test(example: tuple[Any, str]) -> None:
    module, test = example
    names = {"WordEncoder": WordEncoder, "drive": drive, "scripted": scripted, "ids": ids}
    exec(compile(test, str(PAGE), "exec"), {**module.__dict__, **names})


def test_the_example_demonstrates(example: tuple[Any, str]) -> None:
    module, _ = example
    protocol = module.SecondOpinion(module.SecondOpinionParams(name="second_opinion"), WordEncoder())
    node = SearchNode(move="5 6", message="5 6", trace="7", solution="8 9")
    episode = demonstrate(
        protocol,
        Prompt("1 2"),
        SearchTree(children=(node,), solution="8 9"),
        id="0",
        problem_id="p",
        max_length=500,
    )
    assert episode is not None and episode.answer_ids() == (8, 9)
    assert episode.context_ids(episode.calls[1]) == ids("<solo> 1 2 <found> 8 9 <think>")


def test_the_table_of_protocols_is_what_the_code_says() -> None:
    script = PAGE.parent / "scripts" / "protocol_table.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
