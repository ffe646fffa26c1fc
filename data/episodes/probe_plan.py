"""Which probes an episode gets once it has ended, and behind which of its tokens.

A probe is an answer that the policy is made to give before it has thought to the end: the call continues a
beginning of the root's thought, with an answer begun for it. The share of right ones is the value of that
beginning (MRT, arXiv 2503.07572). Probes change nothing of the episode: no call of it reads one.

    thought of the root's call 0     12 tokens, then it forks
    thought of the root's call 3      5 tokens behind the results, then it answers

    block_tokens 8, places "blocks"  (0, 0) (0, 8) (0, 12) (3, 0) (3, 5)
    places "joins"                                 (0, 12) (3, 0)          before the fork, behind the results
    places "ends"                    (0, 0)                       (3, 5)   before any thought, behind the last
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Places = Literal["ends", "joins", "blocks"]
Place = tuple[int, int]
"""(call, number of its output tokens that are read)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbePlan:
    """Probes of every episode of a stage."""

    answers: int
    """Answers at each place, each with a seed of its own."""
    answer_tokens: int
    """Most sampled tokens of one answer."""
    places: Places
    """Before and behind all thought; before each fork and behind its results; or behind every block."""
    block_tokens: int = 1
    """Tokens of a block of thought."""
    most_blocks: int = 1
    """Most blocks of a call; of a longer thought each block is a multiple of `block_tokens` long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thought:
    """What a call of the root thinks before it forks or answers."""

    call: int
    tokens: int
    """Leading output tokens that are thought."""
    joined: bool
    """Whether the call reads results of threads that its context before did not hold."""


def probe_places(thoughts: Sequence[Thought], plan: ProbePlan) -> list[Place]:
    """The places of an episode whose root makes these calls, in their order; see the module's example."""
    blocks: list[Place] = []
    behind_joins: set[int] = set()
    for number, thought in enumerate(thoughts):
        if number == 0 or thought.joined:
            behind_joins |= {len(blocks)} if number else set()
            blocks.append((thought.call, 0))
        blocks += [(thought.call, stop) for stop in block_ends(thought.tokens, plan)]
    if plan.places == "blocks":
        return blocks
    if plan.places == "ends":
        return blocks if len(blocks) < 2 else [blocks[0], blocks[-1]]
    around = {place for join in behind_joins for place in (join - 1, join)}
    return [place for number, place in enumerate(blocks) if number in around]


def block_ends(tokens: int, plan: ProbePlan) -> list[int]:
    """Ends of the blocks of a thought; the last one may be shorter.

    Example: 20 tokens in blocks of 4 make 5 blocks; with at most 2 of them each is 3 times as long: 12, 20.
    """
    blocks = -(-tokens // plan.block_tokens)
    size = plan.block_tokens * max(1, -(-blocks // plan.most_blocks))
    return [min(stop, tokens) for stop in range(size, tokens + size, size)]
