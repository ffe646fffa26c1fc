"""`braid check --deep`: protocols, tasks, terms and verifiers do what the tests ask of Braid's own.

random tokens      episodes end within every budget, with every sampled token in their record
demonstrations     are right, fit their limits, and survive the file format of episodes
terms              are finite, the same twice, and count under their own name
verifiers          answer any text with an outcome, and none of them is a fault
processes          the recipe is the same in another process
"""

import math
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence

from data.episodes.topology import critical_tokens, total_tokens
from data.episodes.trajectory import Episode
from data.episodes.wire import decode_episode, encode_episode
from data.errors import BraidError, ConfigError
from data.tasks.base import SolvedTask, Task
from data.tasks.problem import Problem
from data.tasks.registry import build_task
from data.text.codec import Codec
from rewards.compose import LARGEST, TERMS, RewardConfig, placing_fault
from rewards.group_terms import score_alone
from rewards.score import Judged
from rewards.verifiers.base import OutcomeKind, Sample
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.verdict import Judge
from rl.config.base import ConfigIssue
from rl.config.recipe import Recipe
from rl.config.stages import ExportStage, StageConfig
from rl.config.task import DatasetTask, JudgeTask
from rl.preflight.check_result import CheckResult
from rl.problems import Datasets, make_problems
from rollout.commands import Generate
from rollout.demonstrate import demonstrate
from rollout.offline import babble, drive
from rollout.protocols import ThinkingProtocol, build_protocol, vocabulary
from rollout.protocols.shared.params import Budgets

EPISODES = 60
"""Episodes of random tokens of each protocol."""
_PROBLEMS = 20
_MOST_TOKENS = 50_000
"""Sampled tokens after which an episode counts as endless."""
_ODD_ANSWERS = ("", " ", "0", "-1/0", "\\boxed{", "9" * 5000, "{" * 2000, "\u00e9\u202e\u0000", "<answer>")
_SECONDS = 120.0


def check_deeply(recipe: Recipe) -> Iterator[CheckResult]:
    """All of it, once for every protocol, task and list of terms of the recipe.

    Raises ConfigError with the key of what broke a promise, and how.
    """
    datasets = Datasets(recipe)
    seen: list[object] = []
    for stage in recipe.stages:
        used = (recipe.protocol_of(stage), recipe.task_of(stage), recipe.rewards_of(stage))
        if isinstance(stage, ExportStage) or used in seen:
            continue
        seen.append(used)
        yield from _stage(recipe, stage, datasets)
    verifiers = [config.verifier for config in (recipe.task, *map(recipe.task_of, recipe.stages))]
    for params in dict.fromkeys(one for one in verifiers if one is not None):
        with VerifierPool(params) as pool:
            odd = [Sample(question="?", answer=text, gold=("0",)) for text in _ODD_ANSWERS]
            for sample, outcome in zip(odd, pool.verify(odd), strict=True):
                if outcome.kind is OutcomeKind.FAULT and params.verifies_gold:
                    reason = f"is a fault for the answer {sample.answer[:20]!r}: {outcome.reason}"
                    raise _broken(recipe, "task.verifier.name", params.name, reason)
        yield CheckResult(about=f"{params.name} verifier", found=f"an outcome for {len(odd)} odd answers")
    yield _crosses(recipe)


def _stage(recipe: Recipe, stage: StageConfig, datasets: Datasets) -> Iterator[CheckResult]:
    config, params, codec = recipe.task_of(stage), recipe.protocol_of(stage), datasets.codec
    protocol, task = build_protocol(params, codec), build_task(config.params)
    if isinstance(config, DatasetTask):
        problems = [placed.problem for placed in datasets.splits(config)["train"].problems]
    elif isinstance(config, JudgeTask) and config.params.stage is not None:
        return  # its problems are made by the run
    else:
        problems = make_problems(task, config, "train")
    problems = problems[:_PROBLEMS]
    about = f"{stage.name}: {params.name}"
    made = [
        _random_episode(recipe, protocol, task, problems[number % len(problems)], codec, number)
        for number in range(EPISODES)
    ]
    yield CheckResult(about=about, found=f"{EPISODES} episodes of random tokens end within every budget")
    if isinstance(task, SolvedTask):
        shown = list(_demonstrations(recipe, protocol, task, problems, codec))
        found = f"{len(shown)} of {len(problems)} searches are demonstrated, right, and read back"
        yield CheckResult(about=about, found=found)
        made += shown
    terms = recipe.rewards_of(stage)
    _terms(recipe, terms, task, codec, made)
    names = ", ".join(term.name for term in terms)
    yield CheckResult(about=f"{stage.name}: rewards", found=f"{names}: finite on {len(made)} episodes")


def _broken(recipe: Recipe, key: str, value: str, reason: str) -> ConfigError:
    remedy = "correct the extension" if recipe.extensions else "report this as a fault of Braid"
    return ConfigIssue(key=key, value=value, reason=reason, remedy=remedy).error(recipe.source)


