"""Reward workers that raise, hang, die and never start, real ones: only the episode concerned is ungraded."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from data.errors import RewardError
from data.tasks.countdown import Countdown
from data.tasks.problem import Problem
from rewards.score import Opinion, Score, StepScore, Ungraded
from rl.runtime import worker_pool
from rl.runtime.ray_session import Runtime
from rl.runtime.reward_pool import SCORERS, RewardPool
from rl.runtime.scorer_actor import ScorerActor
from rl.runtime.worker_pool import MOST_STARTS, WorkerPool
from rl.scorers.portions import portions
from tests.support import scorer_lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PROBLEM = Problem(id="p", task="words", fields={})


class Verifier:
    """A reward worker whose episodes are words: what to do with them."""

    def ready(self) -> None:
        pass

    def score_group(self, problem: Problem, episodes: list[str], first: int) -> Iterator[Score]:
        for episode in episodes[first:]:
            if episode == "raise":
                raise ValueError("cannot be read")
            if episode == "hang":
                time.sleep(1000)
            if episode == "die":
                os._exit(1)
            if episode == "slow":
                time.sleep(0.5)
            if episode == "clock":
                yield Score(value=time.monotonic())
                continue
            yield Score(value=float(len(episode)))


class Scorer:
    """A scorer whose episodes are words; it dies once on `mortal`, and on `die` always."""

    def ready(self) -> None:
        pass

    def score_group(self, problem: Problem, episodes: list[str], first: int) -> Iterator[Opinion]:
        for episode in episodes[first:]:
            if episode == "hang":
                time.sleep(1000)
            if episode == "die":
                os._exit(1)
            yield (StepScore(call=0, start=0, stop=1, value=len(episode) / 10),)

    def score_portions(
        self, problem: Problem, episodes: list[str], first: int, ahead: int
    ) -> Iterator[list[Opinion]]:
        yield from portions(self.score_group(problem, episodes, first), ahead)


class Asking:
    """A reward worker whose values are what the scorer says."""

    def ready(self) -> None:
        pass

    def score_group(
        self, problem: Problem, episodes: list[str], first: int, opinions: list[Opinion]
    ) -> Iterator[Score]:
        for opinion in opinions[first:]:
            if isinstance(opinion, str):
                yield Score(value=None, reason=opinion, ungraded=Ungraded.TERM)
            else:
                yield Score(value=opinion[0].value)


class Unstartable(Verifier):
    """A reward worker whose constructor fails."""

    def __init__(self) -> None:
        raise RuntimeError("no such judge")


class Sleepy(Verifier):
    """A reward worker that never finishes its start."""

    def ready(self) -> None:
        time.sleep(1000)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.getcwd()
    with Runtime(tmp_path_factory.mktemp("run")):
        yield
    os.chdir(before)


class Office:
    """A reward pool, and what it reported."""

    def __init__(
        self, *, workers: int = 1, seconds: float, start_seconds: float = 60.0, kind: type = Verifier
    ) -> None:
        self.reports: list[str] = []
        self.pool = RewardPool(
            ray.remote(kind).options(num_cpus=0).remote,  # type: ignore[call-overload]
            workers=workers,
            seconds=seconds,
            start_seconds=start_seconds,
            report=lambda kind, what: self.reports.append(f"{kind}: {what}"),
        )

    async def score(self, *episodes: str) -> list[Score]:
        found: Any = episodes
        return await self.pool.score(PROBLEM, found, ray.put(found))


def values(scores: list[Score]) -> list[float | None]:
    return [score.value for score in scores]


@pytest.mark.parametrize(
    ("bad", "why", "reason", "report"),
    [
        ("raise", Ungraded.FAULT, "raised ValueError('cannot be read')", "scoring of p raised ValueError"),
        ("hang", Ungraded.TIMEOUT, "not scored within 4 s", "reward worker 0 is replaced: not scored within"),
        ("die", Ungraded.FAULT, "its process died", "reward worker 0 is replaced: "),
    ],
)
def test_a_bad_episode_is_ungraded_and_spoils_no_other(
    session: None, bad: str, why: Ungraded, reason: str, report: str
) -> None:
    async def scenario() -> None:
        office = Office(seconds=4.0)
        scores = await office.score("good", bad, "better")
        assert values(scores) == [4.0, None, 6.0]
        assert (scores[1].ungraded, scores[1].reason) == (why, reason)
        assert any(report in line for line in office.reports)
        assert values(await office.score("fine")) == [4.0]
        office.pool.close()

    asyncio.run(scenario())


def test_an_episode_begins_when_the_score_before_it_has_been_received(
    session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies at once would take a score along that is still on its way."""
    receive = worker_pool._receive

    async def receive_late(stream: Any) -> Score | None:
        await asyncio.sleep(0.5)
        return await receive(stream)

    async def scenario() -> None:
        office = Office(seconds=20.0)
        await office.score("warm")
        monkeypatch.setattr(worker_pool, "_receive", receive_late)
        begun = [score.value or 0.0 for score in await office.score("clock", "clock", "clock")]
        assert begun[1] - begun[0] > 0.2 and begun[2] - begun[1] > 0.4
        office.pool.close()

    asyncio.run(scenario())


