"""Cost of orchestration: tokens/s of forked episodes over tokens/s of the raw engine on the same calls.

    python scripts/bench_rollout.py --json FILE                         a fresh model with forced outputs
    python scripts/bench_rollout.py --json FILE --model runs/demo/export     a trained one, sampling freely

Both sides use one engine in one Ray actor, which decodes at most `--live` calls at once, and take turns:

  raw           The recorded requests (context ids, stops, length limit, temperature, seed), ready made, go
                straight to vLLM's AsyncLLM inside the actor, in the order in which they were issued. Nothing
                waits for anything; more calls than the engine decodes are always submitted.
  orchestrated  The driver sends groups to the actor as training does, `run_group` of `rollout.actor`. Forks
                wait for their parent, joins for all children, episodes come back through Ray and are counted
                when the driver has them. There are always more episodes under way than live calls.

The first orchestrated pass warms up and records the requests. Before each pass the weights are published
again, which empties the prefix cache, so no pass gains by an earlier one. A pass counts until its last call
or group is submitted: while the last episodes wait for their joins the engine is not full, which does not
happen in training. A pass of one side is compared with the pass of the other right beside it, since a shared
machine's pace drifts by a fifth within minutes; which side goes first alternates. The figure is the median of
`--repeats` such ratios.

A fresh model does not fork. So without --model its sampled text is replaced, after sampling, by the solver's
demonstration for that call, and each call samples exactly as many tokens as the demonstration has: lengths,
contexts, forks and joins are those of real episodes, and every pass of either side samples the same number of
tokens.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import psutil

from data.episodes.trajectory import Episode, StopReason
from data.errors import BraidError, ConfigError
from rl.commands.arguments import positive
from rl.config import Recipe, load_recipe
from rl.config.model import ScratchModel
from rollout.actor import RolloutWorker
from rollout.engines.base import EngineRequest, EngineResult, OnTokens
from rollout.engines.vllm_call import sampling_params
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings
from rollout.runner import EpisodeSpec

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "countdown_cpu.yaml"
REQUIRED = 0.95
"""What the project promises of `orchestrated_over_raw`."""
SUBMITTED = 2
"""Calls (raw) and episodes (orchestrated) under way, as a multiple of the live calls."""
TRIES = 100
"""Demonstrations drawn for one episode until one forks and fits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """One measurement of a benchmark."""

    seconds: float
    tokens: int
    """Tokens of the calls that ended within these seconds."""
    all_tokens: int
    """Tokens of the whole pass."""
    actor_cpu_s: float = 0.0
    """Processor seconds of the actor: all orchestration but the driver's, and vLLM's front end."""
    core_cpu_s: float = 0.0
    """Processor seconds of the engine's core. Equal on both sides, whatever else the machine is doing."""

    @property
    def rate(self) -> float:
        """Sampled tokens per second."""
        return self.tokens / self.seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """A request as the engine got it, and when it was live (monotonic seconds)."""

    request: EngineRequest
    started_s: float
    finished_s: float
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """The episodes of a pass."""

    params: Any
    groups: tuple[tuple[EpisodeSpec, ...], ...]
    texts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Request id without its run -> scripted output of the call; empty when the model samples freely."""


class BenchEngine(VllmEngine):
    """The real engine, with scripted output where a demonstration prescribes it."""

    texts: dict[str, tuple[int, ...]] | None = None
    log: list[Recorded]

    async def generate(self, request: EngineRequest, on_tokens: OnTokens | None = None) -> EngineResult:
        """Generate as `VllmEngine.generate` does."""
        text = self.texts.get(request.id.split(":", 1)[-1]) if self.texts else None
        if text is not None:
            request = replace(request, stops=(), max_tokens=len(text))
        result = await super().generate(request, on_tokens)
        times = {"started_s": result.started_s, "finished_s": result.finished_s}
        self.log.append(Recorded(request=request, tokens=len(result.output), **times))
        return result if text is None else replace(result, output=text, stop=StopReason.STOP)


class BenchWorker(RolloutWorker):
    """The rollout actor; episodes run through it unchanged."""

    _bench: BenchEngine

    async def _start_engine(self, settings: VllmSettings) -> BenchEngine:
        self._bench = await BenchEngine.start(settings)
        return self._bench

    async def prepare(self, texts: dict[str, tuple[int, ...]]) -> None:
        """Set the scripted outputs, and forget the calls recorded so far."""
        self._bench.texts = texts or None
        self._bench.log = []

    async def recorded(self) -> list[Recorded]:
        """In the order of issue."""
        return sorted(self._bench.log, key=lambda item: item.started_s)

    async def ended(self) -> list[tuple[float, int]]:
        """When each recorded call ended, and its tokens."""
        return [(item.finished_s, item.tokens) for item in self._bench.log]

    async def cpu(self) -> tuple[float, float]:
        """Processor seconds so far of actor and core."""
        ids = (os.getpid(), *self._bench.process_ids)
        times = [psutil.Process(process).cpu_times() for process in ids]
        actor, *cores = (spent.user + spent.system for spent in times)
        return actor, sum(cores)

    async def raw(self, requests: Sequence[EngineRequest], submitted: int) -> Pass:
        """Replays the requests on vLLM alone."""
        from vllm.inputs import tokens_input

        llm = self._bench._llm
        inputs = [(tokens_input(list(request.prompt)), sampling_params(request)) for request in requests]
        ready = iter([(*each, f"raw/{number}") for number, each in enumerate(inputs)])
        calls: list[tuple[float, int]] = []
        last = 0.0

        async def client() -> None:
            nonlocal last
            for prompt, sampling, name in ready:
                last = time.monotonic()
                async for final in llm.generate(prompt, sampling, name):
                    calls.append((time.monotonic(), len(final.outputs[0].token_ids)))

        begun = time.monotonic()
        await asyncio.gather(*(client() for _ in range(submitted)))
        return counted(calls, begun, last)


def counted(calls: Iterable[tuple[float, int]], begun: float, last: float) -> Pass:
    """The pass until `last`, when the last work was submitted; `calls`: when each ended, and its tokens."""
    return Pass(
        seconds=last - begun,
        tokens=sum(tokens for ended, tokens in calls if ended <= last),
        all_tokens=sum(tokens for _, tokens in calls),
    )


async def orchestrated(worker: Any, work: Work, live: int) -> tuple[Pass, list[Episode]]:
    """All groups through the actor, always so many under way that the engine stays full."""
    await worker.prepare.remote(work.texts)
    per_group = max(len(specs) for specs in work.groups)
    room, runs = asyncio.Semaphore(max(1, SUBMITTED * live // per_group)), count()
    last = 0.0

    async def one(specs: Sequence[EpisodeSpec]) -> list[Episode]:
        nonlocal last
        async with room:
            run, last = next(runs), time.monotonic()
            episodes: list[Episode] = await worker.run_group.remote(run, work.params, specs)
            return episodes

    begun = time.monotonic()
    finished = await asyncio.gather(*(one(specs) for specs in work.groups))
    episodes = [episode for group in finished for episode in group]
    return counted(await worker.ended.remote(), begun, last), episodes


async def measure(worker: Any, work: Work, weights: Path, *, live: int, repeats: int) -> dict[str, Any]:
    """The passes in turns. -> the document."""
    from data.checksum import file_checksum

    checksum, version = file_checksum(weights), count()
    await worker.start.remote()
    episodes: list[Episode] = []

    async def forked_pass() -> Pass:
        measured, episodes[:] = await orchestrated(worker, work, live)
        return measured

    await forked_pass()
    recorded: list[Recorded] = await worker.recorded.remote()
    requests = [item.request for item in recorded]

    async def raw_pass() -> Pass:
        measured: Pass = await worker.raw.remote(requests, SUBMITTED * live)
        return measured

    async def fresh(measured: Callable[[], Awaitable[Pass]]) -> Pass:
        await worker.publish.remote(weights, next(version), checksum)
        before = await worker.cpu.remote()
        result = await measured()
        after = await worker.cpu.remote()
        return replace(result, actor_cpu_s=after[0] - before[0], core_cpu_s=after[1] - before[1])

    raw: list[Pass] = []
    forked: list[Pass] = []
    for pair in range(repeats):
        sides = [(raw, raw_pass), (forked, forked_pass)]
        for passes, measured in sides if pair % 2 == 0 else reversed(sides):
            passes.append(await fresh(measured))
        print(f"raw {raw[-1].rate:,.0f} tokens/s, orchestrated {forked[-1].rate:,.0f} tokens/s", flush=True)
    await worker.shutdown.remote()
    rates = [statistics.median(item.rate for item in passes) for passes in (raw, forked)]
    ratios = [orchestrated.rate / alone.rate for orchestrated, alone in zip(forked, raw, strict=True)]
    return {
        "orchestrated_over_raw": statistics.median(ratios),
        "ratios": ratios,
        "raw_tokens_per_s": rates[0],
        "orchestrated_tokens_per_s": rates[1],
        "live": live,
        "mean_live_calls": mean_live(recorded, live),
        "episodes": len(episodes),
        "forked_episodes": sum(len(episode.threads) > 1 for episode in episodes),
        "calls": len(requests),
        "tokens": forked[0].all_tokens,
        "cores": os.cpu_count(),
        "passes": {"raw": [asdict(item) for item in raw], "orchestrated": [asdict(item) for item in forked]},
    }


def mean_live(recorded: Sequence[Recorded], live: int) -> float:
    """Time average of the calls that the engine had to decode, at most `live` at once."""
    events = sorted(event for item in recorded for event in ((item.started_s, 1), (item.finished_s, -1)))
    area, running = 0.0, 0
    for (moment, change), (later, _) in pairwise(events):
        running += change
        area += min(running, live) * (later - moment)
    return area / (events[-1][0] - events[0][0])


def make_work(recipe: Recipe, model_dir: Path, *, groups: int, samples: int, scripted: bool) -> Work:
    """Specs on training problems, and scripted outputs for a model that is not trained yet."""
    from data.tasks.registry import build_task
    from data.text.codec import load_codec
    from rl.controller.rollouts import group_specs
    from rl.problems import make_problems, solved_task
    from rollout.demonstrate import demonstrate
    from rollout.protocols import build_protocol

    task, codec = build_task(recipe.task.params), load_codec(model_dir)
    protocol = build_protocol(recipe.protocol, codec)
    problems = make_problems(task, recipe.task, "train")
    work: list[tuple[EpisodeSpec, ...]] = []
    texts: dict[str, tuple[int, ...]] = {}
    rng, length = random.Random(recipe.seed), recipe.model.max_length
    for group in range(groups):
        problem = problems[group % len(problems)]
        prompt = task.prompt(problem)
        specs = group_specs(
            problem, prompt, group_index=group, samples=samples, temperature=1.0, seed=recipe.seed
        )
        work.append(tuple(specs))
        for item in specs if scripted else ():
            names = {"id": item.id, "problem_id": problem.id}
            searches = (solved_task(task, recipe.source).search(problem, rng) for _ in range(TRIES))
            drawn = (demonstrate(protocol, prompt, one, max_length=length, **names) for one in searches)
            episode = next((shown for shown in drawn if shown and len(shown.threads) > 1), None)
            if episode is None:
                raise ConfigError(
                    f"{recipe.source}: no demonstration of {protocol.name} forks and fits\n"
                    "  fix: give a recipe whose protocol forks, or --model"
                )
            texts |= {f"{item.id}/{call.index}": call.output for call in episode.calls}
    return Work(params=recipe.protocol, groups=tuple(work), texts=texts)


def run(arguments: argparse.Namespace, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Starts Ray and the engine, measures, and ends them. -> the document."""
    import ray

    from rl.config.codec import make_codec
    from rl.runtime.rank_worker import build_start_task
    from rl.runtime.ray_session import Runtime
    from rollout.engines.vllm_settings import VllmSettings

    model_dir = arguments.model or folder
    with Runtime(folder):
        if arguments.model is None:
            make_codec(recipe).save(folder)
            ray.get(build_start_task.remote(recipe.model, folder, folder, recipe.seed))
        work = make_work(
            recipe,
            model_dir,
            groups=arguments.groups,
            samples=arguments.samples,
            scripted=arguments.model is None,
        )
        settings = VllmSettings(
            model_dir=model_dir,
            max_length=recipe.model.max_length,
            dtype=recipe.engine.dtype,
            kv_cache_gb=recipe.engine.kv_cache_gb,
            max_live_calls=arguments.live,
            block_size=recipe.engine.block_size,
            seed=recipe.seed,
            device=recipe.engine.device,
        )
        actor = ray.remote(BenchWorker).options(num_cpus=1, max_concurrency=1000)
        document = asyncio.run(
            measure(
                actor.remote(settings, model_dir),
                work,
                model_dir / "model.safetensors",
                live=arguments.live,
                repeats=arguments.repeats,
            )
        )
    text = "demonstrations" if arguments.model is None else str(arguments.model)
    return document | {"recipe": recipe.source, "text": text, "device": recipe.engine.device}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark. -> process exit code: 0 measured, 2 the input cannot work, 1 something failed."""
    arguments = _parser().parse_args(argv)
    output = arguments.json.absolute()
    try:
        recipe = load_recipe(arguments.recipe, arguments.overrides)
        if arguments.model is None and not isinstance(recipe.model, ScratchModel):
            raise ConfigError(f"{recipe.source}: model.kind: is not scratch\n  fix: give --model")
        if arguments.model is not None:
            arguments.model = arguments.model.absolute()
            if not (arguments.model / "model.safetensors").is_file():
                raise ConfigError(
                    f"--model {arguments.model}: has no model.safetensors\n  fix: name an export of a run"
                )
        if arguments.groups * arguments.samples <= 2 * SUBMITTED * arguments.live:
            least = 2 * SUBMITTED * arguments.live // arguments.samples + 1
            raise ConfigError(
                f"--groups {arguments.groups}: too few to keep the engine full; at least {least}"
            )
        if not output.parent.is_dir():
            raise ConfigError(f"--json {output}: there is no folder {output.parent}\n  fix: make it")
        with tempfile.TemporaryDirectory(prefix="braid-bench-") as folder:
            document = run(arguments, recipe, Path(folder))
    except BraidError as error:
        print(f"bench_rollout: {getattr(error, 'cause', error)}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    ratio = document["orchestrated_over_raw"]
    print(f"orchestrated_over_raw {ratio:.3f} (promised: {REQUIRED}); {output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench_rollout",
        description="Tokens/s of forked episodes over those of the raw engine on the same calls.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file for the figures")
    parser.add_argument("--live", type=positive, default=64, metavar="N", help="calls decoded at once")
    parser.add_argument("--groups", type=positive, default=64, metavar="N", help="problems of a pass")
    parser.add_argument("--samples", type=positive, default=8, metavar="G", help="episodes of a problem")
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="passes of each side")
    parser.add_argument("--model", type=Path, metavar="DIR", help="trained model with its tokenizer")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="default: the demo's")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
