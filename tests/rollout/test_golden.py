"""Worked examples of every published format: what was said becomes the DAG, its cost and its violations.

A file of tests/golden is a transcript (rollout.transcript) and what it must read as:
    params      recipe keys of the protocol, without its name
    answer      text, or null
    metrics     total_tokens, critical_tokens, width, depth
    violations  kinds, or {kind, call, position} where the place matters
    outcome     the root's, "returned" when left out
    flat        the published flat text that the same episode stands for, where there is one
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from protocol_lab import WordEncoder, text

from data.episodes.topology import critical_tokens, depth, total_tokens, width
from data.episodes.trajectory import Episode, StopReason
from rollout.commands import CallResult, Command
from rollout.machine import EpisodeMachine
from rollout.protocols import PROTOCOLS, ThinkingProtocol
from rollout.published_text import unflatten
from rollout.transcript import load_transcript, read_transcript

GOLDEN = sorted((Path(__file__).parent.parent / "golden").glob("*.yaml"))


def protocol_of(document: dict[str, Any]) -> ThinkingProtocol:
    name = document["protocol"]
    params = json.dumps({"name": name, **(document.get("params") or {})})
    return PROTOCOLS[name](PROTOCOLS[name].params_class.model_validate_json(params), WordEncoder())


def read(path: Path) -> tuple[dict[str, Any], ThinkingProtocol, Episode]:
    document = yaml.safe_load(path.read_text())
    protocol = protocol_of(document)
    transcript = load_transcript(path.read_text())
    return document, protocol, read_transcript(transcript, protocol, WordEncoder())


def test_every_protocol_has_a_worked_example() -> None:
    assert {yaml.safe_load(path.read_text())["protocol"] for path in GOLDEN} >= PROTOCOLS.keys()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_worked_example_reads_as_it_says(path: Path) -> None:
    document, _, episode = read(path)
    answer = episode.answer_ids()
    expected = document["answer"]
    assert (None if answer is None else text(answer)) == (None if expected is None else str(expected))
    measured = {
        "total_tokens": total_tokens(episode),
        "critical_tokens": critical_tokens(episode),
        "width": width(episode),
        "depth": depth(episode),
    }
    assert measured == document["metrics"]
    assert episode.outcome.value == document.get("outcome", "returned")
    assert len(episode.violations) == len(document["violations"])
    for violation, place in zip(episode.violations, document["violations"], strict=True):
        wanted = {"kind": place} if isinstance(place, str) else place
        found = {"kind": violation.kind.value, "call": violation.call, "position": violation.position}
        assert found | wanted == found


class StopWatch(EpisodeMachine):
    """Holds what a transcript says against the stops that were asked for."""

    def on_result(self, call: int, result: CallResult) -> list[Command]:
        stops = self.table.in_flight[call].ask.stops.ids
        positions = [index for index, token in enumerate(result.output) if token in stops]
        assert positions == ([len(result.output) - 1] if result.stop is StopReason.STOP else [])
        return super().on_result(call, result)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_call_of_an_example_ends_where_an_engine_would_end_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollout.transcript.EpisodeMachine", StopWatch)
    read(path)


FLAT = [path for path in GOLDEN if "flat" in yaml.safe_load(path.read_text())]


@pytest.mark.parametrize("path", FLAT, ids=lambda path: path.stem)
def test_the_published_flat_text_is_the_same_episode(path: Path) -> None:
    document, protocol, episode = read(path)
    transcript = unflatten(document["flat"], protocol, prompt=str(document["prompt"]))
    again = read_transcript(transcript, protocol, WordEncoder())
    assert [(c.context, c.output, c.after, c.role) for c in again.calls] == [
        (c.context, c.output, c.after, c.role) for c in episode.calls
    ]
    assert again.threads == episode.threads and again.answer == episode.answer
