"""Demonstrations in exact text stand as the published texts do: the same white space around every tag."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from protocol_lab import PARTS
from tokenizer_lab import codec_of

from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.demonstrate import demonstrate
from rollout.protocols import PROTOCOLS, ThinkingProtocol, build_protocol
from rollout.published_text import flatten, unflatten
from rollout.transcript import read_transcript

FILES = sorted((Path(__file__).parents[2] / "golden" / "published").glob("*.yaml"))
CODEC = codec_of("gpt")
ALTERNATIVES = SearchTree(
    children=(
        SearchNode(
            move="Try 91.", message="", trace="Small divisors first.", solution="91",
            children=(
                SearchNode(move="By 3", message="", trace="9 + 1 = 10, so no."),
                SearchNode(move="By 7", message="", trace="7 * 13 = 91, so yes.", solution="91"),
            ),
        ),
        SearchNode(move="Try 97.", message="", trace="Nothing divides it."),
    ),
    solution="91",
)  # fmt: skip


def protocol_of(document: dict[str, Any]) -> ThinkingProtocol:
    section = {"name": document["protocol"], "framing": {"kind": "plain"}, **document["params"]}
    return build_protocol(
        PROTOCOLS[document["protocol"]].params_class.model_validate_json(json.dumps(section)), CODEC
    )


def around(text: str, tags: tuple[str, ...]) -> set[tuple[str, str | None, str]]:
    """Every tag with the white space in front of it (None: the text begins with it) and behind it."""
    found: set[tuple[str, str | None, str]] = set()
    for match in re.finditer("|".join(map(re.escape, tags)), text):
        before, behind = text[: match.start()], text[match.end() :]
        left = before[len(before.rstrip()) :] if before else None
        found.add((match.group(), left, behind[: len(behind) - len(behind.lstrip())]))
    return found


@pytest.mark.parametrize("tree", [PARTS, ALTERNATIVES], ids=["parts", "alternatives"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_white_space_of_a_demonstration_is_that_of_the_published_text(path: Path, tree: SearchTree) -> None:
    document = yaml.safe_load(path.read_text())
    protocol = protocol_of(document)
    demo = demonstrate(protocol, Prompt("9?"), tree, id="0", problem_id="p", max_length=4000)
    assert demo is not None
    text = flatten(demo, "9?", protocol, CODEC)
    tags = tuple(tag for tag in protocol.tags_of(protocol.params) if tag in document["text"])
    published = around(document["text"], tags)
    for tag, left, right in around(text, tags):
        assert any(
            tag == other and left in (None, before) and right == behind for other, before, behind in published
        ), f"{tag} with {left!r} and {right!r} in {text}"
    assert not re.search(r"[0-9]:(?! \S)", text)
    again = read_transcript(unflatten(text, protocol, prompt="9?"), protocol, CODEC)
    assert [call.output for call in again.calls] == [call.output for call in demo.calls]


def test_a_demonstration_of_threadweaver_written_out() -> None:
    document = yaml.safe_load(FILES[-1].read_text())
    protocol = protocol_of(document)
    demo = demonstrate(protocol, Prompt("9?"), PARTS, id="0", problem_id="p", max_length=4000)
    assert demo is not None
    assert flatten(demo, "9?", protocol, CODEC) == (
        "<think>\n<Parallel>\n<Outlines>\n<Outline>1: 3 4</Outline>\n<Outline>2: 9 1</Outline>\n</Outlines>\n"
        "<Thread>\n1: 7\n</Thread><Thread>\n2: 8\n</Thread>\n</Parallel>\n"
        "<Parallel>\n<Outlines>\n<Outline>1: 20</Outline>\n</Outlines>\n"
        "<Thread>\n1: 7 8 15 15\n</Thread>\n</Parallel>\n7 8 15 30\n</think>\n\n\\boxed{30}"
    )
    nothing = demonstrate(
        protocol, Prompt("9?"), SearchTree(children=(), solution="5"), id="0", problem_id="p", max_length=4000
    )
    assert nothing is not None
    assert flatten(nothing, "9?", protocol, CODEC) == "<think>\n\n</think>\n\n\\boxed{5}"
