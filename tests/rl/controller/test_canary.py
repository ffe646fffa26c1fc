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
from recipe_lab import one_stage

from data.episodes.trajectory import Episode, StopReason, VersionSpan
from data.errors import PublishError
from data.ledger.ledger import Ledger
from data.tasks.problem import Problem
from data.text.prompt import Prompt
from rewards.score import Score
from rl.controller.agreement import Agreement
from rl.controller.canary import KEPT, MOST_TEXTS, MOST_TOKENS, Canary, Examiner, canary_texts, verify
from rl.controller.progress import LoopActivity
from rl.scored_group import ScoredGroup
from rl.stages.reinforce import ReinforcementLoop
from rollout.engines.base import EngineRequest, EngineResult

ASKED = Canary(version=3, texts=[((5, 6), (7, 8)), ((5,), (9,))], expected=(-1.0, -2.0, -3.0), limit=1e-3)


def answer(*logprobs: float, version: int = 3) -> EngineResult:
    """An answer to a prompt of one id more than there are log-probabilities."""
    return EngineResult(
        output=(9,), logprobs=(-0.5,), versions=(VersionSpan(version=version, start=0, stop=1),),
        stop=StopReason.LENGTH, cached_tokens=0, started_s=0.0, finished_s=1.0, prompt_logprobs=logprobs,
    )  # fmt: skip


SECOND = answer(-3.0)


def check(*answers: list[EngineResult]) -> Agreement | None:
    async def canary(requests: list[EngineRequest]) -> list[list[EngineResult]]:
        assert [request.prompt for request in requests] == [(5, 6, 7, 8), (5, 9)]
        assert all(request.score_prompt and request.temperature == 1.0 for request in requests)
        assert len({request.id for request in requests}) == 2
        return list(answers)

    return asyncio.run(verify(ASKED, SimpleNamespace(canary=canary)))


def test_engines_that_agree() -> None:
    """Log-probabilities of contexts are not compared; the worst agreement is returned."""
    found = check([answer(-9.0, -1.0005, -2.0), SECOND], [answer(-1.0, -1.0, -1.9995), answer(-3.001)])
    assert found is not None and found.rms == pytest.approx(math.sqrt((0.0005**2 + 0.001**2) / 3))
    assert check() is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([answer(-9.0, -1.0, -2.004), SECOND], "by 2.31e-03"),  # 0.004 / sqrt(3)
        ([answer(-9.0, -1.0, -2.0), answer(-3.1)], "by 5.77e-02"),  # 0.1 / sqrt(3)
        ([answer(-9.0, math.nan, -2.0), SECOND], "by nan"),
        ([answer(-9.0, -1.0, math.nan), SECOND], "by nan"),
        ([answer(-9.0, -1.0, -2.0), answer(math.inf)], "by inf"),
        ([answer(-9.0, -1.0, -2.0, version=2), SECOND], r"as version \[2, 3\]"),
    ],
)
def test_one_that_does_not(wrong: list[EngineResult], said: str) -> None:
    with pytest.raises(PublishError, match=said):
        check([answer(-9.0, -1.0, -2.0), SECOND], wrong)


def groups_of(*episodes: list[Episode]) -> list[ScoredGroup]:
    return [
        ScoredGroup(
            index=n,
            problem_id="0",
            episodes=tuple(group),
            scores=(Score(value=0.0, components={}),) * len(group),
        )
        for n, group in enumerate(episodes)
    ]


def test_the_texts_fit_the_engine() -> None:
    """`call(0, 0, n)` has a context of one id here, and n of output."""
    said = episode((call(0, 0, 3), call(1, 0, 100)))
    context, output = said.context_ids(said.calls[1]), said.calls[1].output
    assert canary_texts(groups_of([said]), 1000) == [(context, output[:MOST_TOKENS])]
    assert canary_texts(groups_of([said]), len(context) + 11) == [(context, output[:10])]
    assert canary_texts(groups_of([said]), len(context) + 1) == []
    assert canary_texts(groups_of([episode(())]), 1000) == []


def test_the_texts_are_of_many_groups() -> None:
    """One of each group in turn, none twice."""
    lengths = [[5, 6], [7, 7, 8], *[[10 + n] for n in range(9)]]
    groups = groups_of(*[[episode((call(0, 0, n),)) for n in of_group] for of_group in lengths])
    found = [len(output) for _, output in canary_texts(groups, 1000)]
    assert found == [5, 7, *range(10, 10 + MOST_TEXTS - 2)]
    assert [len(output) for _, output in canary_texts(groups[:2], 1000)] == [5, 7, 6, 8]


def test_the_texts_are_kept_so_that_the_update_is_known() -> None:
    """The same for KEPT versions with the values before the update, then others without."""
    asked: list[tuple[int, bool]] = []

    async def logprobs(texts: Any, rounds: bool) -> list[list[float]]:
        asked.append((len(texts[0][1]), rounds))
        return [[-float(len(asked))] * len(output) for _, output in texts]

    examiner = Examiner(SimpleNamespace(logprobs=logprobs), dtype="bfloat16", max_length=1000)  # type: ignore[arg-type]

    async def prepare(version: int) -> Canary | None:
        return await examiner.prepare(
            version, groups_of([episode((call(0, 0, version + 1),))]) if version else []
        )

    canaries = [asyncio.run(prepare(version)) for version in range(KEPT + 3)]
    assert canaries[0] is None, "nothing was trained"
    kept = [(len(c.expected), bool(c.before)) for c in canaries[1:] if c is not None]
    assert kept == [(2, False), *[(2, True)] * (KEPT - 1), (KEPT + 2, False), (KEPT + 2, True)]
    assert asked[:3] == [(2, False), (2, True), (2, False)], "rounding is measured with new texts"
    assert canaries[2] is not None and (canaries[2].expected, canaries[2].before) == ([-3.0] * 2, [-1.0] * 2)
    assert canaries[2].limit == 3.0, "three times the rms of (-2) - (-1)"


class World:
    """A loop whose engines answer the canary when, and as, the test says."""

    def __init__(self, tmp_path: Path, *, staleness: int) -> None:
        self.trained: list[int] = []
        self.published: list[int] = []
        self.may_answer = asyncio.Event()
        self.off_by = 0.0
        self.version_of: Callable[[], int] = lambda: self.loop.admission.version
        recipe, stage = one_stage(
            tmp_path, [{"name": "correct"}], steps=5, groups_per_step=1, samples_per_group=2,
            staleness=staleness, drop_zero_variance=False, minibatches=1,
        )  # fmt: skip
        context = SimpleNamespace(
            directory=SimpleNamespace(path=tmp_path, stage=lambda name: tmp_path),
            recipe=recipe,
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

    async def logprobs(self, texts: Any, rounds: bool) -> list[list[float]]:
        return [[-1.0] * len(output) for _, output in texts]

    async def write(self, path: Path) -> str:
        return ""

    async def publish(self, path: Path, version: int, checksum: str) -> list[Any]:
        self.published.append(version)
        return []

    async def canary(self, requests: list[EngineRequest]) -> list[list[EngineResult]]:
        version = self.published[-1]
        await self.may_answer.wait()
        said = [[-1.0 + self.off_by] * (len(request.prompt) - 1) for request in requests]
        return [[answer(*values, version=version) for values in said]]

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
