"""Which drafted steps stand, and which are written again (SSR, arXiv 2505.15340). Pure function.

A draft stands when its score reaches the threshold; else a step of the target takes its place, unseen. A text
that ends with a draft stands only if it has an answer.

Example, threshold 0.7: drafts of 0.9 and 0.4, then a step of the target: the text is the first and the third,
and a draft is next.
"""

from collections.abc import Sequence

from rollout.protocols.selection.tried_steps import Move, Tried

DRAFT = "draft"
"""Role of the calls that draft a step."""
TARGET = "chain"
"""Role of the calls that write a step again."""


def walk(tried: Sequence[Tried], threshold: float) -> Move:
    """What a chain does after all the steps that it has tried; its first move, a draft, for ()."""
    path: tuple[int, ...] = ()
    role = DRAFT
    for place, step in enumerate(tried):
        refused = step.role == DRAFT and (step.value < threshold or (step.finished and not step.answered))
        role = TARGET if refused else DRAFT
        if refused:
            continue
        path = (*path, place)
        if step.finished:
            return Move(path=path, ends=True)
    return Move(path=path, role=role)