def _random_episode(
    recipe: Recipe, protocol: ThinkingProtocol, task: Task, problem: Problem, codec: Codec, number: int
) -> tuple[Problem, Episode]:
    """An episode of random tokens, every other one under random budgets. Raises ConfigError when it breaks a
    promise.
    """
    rng, max_length, sampled = random.Random(f"braid/deep/{number}"), recipe.model.max_length, [0]
    budgets = protocol.params.budgets if number % 2 else _budgets(rng)
    tried = type(protocol)(protocol.params.model_copy(update={"budgets": budgets}), codec)
    tags, words = vocabulary(protocol.params)
    structural = [index for word in (*tags, *words) for index in _ids(codec, word)]
    talk = babble(rng, structural or list(codec.ends), range(codec.size))

    def say(generate: Generate) -> tuple[int, ...]:
        assert len(generate.prompt) + generate.max_tokens <= max_length, "a call exceeds model.max_length"
        assert sampled[0] <= _MOST_TOKENS, "it does not end"
        return talk(generate)

    try:
        episode = drive(
            tried, task.prompt(problem), say, pick=rng.randrange, max_length=max_length,
            fail=lambda _: rng.random() < 0.1 * (number % 3),
            on_result=lambda result: sampled.__setitem__(0, sampled[0] + len(result.output)),
        )  # fmt: skip
        assert total_tokens(episode) == sampled[0], "sampled tokens are lost"
        assert total_tokens(episode) <= budgets.total_tokens, "it exceeds budgets.total_tokens"
        assert critical_tokens(episode) <= budgets.critical_tokens, "it exceeds budgets.critical_tokens"
        assert {call.role for call in episode.calls} <= set(protocol.roles), "a call has an unknown role"
        assert decode_episode(encode_episode(episode)) == episode, "its record reads back as another episode"
    except Exception as error:  # whatever a user's protocol raises
        reason = f"an episode of random tokens (number {number}) breaks it: {type(error).__name__}: {error}"
        raise _broken(recipe, "protocol.name", protocol.name, reason) from error
    return problem, episode


def _budgets(rng: random.Random) -> Budgets:
    return Budgets(
        width=rng.randint(1, 6),
        depth=rng.randint(0, 3),
        live_calls=rng.choice([1, 2, 64]),
        total_tokens=rng.randint(1, 500),
        critical_tokens=rng.randint(1, 300),
        reserve_tokens=rng.choice([0, 20]),
    )


def _ids(codec: Codec, word: str) -> tuple[int, ...]:
    tag = codec.tag(word)
    return codec.encode(word) if tag is None else (tag,)


def _demonstrations(
    recipe: Recipe, protocol: ThinkingProtocol, task: SolvedTask, problems: Sequence[Problem], codec: Codec
) -> Iterator[tuple[Problem, Episode]]:
    """The demonstrations that fit. Raises ConfigError for one that is wrong, and when none fits."""
    none = True
    for number, problem in enumerate(problems):
        try:
            tree = task.search(problem, random.Random(f"braid/deep/{number}"))
            if any(child.needs for child in tree.children) and not protocol.handles_needs:
                return
            made = demonstrate(
                protocol, task.prompt(problem), tree, id=problem.id, problem_id=problem.id,
                max_length=recipe.model.max_length,
            )  # fmt: skip
            if made is None:
                continue
            ids = made.answer_ids()
            answer = None if ids is None else codec.decode(ids)
            assert answer is not None or tree.solution is None, (
                "it gives no answer, though the search found one"
            )
            assert answer is None or task.check(problem, answer), (
                f"the task's check refuses its answer {answer!r}"
            )
            assert decode_episode(encode_episode(made)) == made, "its record reads back as another episode"
        except Exception as error:  # whatever a user's solver or protocol raises
            reason = f"a demonstration of {problem.id} breaks it: {type(error).__name__}: {error}"
            key, name = "protocol.name", f"{protocol.name} (task {task.name})"
            raise _broken(recipe, key, name, reason) from error
        none = False
        yield problem, made
    if none and problems:
        reason = f"demonstrates none of {len(problems)} searches of task {task.name} within its limits"
        raise _broken(recipe, "protocol.name", protocol.name, reason)


def _terms(
    recipe: Recipe,
    terms: Sequence[RewardConfig],
    task: Task,
    codec: Codec,
    episodes: Sequence[tuple[Problem, Episode]],
) -> None:
    """Every term on every episode, by the task's own check. Raises ConfigError for a broken promise."""
    judge = Judge(task, codec)
    for problem, episode in episodes:
        found = judge.judge(problem, episode)
        if not found.ended:
            continue
        judged = Judged(
            task=task, problem=problem, episode=episode, codec=codec, verdict=found.verdict, share=found.share
        )
        for config in terms:
            try:
                score, again = (score_alone(TERMS[config.name](config), judged) for _ in range(2))
                assert score == again, "it is not the same twice"
                if score.value is not None:
                    assert math.isfinite(score.value), f"its value is {score.value}"
                    assert abs(config.weight * score.value) <= LARGEST, (
                        f"its value {score.value:g} is too large"
                    )
                    fault = placing_fault(score, episode, config.weight)
                    assert not fault, f"it {fault}"
                    named = {config.name: score.value}
                    assert score.components == named, f"its components are {score.components}, not {named}"
            except BraidError:
                continue  # it may refuse to grade
            except Exception as error:  # whatever a user's term raises
                reason = f"an episode of {problem.id} breaks it: {type(error).__name__}: {error}"
                raise _broken(recipe, f"rewards.{config.name}", config.name, reason) from error


def _crosses(recipe: Recipe) -> CheckResult:
    """The recipe is sent to another process, as to Ray's workers. Raises ConfigError when it changes."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "rl.preflight.crossing"],
        input=pickle.dumps(recipe), capture_output=True, env=os.environ, timeout=_SECONDS,
    )  # fmt: skip
    if done.returncode or done.stdout.decode() != recipe.model_dump_json():
        told = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it arrives changed"]
        raise _broken(recipe, "extensions", recipe.name, f"does not cross to another process: {told[0]}")
    return CheckResult(about="processes", found="the recipe is the same in another process")
