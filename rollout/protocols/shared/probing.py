"""Parallel-Probe's rules for pruning a chain and for stopping all, on a table of answers. Pure functions.

Source: Parallel-Probe (arXiv 2602.03845). At probe p every chain has made p calls and its current answer
is read; the chains that are still in vote. After `warm_up` probes, a running chain that has disagreed with
the winner at `patience` probes in a row is given up and has no vote any more, and all stop once the winner
has been the same at `stable` probes in a row. A chain that has ended keeps its answer and its vote.

A chain that has not answered yet is no vote and no disagreement (the paper forces an answer out of every
chain at every probe). Left out of the published code's other variants: a smallest share for the winner, and
a smallest number of chains below which none is given up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rollout.protocols.shared.voting import Answer, vote


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbedChain:
    """One chain, as the rules see it."""

    answers: tuple[Answer | None, ...]
    """Current answer after each of the chain's calls."""
    running: bool
    cancelled: bool = False
    """Whether the chain was cancelled; it then votes only at the probes it had reached."""

    def answer_at(self, probe: int) -> Answer | None:
        """The chain's answer at a probe, counted from 1."""
        if self.cancelled and probe > len(self.answers):
            return None
        said = self.answers[:probe]
        return said[-1] if said else None

    def runs_at(self, probe: int) -> bool:
        """Whether the chain was still running at a probe."""
        return probe < len(self.answers) or (probe == len(self.answers) and (self.running or self.cancelled))


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Verdict after the last probe that all running chains have reached."""

    probe: int
    """Number of that probe, or of the one at which all stop."""
    winner: int | None
    """Index of the first chain with the winning answer."""
    stop: bool
    pruned: tuple[int, ...]
    """Indices of the pruned chains."""


def probe(
    chains: Sequence[ProbedChain], *, warm_up: int, patience: int | None, stable: int | None
) -> Verdict:
    """Replay all probes so far. `patience`, `stable`: None switches the rule off."""
    reached = [len(chain.answers) for chain in chains]
    running = [calls for calls, chain in zip(reached, chains, strict=True) if chain.running]
    last = min(running) if running else max(reached, default=0)
    disagreed = [0] * len(chains)
    pruned: list[int] = []
    winner: int | None = None
    winning: Answer | None = None
    streak = 0
    for number in range(1, last + 1):
        current = [None if index in pruned else chain.answer_at(number) for index, chain in enumerate(chains)]
        winner = vote(current)
        before, winning = winning, None if winner is None else current[winner]
        streak = 0 if winning is None else streak + 1 if winning == before else 1
        if number <= warm_up:
            continue
        for index, answer in enumerate(current):
            dissents = answer is not None and answer != winning
            disagreed[index] = disagreed[index] + 1 if dissents else 0
            if patience is not None and disagreed[index] >= patience and chains[index].runs_at(number):
                pruned.append(index)
        if stable is not None and streak >= stable:
            return Verdict(probe=number, winner=winner, stop=True, pruned=tuple(pruned))
    return Verdict(probe=last, winner=winner, stop=False, pruned=tuple(pruned))
