"""Steps that a draft proposes, the scorer judges, and the target writes again where they are not good enough.

Sources, by `accept`: SSR (arXiv 2505.15340; `threshold`) and ATTS (arXiv 2509.15148; `conformal`). Each of
`width` chains asks for one step at a time, first in the role `draft`. When the scorer accepts it, the next
step is drafted behind it; else the same step is written in the role `chain`, the target, behind the same
text, and stands. No chain waits for another.

    call 0   thread 0  draft  <solo> 37 10 <think>          1 2
    scoring                   the text of call 0            0.2      rejected
    call 1   thread 0  chain  <solo> 37 10 <think>          3 4
    scoring                   the text of call 1            0.9
    call 2   thread 0  draft  <solo> 37 10 <think> 3 4      <answer> 5 <eos>

With `accept: conformal` a draft is rejected when its score is low among the scores of steps that count as
good: `calibration` from before, and of `calibrate` first steps that the target writes for this problem before
the chains begin. Of drafts as good as those at most the share `alpha` is rejected
(`rollout.protocols.selection.conformal`). Steps that are written later do not calibrate, because which ones
are written follows from the scores.

What differs from both papers: draft and target are one model, told apart by their instructions (role tags
tell them nothing), since a run has one language model that samples; so this has the rule and the record of
these methods and not their saving. What judges is the recipe's scorer, a reward model with weights of its
own; in SSR the target gives a digit, in ATTS its perplexity counts and a budget of samples goes on with the
target, where here every step is tested by itself. SSR's choice of strategies is left out. A step of the
target is scored too, for the vote at the end.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from data.episodes.trajectory import ThreadOutcome
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt
from rollout.protocols.selection.conformal import fewest_scores, threshold
from rollout.protocols.selection.drafted_steps import DRAFT, TARGET, walk
from rollout.protocols.selection.tried_steps import Move, Tried
from rollout.protocols.shared.base import (
    Action,
    AskScorer,
    Barrier,
    Encoder,
    Fork,
    ProtocolCard,
    ProtocolParams,
    Return,
    Role,
    ThreadResult,
    ThreadView,
)
from rollout.protocols.shared.chains import SOLO
from rollout.protocols.shared.step_chains import StepChainParams, StepChains

_CALIBRATES = -1
"""Memo of a thread that writes one step to calibrate by."""
_UNIT = 1 << 53
"""A chain's memo is 1 + its threshold in units of 1 / this; 0 is the threshold of the recipe."""


class DraftedStepsParams(StepChainParams):
    """Recipe section of `drafted_steps`."""

    name: Literal["drafted_steps"]
    """Name of the protocol."""
    accept: Literal["threshold", "conformal"] = "threshold"
    """When a draft stands: its score reaches `threshold`, or is not too low among those of good steps."""
    threshold: float = Field(default=0.7, ge=0, le=1)
    """Least score of a draft that stands, with `accept: threshold`."""
    alpha: float = Field(default=0.1, gt=0, lt=1)
    """Most drafts that are rejected although they are as good as the steps that calibrate, as a share."""
    calibration: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    """Scores of good steps from before, such as of the right steps in a reward model's `held_out.jsonl`."""
    calibrate: int = Field(default=0, ge=0, le=65_536)
    """First steps that the target writes, before the chains begin, so that their scores calibrate."""
    train: Literal["all", "draft", "target"] = "all"
    """Calls whose tokens carry loss."""

    @model_validator(mode="after")
    def _can_reject(self) -> Self:
        if self.accept == "threshold":
            if self.calibrate or self.calibration:
                raise ValueError("calibration scores are for accept: conformal; leave them out")
            return self
        scores = len(self.calibration) + min(self.calibrate, self.budgets.width)
        least = fewest_scores(self.alpha)
        if scores < least:
            raise ValueError(
                f"{scores} calibration scores can reject nothing at alpha: {self.alpha}; it needs {least}: "
                "raise calibrate (and budgets.width with it) or alpha, or give calibration"
            )
        return self


class DraftedSteps(StepChains):
    """Chains whose steps are drafted, scored, and written again where the draft is rejected."""

    name: ClassVar[str] = "drafted_steps"
    params_class: ClassVar[type[ProtocolParams]] = DraftedStepsParams
    roles: ClassVar[dict[str, Role]] = {
        TARGET: SOLO,
        DRAFT: Role(
            opens="<solo>",
            instruction="{problem}\n\nSolve it in steps, each as short as it can be. {answer}",
        ),
    }
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="SSR (arXiv 2505.15340), ATTS (arXiv 2509.15148)",
        child_context="the problem and its text so far",
        join="vote or best; the root makes no call",
        exact="no: draft and target are one model in two roles, and the recipe's scorer judges",
        trained="all sampled, also in rejected drafts; by recipe drafts or the target's steps alone",
        barrier="ALL, once (and once for calibration); FIRST_K or FIRST_SUCCESS by recipe",
    )

    _params: DraftedStepsParams

    def __init__(self, params: ProtocolParams, encoder: Encoder) -> None:
        super().__init__(params, encoder)
        conformal = self._params.accept == "conformal"
        self._threshold = self._calibrated(()) if conformal else self._params.threshold

    def decide(self, tried: Sequence[Tried], memo: int) -> Move:
        return walk(tried, (memo - 1) / _UNIT if memo else self._threshold)

    def trained(self, role: str) -> int | None:
        carries = self._params.train in ("all", "draft" if role == DRAFT else "target")
        return None if carries else 0

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Fork:
        if not self._params.calibrate:
            return super().open(prompt, tree)
        step = self._step(prompt, (), TARGET, _CALIBRATES)
        return Fork(children=(step,) * self._params.calibrate, barrier=Barrier())

    def on_call(self, thread: ThreadView) -> Action:
        if thread.memo == _CALIBRATES:
            return Return(outcome=ThreadOutcome.RETURNED, value=None)
        return super().on_call(thread)

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        if not self._params.calibrate or thread.num_forks > 1:
            return super().on_join(thread, results)
        written = tuple(call.index for result in results for call in result.calls if call.output)
        return AskScorer(calls=written) if written else self._chains(thread.prompt)

    def on_scores(self, thread: ThreadView) -> Action:
        if thread.path:
            return super().on_scores(thread)
        scores = [self.step_value(each) for each in thread.scorings[-1].scores]
        return self._chains(thread.prompt, 1 + int(self._calibrated(scores) * _UNIT))

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        # Those that calibrate show the first pieces of the attempts of the chains behind them.
        before = self._params.calibrate
        return self._shown(tree, path[0] - before if path[0] >= before else path[0], call_number)

    def _calibrated(self, scores: Sequence[float]) -> float:
        """The threshold by calibration scores: the recipe's, and these."""
        return threshold([*self._params.calibration, *scores], self._params.alpha)
