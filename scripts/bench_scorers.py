"""Cost of Monte-Carlo labels with shared prefixes, and of hosting a scorer.

    python scripts/bench_scorers.py --json FILE

Labels: a real vLLM engine completes recorded searches behind each of their steps, as a stage of
`kind: label_steps` does. The model is fresh, so each completion gets the length, and then the text, of the
recorded rest. Three ways take turns on the same prefixes, completions and seeds, each with an empty cache:

  shared      as it is: all completions of all steps of a search share their prefixes in the engine's cache
  prefixes    each prefix alone: only the completions of one step share it
  separate    each completion alone, as a request of its own to an engine without a prefix cache

Prefixes are shared in whole blocks of the cache (32 tokens), so that of short searches less is shared; taken
are searches of at least `--least` tokens.

Scorer: a reward model in its process behind `WorkerPool`, as a run hosts it, and the same worker by itself,
a loop in that very process, take turns on the same groups of episodes.

The file: mc_over_separate (tokens that engines compute, shared over separate), mc_over_separate_seconds, the
same two of `prefixes`; scores_per_s (scores of steps a second, hosted), scorer_over_plain (hosted rate over
the worker's own). Seconds and rates are medians of the ratios of passes side by side, since a shared
machine's pace drifts.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import ray

from data.checksum import file_checksum
from data.episodes.trajectory import Episode, StopReason
from data.errors import BraidError, ConfigError
from data.steps.step import StepKind
from data.tasks.labelled import StepLabelledTask
from data.tasks.problem import Problem
from data.tasks.registry import build_task
from data.text.codec import Codec, load_codec
from rewards.score import Opinion
from rewards.verifiers.verdict import Judge
from rl.commands.arguments import positive
from rl.config import Recipe, load_recipe
from rl.config.codec import make_codec
from rl.config.labels import MonteCarloLabels
from rl.imitation.progress import ActivityLines
from rl.problems import make_problems
from rl.runtime.rank_worker import build_start_task
from rl.runtime.ray_session import Runtime
from rl.runtime.reward_pool import SCORERS
from rl.runtime.worker_pool import WorkerPool
from rl.scorers.completion_file import CompletionFile
from rl.scorers.label_file import unlabelled_rows
from rl.scorers.worker import ScorerSettings, ScorerWorker
from rl.stages.complete_steps import Recorded, StepCompleter
from rl.stages.label_steps import tokens_of
from rollout.demonstrate import demonstrate
from rollout.engines.base import EngineRequest, EngineResult, OnTokens
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings
from rollout.host import EpisodeHost
from rollout.protocols import AnyParams, build_protocol
from rollout.runner import EpisodeSpec

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "countdown_sequential_cpu.yaml"
Way = Literal["shared", "prefixes", "separate"]
MOST_OVER_SEPARATE, LEAST_OVER_PLAIN = 0.6, 0.8
"""Promised bounds of `mc_over_separate` and `scorer_over_plain`."""
GROUP = 8
"""Most episodes of a problem that a scorer is asked about at once."""
ROUNDS = 5
"""Times that a pass scores all groups: its rate is not to be that of a beginning and an end."""


class BenchEngine(VllmEngine):
    """The real engine; outputs have the recorded rest's length and text, and share what `way` lets them."""

    way: Way = "shared"
    texts: Sequence[tuple[int, ...]] = ()

    async def generate(self, request: EngineRequest, on_tokens: OnTokens | None = None) -> EngineResult:
        """Generate as `VllmEngine.generate` does."""
        size = len(request.prompt)
        rest = next(text[size:] for text in self.texts if text[:size] == request.prompt)
        result = await super().generate(replace(request, stops=(), max_tokens=max(1, len(rest))), on_tokens)
        return replace(result, output=rest or result.output, stop=StopReason.STOP)

    async def _generate(
        self, request: EngineRequest, salt: str | None, on_tokens: OnTokens | None
    ) -> EngineResult:
        salts = {"shared": salt, "prefixes": str(hash(request.prompt)), "separate": request.id}
        return await super()._generate(request, salts[self.way], on_tokens)


@dataclass(kw_only=True, slots=True)
class Bench:
    """What both measurements work on."""

    recipe: Recipe
    model_dir: Path
    codec: Codec
    episodes: list[tuple[Problem, list[Episode]]]
    """Groups of at most `GROUP` solved searches on one problem each, which the scorer is asked about."""
    searches: list[Episode]
    """One long search on each problem, whose steps are labelled."""


class BenchScorer(ScorerWorker):
    """The hosted worker, which can also be timed without its pool."""

    def alone(self, groups: Sequence[tuple[Problem, list[Episode]]]) -> tuple[float, list[Opinion]]:
        """Score all groups. -> (seconds, opinions)."""
        began = time.monotonic()
        found = [opinion for group in groups for opinion in self.score_group(*group)]
        return time.monotonic() - began, found


