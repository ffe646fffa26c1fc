"""Samples of an OpenAI-compatible endpoint: text in, text out, tokens as the server counts them.

Nothing is launched. A server tells no token ids, so strategies that need them (`set_cover`) are left out; so
are eFLOPs, since the shape of the model is not known.
"""

import asyncio
import math
import os
import time
from pathlib import Path
from typing import Any

from openai import APIError, AsyncOpenAI
from openai.types.chat import ChatCompletion

from data.episodes.trajectory import ThreadOutcome
from data.errors import ConfigError, EngineError
from data.tasks.problem import Problem
from data.text.normalise import NORMALISERS
from rewards.verifiers.verdict import Verdict
from rl.config.fingerprint import science
from rl.evaluation.eflops import ClockedCall
from rl.evaluation.outcome_file import OutcomeFile
from rl.evaluation.outcomes import Outcome, Said
from rl.evaluation.strategies.sample import Sample
from rl.harness.arms import Arm
from rl.harness.exam import Exam
from rl.harness.grading import Grader
from rl.harness.model_samples import digest
from rl.harness.target import EndpointTarget
from rl.seeds import purpose_seed
from rl.tracking.episode_progress import EpisodeProgress
from rollout.protocols import AnyParams
from rollout.protocols.sequential import Sequential
from rollout.protocols.shared.answers import AnswerFormat
from rollout.seeds import call_seed, episode_seed

LIVE_REQUESTS = 16
"""Requests that are in flight at once."""
NO_KEY = "none"
"""Key sent where OPENAI_API_KEY is not set: local servers want any."""


class EndpointSampler:
    """Samples arms from an endpoint; `async with`."""

    def __init__(
        self,
        target: EndpointTarget,
        exam: Exam,
        *,
        temperature: float,
        seed: int,
        out: Path,
    ) -> None:
        """`out`: folder of the outcomes files, which a later start resumes from."""
        self._target, self._exam, self._temperature, self._seed = target, exam, temperature, seed
        self._out = out
        self._client = AsyncOpenAI(base_url=target.url, api_key=os.environ.get("OPENAI_API_KEY") or NO_KEY)
        self._room = asyncio.Semaphore(LIVE_REQUESTS)

    async def samples(self, arm: Arm, grader: Grader) -> tuple[list[Outcome], dict[str, list[Sample]]]:
        """-> (outcomes, samples of every problem) of one arm, from its file as far as it goes.

        Raises ConfigError for a request that the server refuses, EngineError when it cannot be reached.
        """
        problems = {problem.id: (number, problem) for number, problem in enumerate(self._exam.problems)}
        keys = [(problem, sample) for problem in problems for sample in range(arm.samples)]
        with OutcomeFile(self._out / f"{arm.file}.jsonl", self._setting(arm), keys, keep=0) as file:
            for warning in file.warnings:
                print(f"warning: {warning}", flush=True)
            missing = file.missing()
            progress = EpisodeProgress(
                f"{arm.strategy}, {arm.setting}", total=len(keys), kept=len(keys) - len(missing)
            )

            async def one(key: tuple[str, int]) -> None:
                async with self._room:
                    outcome = await self._outcome(arm, grader, *problems[key[0]], key[1])
                file.append(outcome, None)
                progress.done += 1

            printing = asyncio.create_task(progress.print_regularly())
            tasks = [asyncio.create_task(one(key)) for key in missing]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in [*tasks, printing]:
                    task.cancel()
            outcomes = file.finish() if missing or not file.complete else file.outcomes()
        pools: dict[str, list[Sample]] = {}
        for outcome in outcomes:
            pools.setdefault(outcome.problem_id, []).append(_sample(outcome))
        return outcomes, pools

    async def _outcome(self, arm: Arm, grader: Grader, number: int, problem: Problem, sample: int) -> Outcome:
        began = time.monotonic()
        seed = call_seed(episode_seed(purpose_seed(self._seed, arm.strategy), number, sample), (), 0)
        reply = await self._ask(arm, problem, seed)
        seconds = time.monotonic() - began
        if not reply.choices or reply.usage is None:
            raise EngineError(f"{self._target.url}: the reply has no choices or no usage")
        choice = reply.choices[0]
        text = choice.message.content or ""
        place = arm.params.answer.find(text)
        answer = None if place is None else text[slice(*place)]
        judged = await grader.judge(problem, answer)
        normalise = NORMALISERS[self._exam.normaliser(arm.params)]
        tokens, cut = reply.usage.completion_tokens, choice.finish_reason == "length"
        return Outcome(
            problem_id=problem.id,
            sample=sample,
            correct=None if judged.verdict is None else judged.verdict is Verdict.CORRECT,
            total_tokens=tokens,
            critical_tokens=tokens,
            critical_seconds=seconds,
            threads=0,
            unique_threads=0,
            forked=False,
            depth=0,
            outcome=ThreadOutcome.TRUNCATED if cut else ThreadOutcome.RETURNED,
            answered=answer is not None,
            reason=judged.reason,
            said=Said(
                answer=None if answer is None else normalise(answer),
                prompt_tokens=reply.usage.prompt_tokens,
                mean_logprob=_mean_logprob(reply),
            ),
        )

    async def _ask(self, arm: Arm, problem: Problem, seed: int) -> ChatCompletion:
        try:
            return await self._client.chat.completions.create(
                model=self._target.name,
                messages=messages(self._exam, problem, arm.params),
                temperature=self._temperature,
                max_tokens=getattr(arm.params, "max_tokens", None),
                seed=seed >> 32,  # some servers take 32 bits
                logprobs=True,
            )
        except APIError as error:
            what = f"{self._target.url}: {error.message}"
            status = getattr(error, "status_code", None)
            if status is None or status >= 500:
                raise EngineError(f"{what}\n  fix: start the server, then the same command again") from error
            raise ConfigError(f"{what} (status {status})\n  fix: check --model, --set and the key") from error

    def _setting(self, arm: Arm) -> dict[str, Any]:
        """All that decides what is asked and how answers are graded."""
        return {
            "url": self._target.url,
            "model": self._target.name,
            "protocol": science(arm.params),
            "task": science(self._exam.section),
            "problems": digest([[p.id, p.task, p.fields] for p in self._exam.problems]),
            "samples": arm.samples,
            "temperature": self._temperature,
            "seed": self._seed,
        }

    async def __aenter__(self) -> "EndpointSampler":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.close()


