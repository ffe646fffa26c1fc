"""The text of an episode's calls as a page shows it: tokens by origin, shaded by their probability."""

from collections.abc import Sequence

from rl.drawing.layout import Block, Origin, Piece

MOST_OF_CALL, END_OF_CALL = 600, 150
"""Most tokens of a call that are shown, and how many of them are from its end."""
MOST_OF_EPISODE = 3_000
"""Most tokens of an episode that are shown."""

Run = tuple[str, str, str]
"""(css class, hint, text) of neighbouring tokens that look alike."""


def call_texts(blocks: Sequence[Block]) -> list[tuple[Block, list[Run] | None]]:
    """Each call with the runs of its text; None for those beyond `MOST_OF_EPISODE`.

    Calls on the critical path come first, then the others, in their order: a search may have hundreds.
    """
    left, shown = MOST_OF_EPISODE, set()
    for block in sorted(blocks, key=lambda each: not each.critical):
        size = min(len(block.pieces), MOST_OF_CALL)
        if size <= left:
            left -= size
            shown.add(block.call.index)
    return [(block, _runs(block) if block.call.index in shown else None) for block in blocks]


def _runs(block: Block) -> list[Run]:
    """The runs of a call's text; a sampled token is a run of its own.

    The class tells the origin, whether it is part of the answer, and how improbable it was in five shades.
    The space before a shaded token is a run without looks.
    """
    runs: list[Run] = []
    for index, piece in enumerate(_within(block.pieces)):
        look, hint = _look(piece)
        gap = " " if piece.gap and index else ""
        if runs and not hint and runs[-1][:2] == (look, ""):
            runs[-1] = (look, "", runs[-1][2] + gap + piece.text)
            continue
        if gap:
            runs.append(("", "", gap))
        runs.append((look, hint, piece.text))
    return runs


def _within(pieces: Sequence[Piece]) -> list[Piece]:
    if len(pieces) <= MOST_OF_CALL:
        return list(pieces)
    note = Piece(
        text=f"… {len(pieces) - MOST_OF_CALL} tokens …",
        gap=True,
        origin=Origin.FORCED,
        thread=pieces[0].thread,
    )
    return [*pieces[: MOST_OF_CALL - END_OF_CALL], note, *pieces[-END_OF_CALL:]]


def _look(piece: Piece) -> tuple[str, str]:
    if piece.origin is not Origin.SAMPLED:
        return piece.origin.value, ""
    look = "answer" if piece.answer else "sampled"
    if piece.logprob is None:
        return look, ""
    shade = min(4, int(-piece.logprob))
    return (f"{look} p{shade}" if shade else look), f"{piece.logprob:.3f}"
