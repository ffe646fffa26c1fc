"""Independent chains, and the answer that most of them give.

Source: self-consistency (arXiv 2203.11171); probing, pruning and stopping: Parallel-Probe (arXiv 2602.03845).
Every chain sees what a `sequential` thread sees, and nothing of the others; the root makes no call, and its
answer is a reference to a chain's. Chains are independent samples of one context, so this equals the
published method on an unmodified engine.

    call 0  chain 0  <solo> 37 10 9 4 2 <think>   ... <answer> 9 * 4 10 / ... <eos>
    call 1  chain 1  <solo> 37 10 9 4 2 <think>   ... <answer> 9 - 4 ... <eos>
    call 2  chain 2  <solo> 37 10 9 4 2 <think>   ... <answer> 9 * 4 10 / ... <eos>    answer: 9 * 4 10 / ...

`stop_early` ends the wait once the chains still running cannot change the outcome. With `probe_tokens` a
chain is sampled in calls of that many tokens, each continuing where the last one stopped:

    call 0  chain 0  <solo> 37 10 9 4 2 <think>                  <try> 9 * 4 10 2 36
    call 1  chain 0  <solo> 37 10 9 4 2 <think> <try> 9 * ...    10 2 ... <answer> ... <eos>

After every call the current answers are read, and the rules of `probing` prune chains and stop all: with
`probe: written` by `written_answer`, with `probe: forced` by a short call that completes an answer which is
begun for it, as Parallel-Probe does. The chain goes on behind what it had said, and no later call sees a
probe; its tokens count, where the published figures leave them out, and lie on the chain's path. A probe is
over when every running chain has made as many calls; one that is faster is some calls ahead by then, where
the published simulation keeps step.

    call 1  chain 0  <solo> 37 10 9 4 2 <think> <try> 9 * ... <answer>    9 * 4 <eos>       (a probe)
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from data.episodes.trajectory import Call, Span, ThreadOutcome
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    Barrier,
    BarrierKind,
    Continue,
    Decision,
    ProtocolCard,
    ProtocolParams,
    Return,
    Role,
    ThreadResult,
    ThreadView,
    cut_off,
    whole,
)
from rollout.protocols.shared.chains import SOLO, ChainParams, Chains, Confidence, confidence, returned_by
from rollout.protocols.shared.forced_answers import probe_ask
from rollout.protocols.shared.probing import ProbedChain, Verdict, probe
from rollout.protocols.shared.spoken import ids_of, in_last_call, spoken, written_answer
from rollout.protocols.shared.voting import Answer, settled, vote


class SelfConsistencyParams(ChainParams):
    """Recipe section of `self_consistency`."""

    name: Literal["self_consistency"]
    """Name of the protocol."""
    vote: Literal["majority", "confidence"] = "majority"
    """Weight of an answer: 1 with `majority`, the mean probability of its tokens with `confidence`."""
    confidence: Confidence = "chain"
    """Tokens behind `vote: confidence`: the whole chain, or its answer alone."""
    stop_early: bool = False
    """Whether to stop as soon as running chains cannot change the outcome; not together with probes."""
    probe_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    """Tokens of one call of a chain; left out: each chain is one call."""
    probe: Literal["written", "forced"] = "written"
    """How a probe learns the current answer: from what the chain has written, or by a call that completes an
    answer; probes that are forced are paid.
    """
    probe_answer_tokens: int = Field(default=16, ge=1, le=10_000_000)
    """Most sampled tokens of a forced probe."""
    patience: int | None = Field(default=None, ge=1, le=65_536)
    """Probes in a row at which a chain may disagree with the winner before it is pruned; left out: no limit.
    """
    stable: int | None = Field(default=None, ge=1, le=65_536)
    """Probes in a row with the same winner after which all chains stop; left out: wait for all."""
    warm_up: int = Field(default=0, ge=0, le=65_536)
    """Probes in which no chain is given up and none is stopped."""

    @property
    def probes(self) -> bool:
        """Whether probes decide anything."""
        return self.patience is not None or self.stable is not None

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.probes and self.probe_tokens is None:
            raise ValueError("patience and stable count probes: set probe_tokens too")
        if self.probe == "forced" and not self.probes:
            raise ValueError("probe: forced is for patience or stable: set one of them")
        if self.probes and self.vote != "majority":
            raise ValueError("patience and stable go by the majority: they need vote: majority")
        if self.probes and self.stop_early:
            raise ValueError("patience and stable end the wait by probes: they need stop_early: false")
        if (self.probes or self.stop_early) and self.wait != "all":
            raise ValueError("stop_early, patience and stable end the wait themselves: they need wait: all")
        return self


class SelfConsistency(Chains):
    """Independent chains and a vote over their answers."""

    name: ClassVar[str] = "self_consistency"
    params_class: ClassVar[type[ProtocolParams]] = SelfConsistencyParams
    roles: ClassVar[dict[str, Role]] = {"chain": SOLO, "probe": SOLO}
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="self-consistency (arXiv 2203.11171), Parallel-Probe (arXiv 2602.03845)",
        child_context="the problem",
        join="vote; the root makes no call",
        exact="yes; Parallel-Probe: with probe: forced, and its probes are paid",
        trained="all sampled, in every chain",
        barrier="ALL; early stop and probes: PREDICATE",
    )

    _params: SelfConsistencyParams

    def on_call(self, thread: ThreadView) -> Action:
        if self._params.probe_tokens is None:
            return self.end(thread)
        calls = _chain_calls(thread.calls)
        said = spoken(calls)
        reading = self._tags.read(said)
        if reading.ending == EOS:
            return in_last_call(self.answer.end(reading), calls)
        if not calls[-1].output or len(said.output) >= self._params.chain_tokens:
            return cut_off()
        context = (*calls[-1].context, whole(calls[-1]))
        if self._params.probe == "forced" and thread.last.role == "chain":
            return Continue(ask=probe_ask(self, context, self._params.probe_answer_tokens))
        return Continue(ask=self._chain_ask(context, self._room(len(said.output))))

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        if not self._params.probes:
            return returned_by(results, vote(*self._votes(results)))
        verdict = self._probe(results, {})
        if verdict.winner is None:
            return returned_by(results, None)
        value = self._answer_after(results[verdict.winner], verdict.probe)
        return Return(outcome=ThreadOutcome.RETURNED, value=value, success=True)

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        words = super().teach(tree, path, call_number)
        size = self._params.probe_tokens
        if self._params.probe == "forced":
            if call_number % 2:
                return self.say(tree.solution or "", EOS)
            call_number //= 2
        # A chain that is too long is shown whole, so that the demonstration is left out and not cut.
        if size is None or len(words) > self._params.chain_tokens:
            return words
        return words[call_number * size : (call_number + 1) * size]

    def _room(self, said: int) -> int:
        """Tokens of the next call of a chain that has sampled this many."""
        left = self._params.chain_tokens - said
        return left if self._params.probe_tokens is None else min(left, self._params.probe_tokens)

    def _chain(self, prompt: Prompt) -> Ask:
        return self._chain_ask(self.frame("chain", prompt), self._room(0))

    def _chains_barrier(self) -> Barrier:
        if not self._params.stop_early and not self._params.probes:
            return self.barrier()
        known: dict[tuple[int, int], tuple[int, ...] | None] = {}

        def decide(results: Sequence[ThreadResult]) -> Decision:
            if self._params.stop_early:
                running = [index for index, result in enumerate(results) if result.outcome is None]
                answers, weights = self._votes(results)
                return Decision(join=settled(answers, running, weights))
            verdict = self._probe(results, known)
            return Decision(join=verdict.stop, cancel=tuple(results[index].key for index in verdict.pruned))

        return Barrier(kind=BarrierKind.PREDICATE, decide=decide)

    def _votes(self, results: Sequence[ThreadResult]) -> tuple[list[Answer | None], list[float] | None]:
        """Answers and, if they count, weights."""
        answers = [self.given(result) for result in results]
        if self._params.vote == "majority":
            return answers, None
        return answers, [confidence(result, self._params.confidence) for result in results]

    def _probe(
        self, results: Sequence[ThreadResult], known: dict[tuple[int, int], tuple[int, ...] | None]
    ) -> Verdict:
        """All probes so far. `known`: answers that were read before, by thread and calls."""
        chains = []
        for result in results:
            answers: list[Answer | None] = []
            for calls in range(1, self._probes_of(result) + 1):
                key = (result.thread, calls)
                if key not in known:
                    spans = self._seen(result, calls)
                    known[key] = None if spans is None else ids_of(spans, result.calls)
                answers.append(self.vote_of(known[key]))
            if result.outcome is ThreadOutcome.RETURNED and answers:
                # What it returned counts, also when that is nothing.
                answers[-1] = self.vote_of(result.ids)
            chains.append(
                ProbedChain(
                    answers=tuple(answers),
                    running=result.outcome is None,
                    cancelled=result.outcome is ThreadOutcome.CANCELLED,
                )
            )
        params = self._params
        return probe(chains, warm_up=params.warm_up, patience=params.patience, stable=params.stable)

    def _answer_after(self, result: ThreadResult, calls: int) -> tuple[Span, ...] | None:
        """The answer of a chain after its first `calls` calls, as a probe reads it."""
        if result.outcome is ThreadOutcome.RETURNED and calls >= self._probes_of(result):
            return result.value
        return self._seen(result, calls)

    def _probes_of(self, result: ThreadResult) -> int:
        """Probes that a chain has reached: its calls, or those with a forced probe, and its end."""
        own = len(_chain_calls(result.calls))
        if self._params.probe == "written" or result.outcome is not None:
            return own
        return len(result.calls) - own

    def _seen(self, result: ThreadResult, calls: int) -> tuple[Span, ...] | None:
        """A chain's answer at a probe: the last that it has written, or that it was made to complete."""
        own = _chain_calls(result.calls)
        if self._params.probe == "written":
            return written_answer(self._tags, self.answer, own[:calls])
        probes = [call for call in result.calls if call.role == "probe"]
        # A chain that ended by itself has no probe behind its last call.
        if calls > len(probes):
            return written_answer(self._tags, self.answer, own[:calls])
        return self.answer.completed(self._tags.read(probes[calls - 1])).value


def _chain_calls(calls: Sequence[Call]) -> tuple[Call, ...]:
    """The calls in which a chain thinks, without forced probes."""
    return tuple(call for call in calls if call.role == "chain")