def test_one_answer_of_eight_that_hangs_costs_its_limit_and_no_more(session: None) -> None:
    """Seven are graded within the limit + 5 s: a spare worker starts before the limit, and nothing is asked
    twice.
    """

    async def scenario() -> None:
        office = Office(seconds=10.0)
        await office.score("warm")
        began = time.monotonic()
        scores = await office.score("hang", *("graded",) * 7)
        elapsed = time.monotonic() - began
        assert values(scores) == [None, *(6.0,) * 7]
        assert scores[0].ungraded is Ungraded.TIMEOUT
        assert len(office.reports) == 1
        assert 10.0 <= elapsed <= 15.0
        office.pool.close()

    asyncio.run(scenario())


def test_what_waits_for_a_worker_does_not_use_up_its_time(session: None) -> None:
    """Two dozen groups of half a second for two workers that have 5 s for each episode."""

    async def scenario() -> None:
        office = Office(workers=2, seconds=5.0)
        await asyncio.gather(office.score("a"), office.score("b"))
        began = time.monotonic()
        scores = await asyncio.gather(*(office.score("slow") for _ in range(24)))
        assert [values(group) for group in scores] == [[4.0]] * 24
        assert office.reports == []
        assert time.monotonic() - began >= 6.0, "two at a time, half a second each"
        office.pool.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("kind", "start_seconds", "reason"),
    [(Unstartable, 60.0, "no such judge"), (Sleepy, 3.0, "it did not start within 3 s")],
)
def test_a_worker_that_never_starts_ends_the_run_with_the_reason(
    session: None, kind: type, start_seconds: float, reason: str
) -> None:
    async def scenario() -> None:
        office = Office(seconds=1.0, start_seconds=start_seconds, kind=kind)
        with pytest.raises(RewardError, match=f"(?s)worker 0: {MOST_STARTS} processes .*{reason}.*fix:"):
            await office.score("good")
        office.pool.close()

    asyncio.run(scenario())


def test_a_worker_that_dies_on_every_episode_ends_the_run(session: None) -> None:
    async def scenario() -> None:
        office = Office(seconds=20.0)
        with pytest.raises(RewardError, match="processes died one after the other"):
            await office.score(*("die",) * 8)
        office.pool.close()

    asyncio.run(scenario())


def test_a_group_that_is_given_up_leaves_the_worker_free(session: None) -> None:
    async def scenario() -> None:
        office = Office(seconds=20.0)
        await office.score("warm")
        hanging = asyncio.create_task(office.score("hang"))
        await asyncio.sleep(0.5)
        hanging.cancel()
        assert values(await office.score("next")) == [4.0]
        assert office.reports == []
        office.pool.close()

    asyncio.run(scenario())


def one_scorer() -> WorkerPool[Opinion]:
    """A pool of one `Scorer`, which has 4 s for an episode."""
    start = ray.remote(Scorer).options(num_cpus=0).remote  # type: ignore[attr-defined]
    return WorkerPool(SCORERS, start, workers=1, seconds=4.0, start_seconds=60.0)


@pytest.mark.parametrize(("bad", "reason"), [("hang", "not scored within 4 s"), ("die", "its process died")])
def test_an_episode_without_an_opinion_is_ungraded_and_never_worth_nothing(
    session: None, bad: str, reason: str
) -> None:
    async def scenario() -> None:
        reports: list[str] = []
        pool = RewardPool(
            ray.remote(Asking).options(num_cpus=0).remote,  # type: ignore[attr-defined]
            workers=1,
            seconds=20.0,
            start_seconds=60.0,
            report=lambda kind, what: reports.append(f"{kind}: {what}"),
            scorers=one_scorer(),
        )
        words: Any = ("good", bad, "better")
        scores = await pool.score(PROBLEM, words, ray.put(words))
        assert values(scores) == [0.4, None, 0.6] and scores[1].reason == reason
        assert any(line.startswith("scorer: scorer worker 0 is replaced") for line in reports)
        pool.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(("bad", "reason"), [("hang", "not scored within 4 s"), ("die", "its process died")])