class HostRunner:
    """One host as the seam that a stage's completer asks."""

    def __init__(self, host: EpisodeHost) -> None:
        self._host = host

    async def run_group(
        self, params: AnyParams, specs: Sequence[EpisodeSpec]
    ) -> tuple[list[Episode], object]:
        """Run the episodes of one group."""
        found = await asyncio.gather(*(self._host.run(params, spec) for spec in specs))
        return list(found), None


def make_bench(recipe: Recipe, folder: Path, groups: int, least: int) -> Bench:
    """A fresh model, and `groups` problems with solved searches of at least `least` tokens."""
    make_codec(recipe).save(folder)
    ray.get(build_start_task.remote(recipe.model, folder, folder, recipe.seed))
    codec, task = load_codec(folder), build_task(recipe.task.params)
    if not isinstance(task, StepLabelledTask):
        raise ConfigError(f"{recipe.source}: task {task.name} has no solver that writes lines")
    protocol, rng = build_protocol(recipe.protocol, codec), random.Random(recipe.seed)
    found: list[tuple[Problem, list[Episode]]] = []
    searches: list[Episode] = []
    for problem in make_problems(task, recipe.task, "train"):
        shown = [
            demonstrate(
                protocol, task.prompt(problem), task.search(problem, rng), id=f"{len(found)}/{number}",
                problem_id=problem.id, max_length=recipe.model.max_length,
            )
            for number in range(GROUP)
        ]  # fmt: skip
        whole = [each for each in shown if each is not None and each.answer is not None]
        long = [each for each in whole if len(each.calls[0].output) >= least]
        if long:
            found.append((problem, whole))
            searches.append(long[0])
        if len(found) == groups:
            return Bench(recipe=recipe, model_dir=folder, codec=codec, episodes=found, searches=searches)
    raise ConfigError(
        f"{recipe.source}: only {len(found)} problems are solved with {least} tokens; lower --groups"
    )


async def measure_labels(bench: Bench, completions: int, repeats: int) -> dict[str, Any]:
    """Passes of the three ways in turn. -> their tokens, and ratios."""
    recipe, weights = bench.recipe, bench.model_dir / "model.safetensors"
    task = build_task(recipe.task.params)
    recorded = [
        Recorded(
            problem=problem,
            episode=search,
            rows=unlabelled_rows(task, problem, search, bench.codec, StepKind.LINE),
        )
        for (problem, _), search in zip(bench.episodes, bench.searches, strict=True)
    ]
    engines: list[BenchEngine] = []

    async def start(settings: VllmSettings) -> BenchEngine:
        engines.append(await BenchEngine.start(settings))
        engines[-1].texts = [row.ids for each in recorded for row in each.rows]
        return engines[-1]

    settings = VllmSettings(
        model_dir=bench.model_dir, max_length=recipe.model.max_length, dtype=recipe.engine.dtype,
        kv_cache_gb=recipe.engine.kv_cache_gb, max_live_calls=recipe.engine.max_live_calls,
        block_size=recipe.engine.block_size, seed=recipe.seed, device=recipe.engine.device,
    )  # fmt: skip
    host = EpisodeHost.with_vllm(settings, bench.model_dir, start)
    await host.start()
    passes: dict[Way, list[dict[str, Any]]] = {"shared": [], "prefixes": [], "separate": []}
    try:
        for number in range(repeats + 1):
            for way in passes:
                # Publishing empties the prefix cache.
                version = 1 + sum(map(len, passes.values())) + number * len(passes)
                await host.publish(weights, version, file_checksum(weights))
                engines[-1].way = way
                found = await _labelled(bench, host, recorded, completions)
                if number:  # the first turn warms up
                    passes[way].append(found)
                    print(
                        f"{way:9} {found['computed']:8} tokens computed in {found['seconds']:6.2f} s",
                        flush=True,
                    )
    finally:
        host.shutdown()
    return compared(passes)


async def _labelled(
    bench: Bench, host: EpisodeHost, recorded: Sequence[Recorded], completions: int
) -> dict[str, Any]:
    """One labelling from an empty cache. -> its tokens and seconds."""
    task = build_task(bench.recipe.task.params)
    with tempfile.TemporaryDirectory() as folder, CompletionFile(Path(folder) / "completions") as file:
        completer = StepCompleter(
            MonteCarloLabels(kind="monte_carlo", completions=completions),
            file,
            engines=HostRunner(host),
            protocol=bench.recipe.protocol,
            task=task,
            judge=Judge(task, bench.codec),
            kind=StepKind.LINE,
            seed=bench.recipe.seed,
            activity=ActivityLines("labels", "completing"),
        )
        began = time.monotonic()
        rows = await completer.label(recorded)
        seconds = time.monotonic() - began
        assert all(label == 1.0 for row in rows for label in row.labels), "the recorded rest is right"
        return tokens_of(file.all()) | {"seconds": seconds}


