"""`braid serve` for real: a finished run's export, its engine, signals, and what an evaluation recorded."""

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from data.episodes.wire import encode_episode, read_episodes
from data.tasks.problem import load_problems
from data.tasks.registry import build_task
from rl.config.recipe import Recipe
from rl.evaluation.gather import outcomes_path
from rl.evaluation.outcome_file import episodes_file, read_contents
from rl.scored_group import group_index_of, sample_of
from rl.storage.run_directory import RunDirectory

pytestmark = pytest.mark.slow
NAME = "tiny"
EXCEPT = ("id", "problem")
EXCEPT_OF_CALLS = ("started_s", "finished_s", "cached_tokens", "versions")


class Served:
    """A server of the reference run's export, and what it may be asked."""

    def __init__(self, command: Any, run: Path) -> None:
        found = re.search(r"^serving .* at (http://\S+)", command.output, re.MULTILINE)
        assert found is not None
        self.command, self.url = command, found[1]
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=300)
        self.directory = RunDirectory(run)
        self.recipe = Recipe.model_validate_json((run / "recipe.json").read_text())
        self.task = build_task(self.recipe.task.params)
        problems = load_problems(self.directory.problems("test"))
        self.problems = {problem.id: problem for problem in problems}

    def ask(self, text: str, **more: Any) -> Any:
        return self.client.chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": text}], **more
        )

    def engine(self) -> psutil.Process:
        """The engine's process."""
        children = psutil.Process(self.command.process.pid).children(recursive=True)
        (found,) = [child for child in children if "EngineCore" in " ".join(child.cmdline())]
        return found

    def figure(self, name: str) -> float:
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.split(" ")[0] == name)


@pytest.fixture(scope="module")
def served(braid: Any, reference: Path) -> Iterator[Served]:
    command = braid.start(
        "serve", reference / "export", "--port", "0", "--name", NAME, "--device", "cpu",
        "--kv-cache-gb", "0.05", "--max-live-calls", "64", "--drain-seconds", "60",
    )  # fmt: skip
    command.wait_until(lambda: "serving tiny at" in command.output)
    yield Served(command, reference)
    if command.process.poll() is None:
        command.signal(signal.SIGTERM)
        command.wait(120)


def bare(row: dict[str, Any]) -> str:
    """An episode's tokens, seeds, log-probabilities and structure, without names and times."""
    row = {key: value for key, value in json.loads(json.dumps(row)).items() if key not in EXCEPT}
    row["calls"] = [{k: v for k, v in call.items() if k not in EXCEPT_OF_CALLS} for call in row["calls"]]
    return json.dumps(row, sort_keys=True)


@pytest.mark.parametrize("kind", ["sampled", "greedy"])
def test_served_episodes_are_those_of_the_run_s_evaluation(served: Served, kind: str) -> None:
    """Promise 16, with an evaluation that ran on Ray actors in another process."""
    path = outcomes_path(served.directory, "eval", "rl", kind)
    setting = read_contents(path).setting
    assert setting is not None
    recorded = list(read_episodes(episodes_file(path)))
    assert len(recorded) == 12

    def again(episode: Any) -> str:
        reply = served.ask(
            served.task.prompt(served.problems[episode.problem_id]).text,
            seed=setting["seed"], temperature=setting["temperature"],
            extra_body={"braid": {
                "group": group_index_of(episode.id), "sample": sample_of(episode.id), "record": True,
            }},
        )  # fmt: skip
        return bare(reply.choices[0].model_dump()["braid"]["episode"])

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(again, recorded))
    assert found == [bare(encode_episode(episode)) for episode in recorded]


def test_a_stream_of_the_real_engine_adds_up(served: Served) -> None:
    whole = served.ask("37 10 9 4 2", seed=3)
    text, tokens = "", 0
    stream = served.ask(
        "37 10 9 4 2", seed=3, stream=True, stream_options={"include_usage": True},
        extra_body={"braid": {"events": True}},
    )  # fmt: skip
    for chunk in stream:
        for choice in chunk.model_dump()["choices"]:
            text += choice["delta"].get("reasoning_content") or ""
            event = choice.get("braid", {})
            tokens += event["tokens"] if event.get("event") == "thread.text" else 0
        if chunk.usage is not None:
            assert chunk.usage.completion_tokens == whole.usage.completion_tokens == tokens
    assert text == whole.choices[0].message.model_dump()["reasoning_content"]


def test_a_client_that_goes_away_stops_the_engine_within_a_step_or_two(served: Served) -> None:
    """Or within 10 ms: a step of this tiny model takes less time than a cancellation travels."""
    began = time.monotonic()
    pace = served.ask("37 10 9 4 2", seed=3).usage.model_dump()["critical_tokens"] / (
        time.monotonic() - began
    )

    def went() -> bool:
        return served.figure("braid_clients_gone_total") >= 1

    for seed in range(20):  # on a busy machine all may be sampled before the first text has been read here
        before = served.figure("braid_sampled_tokens_total")
        events = {"braid": {"events": True}}
        stream = served.ask("37 10 9 4 2", n=4, seed=seed, stream=True, extra_body=events)
        next(chunk for chunk in stream if "thread.text" in chunk.model_dump_json())
        stream.close()
        served.command.wait_until(lambda: served.figure("braid_live_episodes") == 0)
        if went():
            break
    assert went()
    assert served.figure("braid_sampled_tokens_total") > before, "what was sampled is paid for"
    assert served.figure("braid_cancel_steps_max") <= 2 + 0.01 * pace


def test_kill_9_of_the_engine_under_load(served: Served) -> None:
    """Requests in flight go on with the next engine: the same tokens, and the server answers meanwhile."""
    texts = [f"{target} 10 9 4 2" for target in range(20, 28)]
    expected = [served.ask(text, seed=5).choices[0].message.model_dump() for text in texts]
    deaths, engine = served.figure("braid_engine_deaths"), served.engine()
    killed = threading.Event()

    def asked(text: str) -> Any:
        stream = served.ask(text, seed=5, stream=True)
        reasoning = ""
        for chunk in stream:
            for choice in chunk.model_dump()["choices"]:
                said = choice["delta"].get("reasoning_content") or ""
                if said and not killed.is_set():
                    killed.set()
                    engine.kill()
                reasoning += said
        return reasoning

    asked_health, ended = [], threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            began = time.monotonic()
            httpx.get(f"{served.url}/v1/models", timeout=60)
            asked_health.append(time.monotonic() - began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(asked, texts))
    took = time.monotonic() - began
    ended.set()
    watcher.join()
    assert found == [message["reasoning_content"] for message in expected]
    # Starting an engine takes most of the time; a server that waits for it answers nothing else so long.
    assert max(asked_health) < took / 3, (took, asked_health)
    assert served.figure("braid_engine_deaths") == deaths + 1
    assert served.engine().pid != engine.pid
    assert httpx.get(f"{served.url}/health").status_code == 200


def test_sigterm_lets_requests_end_and_leaves_nothing(served: Served) -> None:
    """The last test of the module: it ends the server."""
    stream = iter(served.ask("37 10 9 4 2", seed=9, stream=True))
    next(stream)
    served.command.signal(signal.SIGTERM)
    reasons = [choice.finish_reason for chunk in stream for choice in chunk.choices]
    assert reasons[-1] in ("stop", "length")
    assert served.command.wait(120) == 0, served.command.output
    assert served.command.left_behind() == []
