"""What a server costs on top of its engine: the same work by `braid eval`'s way and over HTTP, in turns.

    python scripts/bench_serve.py runs/demo/export --recipe recipes/countdown_cpu.yaml --json FILE

served_over_eval    tokens per second of `--requests` requests at once, over those of the same episodes on an
                    engine in this process; median of the pairs of `--rounds`
first_token_p95_ms_over_engine
                    a streamed request's first token as the client sees it, less the time from the episode's
                    begin to that token in the server; 95th percentile of `--requests` at once
cancel_steps        most tokens that a call sampled after its client had gone: eight that go in the middle,
                    one after the other, beside `--requests` that go on
cancel_steps_at_once
                    the same, of `--requests` that go away together
id_for_id           with `--id-for-id N`: episodes of N problems, sampled and greedy, compared token by token,
                    and which differ (the exit code is 1 then)
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openai

from data.episodes.topology import total_tokens
from data.episodes.trajectory import Episode
from data.episodes.wire import encode_episode
from data.errors import BraidError
from data.tasks.problem import Problem
from data.text.codec import load_codec
from data.text.prompt import Prompt
from rl.controller.rollouts import group_specs
from rl.harness.exam import of_recipe
from rl.serving.exported import read_exported
from rl.serving.server import ServeSettings, engine_settings
from rollout.host import EpisodeHost

NAME = "bench"
AT_ONCE = 16
"""Pairs of episodes that are compared at once. Other texts beside them must not change their tokens."""
LEAVING = 8
"""Clients that go away one after the other."""
START_S = 600.0
"""Seconds that a server may take to start."""
UNTIMED = ("id", "problem")
UNTIMED_OF_CALLS = ("started_s", "finished_s", "cached_tokens")


class Bench:
    """An engine in this process, a server of the same export, and the problems that both are asked."""

    def __init__(self, arguments: argparse.Namespace, host: EpisodeHost, client: openai.AsyncOpenAI) -> None:
        self.arguments, self.host, self.client = arguments, host, client
        self.params = read_exported(arguments.export).params
        wanted = max(arguments.requests, arguments.id_for_id)
        exam = of_recipe(arguments.recipe, [], "test", wanted)
        self.problems: list[Problem] = list(exam.problems)
        self.prompts: list[Prompt] = [exam.task.prompt(problem) for problem in self.problems]

    async def by_host(self, number: int, seed: int, temperature: float) -> Episode:
        """The first sample of a problem, as an evaluation runs it."""
        (spec,) = group_specs(
            self.problems[number], self.prompts[number],
            group_index=number, samples=1, temperature=temperature, seed=seed,
        )  # fmt: skip
        return await self.host.run(self.params, spec, prefix=f"{seed}/{temperature}/")

    def body(self, number: int, seed: int, temperature: float, **braid: Any) -> dict[str, Any]:
        """The same episode as a request."""
        prompt = self.prompts[number]
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt.history]
        return {
            "model": NAME,
            "messages": [*turns, {"role": "user", "content": prompt.text}],
            "seed": seed,
            "temperature": temperature,
            "extra_body": {"braid": {"group": number, "threads": False, **braid}},
        }

    async def by_server(self, number: int, seed: int, temperature: float, **braid: Any) -> Any:
        """The reply to that request."""
        return await self.client.chat.completions.create(**self.body(number, seed, temperature, **braid))

    async def throughput(self, seed: int) -> tuple[float, float]:
        """-> tokens per second (of the host, of the server); the server goes first on odd seeds."""
        numbers = [index % len(self.problems) for index in range(self.arguments.requests)]

        async def eval_side() -> float:
            began = time.monotonic()
            episodes = await asyncio.gather(*(self.by_host(n, seed, 1.0) for n in numbers))
            return sum(map(total_tokens, episodes)) / (time.monotonic() - began)

        async def served_side() -> float:
            began = time.monotonic()
            replies = await asyncio.gather(*(self.by_server(n, seed, 1.0) for n in numbers))
            tokens = sum(reply.usage.completion_tokens for reply in replies)
            return float(tokens / (time.monotonic() - began))

        if seed % 2:
            served = await served_side()
            return await eval_side(), served
        return await eval_side(), await served_side()

    async def first_token_s(self, number: int, seed: int) -> float:
        """Seconds of a streamed request's first token that are not the engine's."""
        began = time.monotonic()
        stream = await self.client.chat.completions.create(
            **self.body(number, seed, 1.0, events=True), stream=True
        )
        over = 0.0
        async for chunk in stream:
            event = chunk.model_dump()["choices"][0].get("braid") or {}
            if event.get("event") == "thread.text" and not over:
                over = time.monotonic() - began - event["seconds"]
        return over

    async def go_away(self, number: int, seed: int) -> None:
        """Ask for a stream and close it after some tokens."""
        stream = await self.client.chat.completions.create(
            **self.body(number, seed, 1.0, events=True), stream=True
        )
        seen = 0
        async for chunk in stream:
            event = chunk.model_dump()["choices"][0].get("braid") or {}
            seen += event.get("event") == "thread.text"
            if seen >= 8:
                break
        await stream.close()

    async def go_one_by_one(self, numbers: Sequence[int]) -> None:
        """Let clients go away one after the other while others' requests run."""
        others = asyncio.gather(*(self.by_server(n, 2000 + i, 1.0) for i, n in enumerate(numbers)))
        for index in range(LEAVING):
            await self.go_away(numbers[index % len(numbers)], 3000 + index)
        await others

    async def differing(self, problems: int) -> list[str]:
        """Episodes of which the server's tokens are not the evaluation's; `AT_ONCE` pairs at a time."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def compare(number: int, temperature: float) -> str:
            async with gate:
                own, reply = await asyncio.gather(
                    self.by_host(number, 7, temperature),
                    self.by_server(number, 7, temperature, record=True),
                )
            served = reply.choices[0].model_dump()["braid"]["episode"]
            same = untimed(encode_episode(own)) == untimed(served)
            return "" if same else f"problem {number} at temperature {temperature}"

        asked = [compare(number, temperature) for temperature in (1.0, 0.0) for number in range(problems)]
        return [name for name in await asyncio.gather(*asked) if name]


def untimed(episode: dict[str, Any]) -> str:
    """An episode without its names and times, which no two runs share."""
    row = json.loads(json.dumps(episode))
    for key in UNTIMED:
        row.pop(key)
    for call in row["calls"]:
        for key in UNTIMED_OF_CALLS:
            call.pop(key)
    return json.dumps(row, sort_keys=True)


@contextlib.contextmanager
def served(export: Path, calls: int, cache: float) -> Iterator[str]:
    """The address of a server of this export, in a process of its own."""
    command = [
        *(sys.executable, "-m", "rl.cli", "serve", str(export), "--port", "0", "--name", NAME),
        *("--max-live-calls", str(calls), "--kv-cache-gb", str(cache)),
    ]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=os.getcwd())
        try:
            deadline = time.monotonic() + START_S
            while True:
                log.seek(0)
                found = re.search(r"^serving .* at (http://\S+)", log.read(), re.MULTILINE)
                if found:
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise BraidError(f"the server did not start:\n{log.read()}")
                time.sleep(0.2)
            yield found[1]
        finally:
            process.terminate()
            process.wait(60)


async def measure(bench: Bench, address: str) -> dict[str, Any]:
    """All figures of the file."""
    arguments = bench.arguments
    result: dict[str, Any] = {"requests": arguments.requests, "rounds": arguments.rounds}
    if arguments.id_for_id:
        differing = await bench.differing(arguments.id_for_id)
        result["id_for_id"] = {"problems": arguments.id_for_id, "differing": differing}
    await bench.throughput(-1)  # both warm
    pairs = [await bench.throughput(seed) for seed in range(arguments.rounds)]
    result["eval_tokens_per_s"] = [pair[0] for pair in pairs]
    result["served_tokens_per_s"] = [pair[1] for pair in pairs]
    result["served_over_eval"] = statistics.median(served / own for own, served in pairs)
    numbers = [index % len(bench.problems) for index in range(arguments.requests)]
    first = await asyncio.gather(*(bench.first_token_s(n, 100 + i) for i, n in enumerate(numbers)))
    result["first_token_p95_ms_over_engine"] = 1000 * percentile(first, 0.95)
    await bench.go_one_by_one(numbers)
    await settled(address)
    result["cancel_steps"] = await figure(address, "braid_cancel_steps_max")
    await asyncio.gather(*(bench.go_away(n, 1000 + i) for i, n in enumerate(numbers)))
    await settled(address)
    result["cancel_steps_at_once"] = await figure(address, "braid_cancel_steps_max")
    return result


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return sorted(values)[max(0, -(-int(share * 100) * len(values) // 100) - 1)]


async def settled(address: str) -> None:
    """Wait until no episode runs in the server."""
    while await figure(address, "braid_live_episodes") + await figure(address, "braid_waiting_episodes"):
        await asyncio.sleep(0.05)


async def figure(address: str, name: str) -> float:
    """A figure of the server's /metrics."""
    import httpx

    async with httpx.AsyncClient(timeout=60) as client:
        text = (await client.get(f"{address}/metrics")).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.split(" ")[0] == name)


