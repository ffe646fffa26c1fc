"""`braid episodes`: what Inspect's own reader and an OTLP collector find of recorded episodes."""

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import ledger_lab
import pytest
from run_lab import Made, write_run

from data.episodes.topology import total_tokens
from data.episodes.trajectory import Edge, EdgeKind, Episode
from rl import cli
from rl.storage.rollout_record import RECORD, write_step

Spans = dict[str, dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose record has one step of one group: two episodes that fork and join, one right, one wrong.

    Each: a root of 4 tokens (0.4 s) forks children of 6 and 9, and goes on for 2 behind both.
    """
    step = Made(calls=1, tokens=10, rollout_s=1.0, wait_s=2.0, learner_s=0.75)
    run = write_run(tmp_path, [step])
    record = run / "stages/rl" / RECORD
    for path in record.iterdir():
        path.unlink()
    group = ledger_lab.scored(0, (1.0, 0.0))
    named = tuple(replace(_joined(each), id=f"0/{number}") for number, each in enumerate(group.episodes))
    write_step(record, 0, [replace(group, episodes=named)], {})
    return run


def _joined(forked: Episode) -> Episode:
    """The same episode, whose last call waited for the children by a join."""
    edges = tuple(Edge(kind=EdgeKind.JOIN, call=edge.call) for edge in forked.calls[-1].after)
    return replace(forked, calls=(*forked.calls[:-1], replace(forked.calls[-1], after=edges)))


def spans_of(path: Path) -> list[Spans]:
    """Spans by name, for each episode of a file."""
    found: dict[str, Spans] = {}
    for line in path.read_text().splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    named = found.setdefault(span["traceId"], {})
                    named[span["name"] if span["name"] not in named else span["spanId"]] = span
    return list(found.values())


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


def test_threads_are_child_spans_and_joins_are_links(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "spans.jsonl"
    assert cli.main(["episodes", str(run), "--to", "otlp", "--stage", "rl", "-o", str(out)]) == 0
    right, wrong = spans_of(out)
    # The episode, three threads, four calls.
    assert len(right) == len(wrong) == 8
    root, child = right["thread 0"], right["thread 1"]
    assert root["parentSpanId"] == right["episode 0/0"]["spanId"]
    assert child["parentSpanId"] == right["thread 2"]["parentSpanId"] == root["spanId"]
    key = "gen_ai.usage.output_tokens"
    by_tokens = {int(about[key]): span for span in right.values() if key in (about := attributes(span))}
    assert sorted(by_tokens) == [2, 4, 6, 9]
    assert by_tokens[6]["parentSpanId"] == child["spanId"]
    joined = {link["spanId"] for link in by_tokens[2].get("links", ())}
    assert joined == {by_tokens[6]["spanId"], by_tokens[9]["spanId"]}
    about = attributes(right["episode 0/0"])
    assert (
        about["braid.reward"] == 1.0
        and about["braid.correct"] is True
        and about["braid.total_tokens"] == "21"
    )
    assert attributes(wrong["episode 0/1"])["braid.reward"] == 0.0
    # The longest call, that of 9 tokens, takes 0.9 s.
    assert int(root["endTimeUnixNano"]) - int(root["startTimeUnixNano"]) == pytest.approx(9e8, rel=1e-6)


def test_an_export_that_is_repeated_is_the_same(run: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for out in (first, second):
        assert cli.main(["episodes", str(run), "--to", "otlp", "-o", str(out)]) == 0
    assert first.read_bytes() == second.read_bytes()


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """The address of an OTLP collector, and the bodies that it got."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200 if self.path == "/v1/traces" else 400)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keeps the requests out of what the test prints."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_collector_gets_the_spans_of_the_file(
    run: Path, tmp_path: Path, collector: tuple[str, list[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    address, bodies = collector
    assert cli.main(["episodes", str(run), "--to", "otlp", "-o", f"{address}/v1/traces"]) == 0
    out = tmp_path / "spans.jsonl"
    assert cli.main(["episodes", str(run), "--to", "otlp", "-o", str(out)]) == 0
    request = ExportTraceServiceRequest()
    request.ParseFromString(bodies[0])
    sent = {span.span_id.hex() for r in request.resource_spans for s in r.scope_spans for span in s.spans}
    assert sent == {span["spanId"] for spans in spans_of(out) for span in spans.values()}
    assert cli.main(["episodes", str(run), "--to", "otlp", "-o", f"{address}/elsewhere"]) == 1
    assert "does not take the spans" in capsys.readouterr().err


_READ = """
import json, sys
from rl import cli
assert cli.main(["episodes", sys.argv[1], "--to", "inspect", "-o", sys.argv[2]]) == 0
from inspect_ai.log import list_eval_logs, read_eval_log
(info,) = list_eval_logs(sys.argv[2])
log = read_eval_log(info)

def told(s):
    kinds = [e.event for e in s.events]
    return {
        "id": s.id, "epoch": s.epoch,
        "reward": s.scores["reward"].value, "correct": s.scores["correct"].value,
        "tokens": next(iter(s.model_usage.values())).output_tokens,
        "spans": {e.id: e.parent_id for e in s.events if e.event == "span_begin"},
        "calls": [[e.span_id, e.output.usage.output_tokens] for e in s.events if e.event == "model"],
        "open": kinds.count("span_begin") - kinds.count("span_end"),
    }

means = {s.name: s.metrics["mean"].value for s in log.results.scores}
print(json.dumps({
    "status": log.status, "task": log.eval.task, "means": means, "samples": [told(s) for s in log.samples],
}))
"""


@pytest.mark.slow
def test_inspect_s_own_reader_opens_the_log(run: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("inspect_ai") is None:
        pytest.skip("Inspect is not installed: pip install --no-deps -r requirements/inspect.txt")
    command = [sys.executable, "-c", _READ, str(run), str(tmp_path / "logs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    log = json.loads(done.stdout.splitlines()[-1])
    assert log["status"] == "success" and log["task"] == "small/rl"
    assert log["means"] == {"reward": 0.5, "correct": 0.5}
    first, second = log["samples"]
    assert (first["id"], first["epoch"], first["reward"], first["correct"]) == ("p", 1, 1.0, "C")
    assert (second["id"], second["epoch"], second["reward"], second["correct"]) == ("p", 2, 0.0, "I")
    assert first["tokens"] == total_tokens(ledger_lab.forked()) == 21
    assert first["spans"] == {"thread-0": None, "thread-1": "thread-0", "thread-2": "thread-0"}
    assert sorted(first["calls"]) == [["thread-0", 2], ["thread-0", 4], ["thread-1", 6], ["thread-2", 9]]
    assert first["open"] == 0


def test_bad_input(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: object) -> str:
        assert cli.main(["episodes", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    out = tmp_path / "spans.jsonl"
    assert "is not a run directory" in refused(tmp_path, "--to", "otlp", "-o", out)
    assert "no such stage" in refused(run, "--to", "otlp", "-o", out, "--stage", "x")
    assert "no episode is recorded by stage sft" in refused(run, "--to", "otlp", "-o", out, "--stage", "sft")
    assert "end in .jsonl" in refused(run, "--to", "otlp", "-o", tmp_path / "spans.txt")
    assert "is not a folder" in refused(run, "--to", "inspect", "-o", "http://127.0.0.1:1")
    for path in (run / "stages/rl" / RECORD).glob("*.gz"):
        path.write_bytes(path.read_bytes()[:-20])
    assert cli.main(["episodes", str(run), "--to", "otlp", "-o", str(out)]) == 1
    assert not out.exists()
