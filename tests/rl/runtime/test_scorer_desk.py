"""The desk of scorers: it answers, outlives scorers that die or hang, and its own death."""

import asyncio
import os
import time
from collections.abc import Iterator

import pytest
import ray

from data.tasks.problem import Problem
from rl.config.scorer import ScorerConfig
from rl.runtime.ray_session import Runtime
from rl.runtime.scorer_desk import HostedDesk
from rollout.commands import ScoredText
from rollout.scoring import ScoreRequest, TextScores

pytestmark = [pytest.mark.slow, pytest.mark.long]

PROBLEM = Problem("p", "words", {})


class Critic:
    """Scores a text by its length; dies of 13 tokens, hangs at 14."""

    def ready(self) -> None:
        pass

    def score_texts(
        self, problem: Problem, requests: list[ScoreRequest], first: int
    ) -> Iterator[TextScores | str]:
        for request in requests[first:]:
            sizes = [len(text.output) for text in request.texts]
            if 13 in sizes:
                os._exit(1)
            if 14 in sizes:
                time.sleep(1000)
            yield tuple((size / 10,) for size in sizes)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.getcwd()
    with Runtime(tmp_path_factory.mktemp("run")):
        yield
    os.chdir(before)


def request(*sizes: int, problem: Problem | None = PROBLEM) -> ScoreRequest:
    texts = tuple(ScoredText(context=(1,), output=(2,) * size, ended=True) for size in sizes)
    return ScoreRequest(problem=problem, texts=texts)


def test_dead_and_hanging_scorers_are_replaced_and_a_dead_desk_comes_back(session: None) -> None:
    async def scenario() -> None:
        reports: list[str] = []
        desk = HostedDesk(
            ray.remote(Critic).options(num_cpus=0).remote,  # type: ignore[attr-defined]
            ScorerConfig(labels="both", seconds=4.0),
            {"num_cpus": 0},
            lambda kind, what: reports.append(f"{kind}: {what}"),
        )
        assert await desk.actor.score.remote(request(1, 2)) == ((0.1,), (0.2,))
        assert "which problem" in await desk.actor.score.remote(request(1, problem=None))
        assert await desk.actor.score.remote(request(13)) == "its process died"
        late, good = desk.actor.score.remote(request(14)), desk.actor.score.remote(request(3))
        assert await late == "not scored within 4 s" and await good == ((0.3,),)
        assert any(line.startswith("scorer: scorer worker 0 is replaced") for line in reports)
        ray.kill(desk.actor, no_restart=False)
        assert await desk.actor.score.remote(request(4)) == ((0.4,),)
        desk.close()

    asyncio.run(scenario())