async def run(arguments: argparse.Namespace, address: str) -> dict[str, Any]:
    """Start the engine of this side and measure both."""
    exported = read_exported(arguments.export)
    codec = load_codec(exported.directory)
    settings = engine_settings(
        ServeSettings(
            export=arguments.export, max_live_calls=arguments.calls, kv_cache_gb=arguments.kv_cache_gb
        ),
        exported,
        text_stops=not codec.words_only,
    )
    host = EpisodeHost.with_vllm(settings, exported.directory)
    await host.start()
    try:
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
            return await measure(Bench(arguments, host, client), address)
    finally:
        host.shutdown()


def main() -> int:
    """Measure, write the file, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", type=Path)
    parser.add_argument("--recipe", type=Path, required=True, help="its task has the problems")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--id-for-id", type=int, default=0, metavar="N")
    parser.add_argument("--calls", type=int, default=256, help="calls that each engine decodes at once")
    parser.add_argument("--kv-cache-gb", type=float, default=0.25)
    arguments = parser.parse_args()
    try:
        with served(arguments.export, arguments.calls, arguments.kv_cache_gb) as address:
            result = asyncio.run(run(arguments, address))
    except BraidError as error:
        print(f"bench_serve: {error}", file=sys.stderr)
        return 2
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 1 if result.get("id_for_id", {}).get("differing") else 0


if __name__ == "__main__":
    sys.exit(main())