def messages(exam: Exam, problem: Problem, params: AnyParams) -> list[Any]:
    """The conversation that is sent: as `sequential` asks a chat model, with the answer format in words. The
    framing may change it: `instructions: {solo: ...}`, and `system` of a chat.
    """
    prompt, framing = exam.task.prompt(problem), params.framing
    text, system = Sequential.roles["solo"].instruction, None
    if framing is not None and framing.kind != "tags":
        text = framing.instructions.get("solo", text)
        system = framing.system if framing.kind == "chat" else None
    asked = text.replace("{answer}", AnswerFormat(params.answer).phrase()).replace("{problem}", prompt.text)
    history = [{"role": message.role, "content": message.content} for message in prompt.history]
    if system is not None and not any(message["role"] == "system" for message in history):
        history.insert(0, {"role": "system", "content": system})
    return [*history, {"role": "user", "content": asked}]


def _mean_logprob(reply: ChatCompletion) -> float | None:
    told = reply.choices[0].logprobs
    values = [token.logprob for token in told.content or ()] if told is not None else []
    return math.fsum(values) / len(values) if values else None


def _sample(outcome: Outcome) -> Sample:
    assert outcome.said is not None, "rows of this file are an endpoint's"
    # Ids are not known, but all samples of a problem have the same prompt.
    prompt = (0,) * outcome.said.prompt_tokens
    return Sample(
        answer=outcome.said.answer,
        correct=outcome.correct is True,
        calls=(ClockedCall(context=prompt, begin=0, length=outcome.total_tokens),),
        seconds=outcome.critical_seconds,
        mean_logprob=outcome.said.mean_logprob,
    )