def compared(passes: dict[Way, list[dict[str, Any]]]) -> dict[str, Any]:
    """Ratios of the shared way to the others: of tokens, and the median of those of seconds side by side."""
    found: dict[str, Any] = {f"mc_{way}": all_of[-1] for way, all_of in passes.items()}
    others: tuple[Way, ...] = ("separate", "prefixes")
    for way in others:
        pairs = list(zip(passes["shared"], passes[way], strict=True))
        name = f"mc_over_{way}"
        found[name] = sum(a["computed"] for a, _ in pairs) / sum(b["computed"] for _, b in pairs)
        found[f"{name}_seconds"] = statistics.median(a["seconds"] / b["seconds"] for a, b in pairs)
    return found


async def measure_scorer(bench: Bench, repeats: int) -> dict[str, Any]:
    """Passes through the pool and of the worker by itself in turn. -> rates, median of their ratios."""
    task = bench.recipe.task.params
    settings = ScorerSettings(
        model_dir=bench.model_dir, tokenizer_dir=bench.model_dir, target="steps", step=StepKind.LINE,
        forest_tokens=8192,
    )  # fmt: skip
    actor = ray.remote(BenchScorer).remote(settings, task)
    pool: WorkerPool[Opinion] = WorkerPool(
        SCORERS, lambda: actor, workers=1, seconds=600.0, start_seconds=600.0
    )
    references = [ray.put(episodes) for _, episodes in bench.episodes]

    async def hosted(rounds: int = ROUNDS) -> list[Opinion]:
        groups = list(zip(bench.episodes, references, strict=True)) * rounds
        found = await asyncio.gather(*(pool.results(*group, reference) for group, reference in groups))
        return [opinion for group in found for opinion in group]

    ratios, rates = list[float](), list[float]()
    try:
        found = await hosted(1)
        assert (await actor.alone.remote(bench.episodes))[1] == found, "a pool changes no score"
        scores = ROUNDS * sum(len(opinion) for opinion in found if not isinstance(opinion, str))
        for _ in range(repeats):
            began = time.monotonic()
            await hosted()
            seconds = time.monotonic() - began
            bare, _ = await actor.alone.remote(bench.episodes * ROUNDS)
            rates.append(scores / seconds)
            ratios.append(bare / seconds)
            print(f"scorer    {scores} scores: hosted {seconds:.2f} s, by itself {bare:.2f} s", flush=True)
    finally:
        pool.close()
    return {"scores_per_s": statistics.median(rates), "scorer_over_plain": statistics.median(ratios)}


def run(arguments: argparse.Namespace, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Starts Ray, measures, and ends everything. -> the document."""
    with Runtime(folder):
        bench = make_bench(recipe, folder / "model", arguments.groups, arguments.least)
        document = asyncio.run(measure_labels(bench, arguments.completions, arguments.repeats))
        document |= asyncio.run(measure_scorer(bench, arguments.repeats))
    named = ("groups", "least", "completions", "repeats")
    return document | {name: getattr(arguments, name) for name in named} | {"recipe": recipe.source}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark. -> process exit code: 0 measured, 2 the input cannot work, 1 something failed."""
    parser = argparse.ArgumentParser(prog="bench_scorers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file for the figures")
    parser.add_argument("--groups", type=positive, default=8, metavar="N", help="problems")
    parser.add_argument("--least", type=positive, default=128, metavar="N", help="tokens of a search")
    parser.add_argument("--completions", type=positive, default=8, metavar="K", help="of each step")
    parser.add_argument("--repeats", type=positive, default=3, metavar="N", help="passes of each side")
    parser.add_argument(
        "--recipe", type=Path, default=RECIPE, help="one thread, a solved task, a fresh model"
    )
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args(argv)
    output = arguments.json.absolute()
    try:
        if not output.parent.is_dir():
            raise ConfigError(f"--json {output}: there is no folder {output.parent}\n  fix: make it")
        recipe = load_recipe(arguments.recipe, arguments.overrides)
        with tempfile.TemporaryDirectory(prefix="braid-bench-") as folder:
            document = run(arguments, recipe, Path(folder))
    except BraidError as error:
        print(f"bench_scorers: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    tokens, seconds = document["mc_over_separate"], document["mc_over_separate_seconds"]
    print(f"mc_over_separate {tokens:.3f} of tokens, {seconds:.3f} of seconds (at most {MOST_OVER_SEPARATE})")
    print(
        f"scorer_over_plain {document['scorer_over_plain']:.3f} (at least {LEAST_OVER_PLAIN}), "
        f"{document['scores_per_s']:.0f} scores/s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