def test_a_group_that_waits_at_a_scorer_is_not_to_blame(session: None, bad: str, reason: str) -> None:
    """One worker has three groups, of which one waits at it: only the bad episode has no opinion."""

    async def scenario() -> None:
        reports: list[str] = []
        pool = one_scorer()
        pool.report = lambda kind, what: reports.append(f"{kind}: {what}")
        groups: list[Any] = [("good", bad, "better"), ("next", "words"), ("last",)]
        found = await asyncio.gather(*(pool.results(PROBLEM, group, ray.put(group)) for group in groups))
        said = [
            [opinion if isinstance(opinion, str) else opinion[0].value for opinion in group]
            for group in found
        ]
        assert said == [[0.4, reason, 0.6], [0.4, 0.5], [0.4]]
        # A limit that is over is not tried again. A death is, and the first may take along the good result.
        replaced = len([line for line in reports if "is replaced" in line])
        assert replaced == 1 if bad == "hang" else 2 <= replaced <= 3
        pool.close()

    asyncio.run(scenario())


class Bench:
    """One real scorer, and what its pool reported."""

    def __init__(self, model_dir: Path, tokenizer_dir: Path, seconds: float) -> None:
        self.reports: list[str] = []
        said = scorer_lab.SAID
        self.episodes = [
            scorer_lab.one_call(tokenizer_dir, text)
            for text in (said, said.replace("10 2 36", "10 2 13"), said)
        ]
        settings = scorer_lab.settings(model_dir, tokenizer_dir)
        self.pool: WorkerPool[Opinion] = WorkerPool(
            SCORERS,
            lambda: ScorerActor.options(num_cpus=0).remote(settings, Countdown().params),
            workers=1,
            seconds=seconds,
            start_seconds=150.0,
            report=lambda kind, what: self.reports.append(f"{kind}: {what}"),
        )

    async def opinions(self) -> list[Opinion]:
        return await self.pool.results(scorer_lab.PROBLEM, self.episodes, ray.put(self.episodes))

    def stop_its_process(self) -> psutil.Process:
        """It is there and does nothing any more."""
        (process,) = (
            child
            for child in psutil.Process().children(recursive=True)
            if child.cmdline() and child.cmdline()[0].startswith("ray::ScorerWorker")
        )
        process.send_signal(signal.SIGSTOP)
        return process


@pytest.mark.timeout(600)
def test_a_scorer_that_is_killed_says_the_same_afterwards(
    session: None, tiny_scorer: Path, tiny_model_dir: Path
) -> None:
    async def scenario() -> None:
        bench = Bench(tiny_scorer, tiny_model_dir, seconds=100.0)
        before = await bench.opinions()
        assert all(isinstance(opinion, tuple) and len(opinion) == 3 for opinion in before)
        assert before[0] == before[2] != before[1] and bench.reports == []
        process = bench.stop_its_process()
        asked = asyncio.create_task(bench.opinions())
        await asyncio.sleep(0.2)
        process.kill()
        assert await asked == before, "to the bit"
        assert any(line.startswith("scorer: scorer worker 0 is replaced") for line in bench.reports)
        bench.pool.close()

    asyncio.run(scenario())


@pytest.mark.timeout(600)
def test_a_scorer_that_hangs_costs_one_opinion(
    session: None, tiny_scorer: Path, tiny_model_dir: Path
) -> None:
    async def scenario() -> None:
        bench = Bench(tiny_scorer, tiny_model_dir, seconds=10.0)
        before = await bench.opinions()
        bench.stop_its_process()
        assert await bench.opinions() == ["not scored within 10 s", *before[1:]]
        assert any("is replaced: not scored within 10 s" in line for line in bench.reports)
        bench.pool.close()

    asyncio.run(scenario())


@pytest.mark.timeout(600)
def test_a_scorer_whose_file_is_truncated_ends_the_run_with_its_name(
    session: None, tiny_scorer: Path, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(worker_pool, "MOST_STARTS", 2)  # each of them imports torch
        bench = Bench(scorer_lab.truncated(tiny_scorer, tmp_path / "broken"), tiny_model_dir, seconds=20.0)
        with pytest.raises(RewardError, match=r"(?s)scorer worker 0: 2 .*broken: the reward model cannot be"):
            await bench.opinions()
        bench.pool.close()

    asyncio.run(scenario())
