"""One evaluation outside a run: sample the arms, compare strategies, write table, picture and document."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.errors import ConfigError, EngineError
from data.text.codec import Codec, load_codec
from data.whole_file import write_json
from rl.evaluation.eflops import ModelShape, model_shape
from rl.evaluation.outcomes import Outcome
from rl.evaluation.strategies.points import Point, after_the_fact, single
from rl.evaluation.strategies.sample import Sample
from rl.evaluation.strategies.width_law import width_law
from rl.harness.arms import ALL_ROUNDS, SAMPLED, Arm, steered, with_settings
from rl.harness.comparison import compare, document, figures_at_k
from rl.harness.endpoint_samples import EndpointSampler
from rl.harness.exam import Exam
from rl.harness.grading import Grader
from rl.harness.model_samples import ModelSampler
from rl.harness.seat import Recorded, calibrated, rounds_of
from rl.harness.show import at_k_lines, law_lines, losers, markdown, print_table
from rl.harness.target import EndpointTarget, ModelTarget, Target
from rollout.protocols import AnyParams, build_protocol, can_speak, default_params
from rollout.protocols.rounds import Rounds

RESAMPLES = 2_000
"""Bootstrap resamples of the problems for each interval."""
STEERED_SAMPLES = 2
"""Episodes of a problem in each arm that steers its sampling."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a user asks for."""

    target: Target
    exam: Exam
    protocol: str | None
    """Name of the protocol to ask with; None: the target's own, the recipe's, else `sequential`."""
    settings: Mapping[str, Any]
    """Keys of the protocol section that are changed, dotted."""
    samples: int
    """Samples of a problem."""
    temperature: float
    strategies: bool
    """Whether protocols that steer their sampling are run, too."""
    seed: int
    out: Path
    """Folder of outcomes, table, picture and document."""


def run(request: Request) -> dict[str, Any]:
    """Evaluate, print the table, write `out`. -> the document. A stopped one resumes from its episodes.

    Raises ConfigError, EngineError or StorageError; what was sampled by then is kept.
    """
    request.out.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_run(request))


async def _run(request: Request) -> dict[str, Any]:
    target, exam = request.target, request.exam
    params = params_of(request)
    first = Arm(strategy=SAMPLED, setting=params.name, params=params, samples=request.samples)
    options = {"temperature": request.temperature, "seed": request.seed, "out": request.out}
    if isinstance(target, EndpointTarget):
        with Grader(exam, None) as grader:
            async with EndpointSampler(target, exam, **options) as remote:  # type: ignore[arg-type]
                outcomes, pools = await remote.samples(first, grader)
        return report(request, params, outcomes, pools, [], None)
    codec, shape = load_codec(target.directory), model_shape(target.directory)
    if not can_speak(params, codec):
        raise ConfigError(
            f"--protocol {params.name}: {target.name} has no tokens for its tags\n"
            "  fix: leave --protocol out, or evaluate a model that was trained for it"
        )
    _ensure_room(target, exam, params, build_protocol(params, codec).needed_length)
    points: list[Point] = []
    with Grader(exam, codec) as grader:
        async with ModelSampler(target, exam, codec, **options) as sampler:  # type: ignore[arg-type]
            outcomes, pools = await sampler.samples(first, grader)
            for arm in (
                steered(params, STEERED_SAMPLES, words_only=codec.words_only) if request.strategies else ()
            ):
                if can_speak(arm.params, codec):
                    _, own = await sampler.samples(arm, grader)
                    points.append(single(arm.strategy, arm.setting, own, shape))
                    if arm.setting == ALL_ROUNDS:
                        points.append(await _stopped(sampler, arm, own, exam, codec, grader, shape))
    return report(request, params, outcomes, pools, points, shape)


