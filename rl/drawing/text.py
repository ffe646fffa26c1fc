"""An episode as plain text: each call with its text, its span on the critical-path axis, and its edges."""

from data.episodes.topology import critical_tokens, total_tokens, width
from data.episodes.trajectory import Episode
from data.text.printable import printable
from rl.drawing.layout import Block, Decode, Origin, Piece, blocks, wrap

OPEN = {Origin.FORCED: "[", Origin.COPIED: "(", Origin.SAMPLED: ""}
CLOSE = {Origin.FORCED: "]", Origin.COPIED: ")", Origin.SAMPLED: ""}
NARROWEST = 20


def headline(episode: Episode) -> str:
    """Cost and shape of an episode, in one line."""
    threads = width(episode)
    path, total = critical_tokens(episode), total_tokens(episode)
    if not episode.calls:
        return f"no call was made: the prompt does not fit the model ({episode.outcome.value})"
    opened = f"{threads} thread" + ("" if threads == 1 else "s")
    return f"{total} tokens sampled, {path} on the critical path, {opened} opened"


def render_text(episode: Episode, decode: Decode, *, columns: int = 100) -> str:
    """The calls in the order they were made, indented by depth: [forced] (copied) sampled *answer*."""
    lines = [printable(f"{episode.id}  {episode.protocol}  {headline(episode)}")]
    for block in blocks(episode, decode):
        indent = "    " * episode.threads[block.call.thread].depth
        lines.append(f"{indent}{_title(block)}")
        room = max(NARROWEST, columns - len(indent) - 2)
        lines.extend(f"{indent}  {_plain(line)}" for line in wrap(_marked(block.pieces), room))
    lines.append("[forced] (copied from another call) sampled *answer*  | on the critical path")
    return "\n".join(lines) + "\n"


def _title(block: Block) -> str:
    after = ", ".join(f"{edge.kind.value} {edge.call}" for edge in block.call.after)
    parts = [f"call {block.call.index}", printable(block.caption), f"{block.start}-{block.stop}"]
    parts += [f"after {after}"] if after else []
    parts += [f"! {block.faults}"] if block.faults else []
    return ("| " if block.critical else "  ") + "  ".join(parts)


def _marked(pieces: tuple[Piece, ...]) -> list[Piece]:
    """The pieces with brackets around runs of one origin and stars around the answer."""
    marked: list[Piece] = []
    for index, piece in enumerate(pieces):
        before = pieces[index - 1] if index else None
        after = pieces[index + 1] if index + 1 < len(pieces) else None
        text = piece.text
        if piece.answer:
            text = ("" if before and before.answer else "*") + text + ("" if after and after.answer else "*")
        if before is None or before.origin is not piece.origin:
            text = OPEN[piece.origin] + text
        if after is None or after.origin is not piece.origin:
            text += CLOSE[piece.origin]
        marked.append(Piece(text=text, gap=piece.gap, origin=piece.origin, thread=piece.thread))
    return marked


def _plain(line: list[Piece]) -> str:
    text = "".join((" " if piece.gap else "") + piece.text for piece in line)
    return text.removeprefix(" ")
