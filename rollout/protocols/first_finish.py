"""Independent chains; the first to finish wins and the others are cancelled.

Source: short-m@k (arXiv 2505.17813): of k chains the first m to finish count, the others stop; the answer is
the majority of those m, in a tie the shortest chain's. m is `wait_for`, 1 by default. Every chain sees
what a `sequential` thread sees; the root makes no call. Cancelled calls keep what they had sampled: their
tokens count, but no call reads them. Equals the published method on an unmodified engine.

    call 0  chain 0  <solo> 37 10 9 4 2 <think>   <try> 9 * 4 ...                     (cancelled)
    call 1  chain 1  <solo> 37 10 9 4 2 <think>   ... <answer> 9 * 4 10 / ... <eos>   answer: 9 * 4 10 / ...

`wait: success` (the default) waits for chains that answer, `wait: first` also takes one that gives up.
Demonstrations: chains take turns in order, so the first that finds an answer is the one that is shown.
"""

from typing import ClassVar, Literal

from data.episodes.trajectory import ThreadOutcome
from rollout.protocols.shared.base import Action, ProtocolCard, ProtocolParams, Role, ThreadResult, ThreadView
from rollout.protocols.shared.chains import SOLO, ChainParams, Chains


class FirstFinishParams(ChainParams):
    """Recipe section of `first_finish`."""

    name: Literal["first_finish"]
    """Name of the protocol."""
    wait: Literal["first", "success"] = "success"
    """Chains to wait for: `success` waits for `wait_for` chains that give an answer, `first` for chains that
    end well-formed, with an answer or without.
    """


class FirstFinish(Chains):
    """Independent chains, of which the first to finish win."""

    name: ClassVar[str] = "first_finish"
    params_class: ClassVar[type[ProtocolParams]] = FirstFinishParams
    roles: ClassVar[dict[str, Role]] = {"chain": SOLO}
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="short-m@k (arXiv 2505.17813)",
        child_context="the problem",
        join="vote among the first; the root makes no call",
        exact="yes",
        trained="all sampled, in every chain, also in cancelled ones",
        barrier="FIRST_SUCCESS or FIRST_K",
    )

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        finished = [result for result in results if result.outcome is ThreadOutcome.RETURNED]
        return self.most_voted(tuple(sorted(finished, key=_said)))


def _said(result: ThreadResult) -> int:
    return sum(len(call.output) for call in result.calls)
