"""An engine with other weights than the published ones is found before any token of it is trained and before
the next version is published; nothing else waits for the canary.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from episodes import call, episode
from pydantic import TypeAdapter

from data.episodes.trajectory import Episode, StopReason, VersionSpan
from data.errors import PublishError
from data.ledger.ledger import Ledger
from data.tasks.problem import Problem
from data.text.prompt import Prompt
from rewards.compose import RewardConfig
from rewards.score import Score
from rl.config.stages import RlStage
from rl.controller.canary import MOST_TOKENS, Canary, canary_text, verify
from rl.controller.progress import LoopActivity
from rl.stages.reinforce import ReinforcementLoop
from rollout.engines.base import EngineRequest, EngineResult
from rollout.protocols.sequential import SequentialParams

TERMS = TypeAdapter(tuple[RewardConfig, ...]).validate_python([{"name": "correct"}])
SEQUENTIAL = SequentialParams(name="sequential")
ASKED = Canary(version=3, context=(5, 6), output=(7, 8), expected=(-1.0, -2.0))


def answer(*logprobs: float, version: int = 3) -> EngineResult:
    """An answer to a prompt of one id more than there are log-probabilities."""
    return EngineResult(
        output=(9,), logprobs=(-0.5,), versions=(VersionSpan(version=version, start=0, stop=1),),
        stop=StopReason.LENGTH, cached_tokens=0, started_s=0.0, finished_s=1.0, prompt_logprobs=logprobs,
    )  # fmt: skip


def check(*answers: EngineResult) -> None:
    async def canary(request: EngineRequest) -> list[EngineResult]:
        assert request.prompt == (5, 6, 7, 8) and request.score_prompt and request.temperature == 1.0
        return list(answers)

    asyncio.run(verify(ASKED, SimpleNamespace(canary=canary), 1e-3))


def test_engines_that_agree() -> None:
    """The first log-probability belongs to the context and is not compared; without engines nothing is."""
    check(answer(-9.0, -1.0005, -2.0), answer(-1.0, -1.0, -1.9995))
    check()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (answer(-9.0, -1.0, -2.002), "up to 2.00e-03"),
        (answer(-9.0, math.nan, -2.0), "up to nan"),
        (answer(-9.0, -1.0, math.nan), "up to nan"),
        (answer(-9.0, -1.0, -2.0, version=2), r"as version \[2\]"),
    ],
)
def test_one_that_does_not(wrong: EngineResult, said: str) -> None:
    with pytest.raises(PublishError, match=said):
        check(answer(-9.0, -1.0, -2.0), wrong)


def test_the_text_fits_the_engine() -> None:
    """`call(0, 0, n)` has a context of one id here, and n of output."""
    said = episode((call(0, 0, 100),))
    context, output = canary_text([said], 1000) or ((), ())
    assert len(output) == MOST_TOKENS and output == said.calls[0].output[:MOST_TOKENS]
    room = len(context) + 11
    assert canary_text([said], room) == (context, output[:10])
    assert canary_text([said], len(context) + 1) is None
    assert canary_text([episode(())], 1000) is None
    assert canary_text([episode(()), said], room) == (context, output[:10])


class World:
    """A loop whose engines answer the canary when, and as, the test says."""

    def __init__(self, tmp_path: Path, *, staleness: int) -> None:
        self.trained: list[int] = []
        self.published: list[int] = []
        self.may_answer = asyncio.Event()
        self.off_by = 0.0
        self.version_of: Callable[[], int] = lambda: self.loop.admission.version
        stage = RlStage(
            name="rl", kind="rl", steps=5, groups_per_step=1, samples_per_group=2, learning_rate=1e-3,
            forest_tokens=64, staleness=staleness, drop_zero_variance=False,
        )  # fmt: skip
        context = SimpleNamespace(
            directory=SimpleNamespace(path=tmp_path, stage=lambda name: tmp_path),
            recipe=SimpleNamespace(
                seed=0, protocol_of=lambda stage: SEQUENTIAL, rewards_of=lambda stage: TERMS,
                engine=SimpleNamespace(dtype="float32"), model=SimpleNamespace(max_length=64),
            ),
            problems=lambda stage, split: [Problem("0", "any", {})],
            task=lambda stage: SimpleNamespace(prompt=lambda problem: Prompt("1")),
            ledger=Ledger.open(tmp_path / "ledger.sqlite"),
            report=lambda stage_name, kind, what: None,
        )  # fmt: skip
        self.ledger = context.ledger
        self.ledger.open_stage(stage.name, step=0, next_group=0)
        engines = SimpleNamespace(
            run_group=self.run_group, occupancy=dict, publish=self.publish, canary=self.canary,
            new_file=lambda: tmp_path / "weights",
        )  # fmt: skip
        learner = SimpleNamespace(
            step=self.learn, logprobs=self.logprobs, publish=self.write, close=lambda: None
        )
        self.loop = ReinforcementLoop(
            context,  # type: ignore[arg-type]
            stage,
            engines,  # type: ignore[arg-type]
            learner,  # type: ignore[arg-type]
            SimpleNamespace(score=self.score),  # type: ignore[arg-type]
            LoopActivity("test"),
            step=0,
            next_group=0,
        )

    async def run_group(self, params: Any, specs: Any, moved: Any) -> tuple[list[Episode], None]:
        span = VersionSpan(version=self.version_of(), start=0, stop=3)
        said = replace(call(0, 0, 3), logprobs=(-1.0,) * 3, versions=(span,))
        return [replace(episode((said,)), id=spec.id) for spec in specs], None

    async def score(self, problem: Problem, episodes: Any, reference: Any) -> tuple[Score, ...]:
        return tuple(
            Score(value=float(n), components={"correct": float(n)}, correct=bool(n))
            for n, _ in enumerate(episodes)
        )

    async def learn(self, step: int, groups: Any) -> dict[str, float]:
        self.trained.append(step)
        return {}

    async def logprobs(self, context: Any, output: Any) -> list[float]:
        return [-1.0] * len(output)

    async def write(self, path: Path) -> str:
        return ""

    async def publish(self, path: Path, version: int, checksum: str) -> list[Any]:
        self.published.append(version)
        return []

    async def canary(self, request: EngineRequest) -> list[EngineResult]:
        version = self.published[-1]
        await self.may_answer.wait()
        said = [-1.0 + self.off_by] * (len(request.prompt) - 1)
        return [answer(*said, version=version)]

    async def goes_on(self) -> bool:
        """Whether another step ends while the canary is not answered."""
        step = asyncio.ensure_future(self.loop._one_step())
        done, _ = await asyncio.wait([step], timeout=0.5)
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
        return bool(done)


def play(tmp_path: Path, staleness: int, scene: Callable[[World], Any]) -> None:
    async def staged() -> None:
        world = World(tmp_path, staleness=staleness)
        with closing(world.ledger):
            await world.loop._one_step()
            assert world.trained == [0] and world.published == [1]
            await scene(world)
            await world.loop.close()

    asyncio.run(staged())


def test_tokens_of_a_version_wait_for_its_canary(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        assert not await world.goes_on()
        assert world.trained == [0], "the second step's tokens are of version 1"

    play(tmp_path, 0, scene)


def test_older_tokens_do_not_and_the_next_weights_do(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        assert not await world.goes_on()
        assert world.trained == [0, 1], "the second step's tokens were sampled by version 0"
        assert world.published == [1]

    play(tmp_path, 1, scene)


def test_a_wrong_answer_ends_the_stage(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.off_by = 0.01
        world.may_answer.set()
        with pytest.raises(PublishError, match="not the published ones"):
            await world.loop._one_step()
        assert world.trained == [0]

    play(tmp_path, 0, scene)