async def _stopped(
    sampler: ModelSampler,
    arm: Arm,
    pools: Mapping[str, Sequence[Sample]],
    exam: Exam,
    codec: Codec,
    grader: Grader,
    shape: ModelShape,
) -> Point:
    """The point of SEAT with a calibrated threshold, from episodes that ran all their rounds."""
    protocol = build_protocol(arm.params, codec)
    assert isinstance(protocol, Rounds)
    problems = {problem.id: problem for problem in exam.problems}
    recorded: dict[str, list[Recorded]] = {}
    for (name, number), episode in sampler.episodes(arm).items():
        rounds = await rounds_of(protocol, problems[name], episode, codec, grader)
        recorded.setdefault(name, []).append((pools[name][number], rounds))
    return calibrated("3 rounds of 4, calibrated", recorded, shape)


def params_of(request: Request) -> AnyParams:
    """The protocol section that the first arm asks with, by what the request, target and exam say."""
    known = (request.target.protocol if isinstance(request.target, ModelTarget) else None) or (
        request.exam.protocol
    )
    if isinstance(request.target, EndpointTarget):
        if request.protocol not in (None, "sequential"):
            raise ConfigError(
                f"--protocol {request.protocol}: an endpoint is asked for whole answers\n  fix: leave it out"
            )
        params: AnyParams = default_params("sequential")
        if known is not None:
            params = params.model_copy(update={"answer": known.answer})
    elif known is not None and request.protocol in (None, known.name):
        params = known
    else:
        params = default_params(request.protocol or "sequential")
    return with_settings(params, dict(request.settings))


def report(
    request: Request,
    params: AnyParams,
    outcomes: Sequence[Outcome],
    pools: Mapping[str, Sequence[Sample]],
    points: Sequence[Point],
    shape: ModelShape | None,
) -> dict[str, Any]:
    """Print table and figures and write the folder. -> the document."""
    from rl.evaluation.strategy_figure import draw_strategies  # what is refused needs no matplotlib

    ungraded = {outcome.problem_id for outcome in outcomes if outcome.correct is None}
    graded = {problem: pool for problem, pool in pools.items() if problem not in ungraded}
    if not graded:
        reason = next((outcome.reason for outcome in outcomes if outcome.correct is None), "")
        raise EngineError(f"evaluation: no problem could be graded ({reason})\n  fix: check the verifier")
    at_k = figures_at_k(graded, resamples=RESAMPLES)
    kept = [*after_the_fact(graded, shape), *(points if len(graded) == len(pools) else [])]
    rows = compare(kept, resamples=RESAMPLES)
    law = width_law([[s.critical_tokens for s in graded[problem]] for problem in sorted(graded)])
    title = (
        f"{request.target.name} on {request.exam.name}: {len(graded)} problems x {request.samples} samples, "
        f"temperature {request.temperature:g}"
    )
    print_table(f"{title}; costs are means of a problem; differences in points at equal cost", rows)
    lines = [*at_k_lines(at_k), *losers(rows), *law_lines(law)]
    if ungraded:
        lines.append(f"{len(ungraded)} problems with an answer that could not be graded are left out.")
    print("\n".join(lines))
    draw_strategies(request.out / "strategies.png", kept, title=title)
    (request.out / "strategies.md").write_text(
        f"{title}\n\n{markdown(rows)}\n\n" + "\n".join(f"- {line}" for line in lines) + "\n", encoding="utf-8"
    )
    found = document(
        rows,
        at_k,
        target=request.target.name,
        exam=request.exam.name,
        problems=len(graded),
        ungraded=len(ungraded),
        samples=request.samples,
        temperature=request.temperature,
        protocol=params.model_dump(mode="json"),
        shape=None if shape is None else asdict(shape),
        width_law=[asdict(width) for width in law],
    )
    write_json(request.out / "strategies.json", found, sort_keys=False)
    print(f"wrote {request.out}/strategies.{{json,md,png}}")
    return found


def _ensure_room(target: ModelTarget, exam: Exam, params: AnyParams, needed: Any) -> None:
    longest, problem = max((needed(exam.task.prompt(problem)), problem.id) for problem in exam.problems)
    if longest > target.max_length:
        raise ConfigError(
            f"{target.name}: a call of problem {problem!r} takes up to {longest} tokens, the model has "
            f"{target.max_length}\n  fix: raise --max-length, or lower the limits of {params.name} with --set"
        )
