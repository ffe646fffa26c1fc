"""Demonstrations of `outlined_threads`: outlines and threads of a solver's search, in any dialect."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data.tasks.search_tree import SearchNode, SearchTree
from rollout.protocols.shared.answers import AnswerFormat, ResultFormat
from rollout.protocols.shared.base import EOS
from rollout.protocols.shared.dialects import Dialect
from rollout.protocols.shared.search_text import trace_words
from rollout.protocols.shared.tag_text import closing, opening

Block = tuple[SearchNode, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Imitator:
    """Writes the text of the root and of every thread of a demonstration.

    Line breaks are those of the published formats; a tokenizer of words drops them.
    """

    dialect: Dialect
    width: int
    """Most threads of one block, by the budget."""
    depth: int
    """Deepest nesting of threads, by the budget."""
    answer: AnswerFormat
    result: ResultFormat

    def words(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> Iterator[str]:
        """Text of the `call_number`-th call of the thread at `path`."""
        if not path:
            yield from self._root(tree, call_number)
            return
        node, label = self._place(tree, path)
        yield from self._thread(node, label, len(path), call_number)

    def _root(self, tree: SearchTree, call_number: int) -> Iterator[str]:
        think = self.dialect.think
        blocks = self._blocks(tree.children, every=tree.every)
        last = call_number == len(blocks)
        conclusion = (tree.conclusion,) if tree.conclusion and last else ()
        if call_number:
            inside = conclusion if tree.every else self.result.words(_solution(blocks[call_number - 1]))
            yield from self._close_block(inside)
        if call_number or think is not None:
            yield "\n"
        if not last:
            yield from self._open_block(blocks[call_number], "", every=tree.every)
            return
        outside = conclusion if self.dialect.conclusion is None or not blocks else ()
        yield from outside
        if think is not None:
            yield from ("\n" if outside or not blocks else "", closing(think), "\n\n")
        elif blocks or outside:
            yield "\n\n" if outside else "\n"
        yield from self.answer.words(tree.solution)
        yield EOS

    def _thread(self, node: SearchNode, label: str, depth: int, call_number: int) -> Iterator[str]:
        nests = depth < min(self.depth, self.dialect.depth) and len(node.children) > 1
        blocks = self._blocks(node.children, every=False) if nests else []
        trace = () if nests or call_number else tuple(trace_words(node))
        if call_number:
            yield from self._close_block(self.result.words(_solution(blocks[call_number - 1])))
            yield "\n"
        elif nests:
            yield from (" ", node.trace, "\n")
        else:
            yield from (" ", *trace)
        if call_number < len(blocks):
            yield from self._open_block(blocks[call_number], f"{label}.", every=False)
            return
        yield from self.result.words(node.solution, trace)
        yield from (self.dialect.inside, closing(self.dialect.thread))

    def _blocks(self, children: Sequence[SearchNode], *, every: bool) -> list[Block]:
        """Blocks that are opened one after the other, each as wide as it may be.

        Parts come as soon as those that they need are known; of alternatives none are tried after a success.
        """
        most = min(self.dialect.most, self.width)
        blocks: list[Block] = []
        done: list[int] = []
        while len(done) < len(children) and (every or not blocks or _solution(blocks[-1]) is None):
            left = (index for index in range(len(children)) if index not in done)
            ready = [index for index in left if not set(children[index].needs) - set(done)][:most]
            done += ready
            blocks.append(tuple(children[index] for index in ready))
        return blocks

    def _place(self, tree: SearchTree, path: tuple[int, ...]) -> tuple[SearchNode, str]:
        """The node that a thread visits, and the number it was given."""
        blocks, label = self._blocks(tree.children, every=tree.every), ""
        for key in path:
            for block in blocks:
                if key < len(block):
                    break
                key -= len(block)
            node, label = block[key], f"{label}{key + 1}."
            blocks = self._blocks(node.children, every=False)
        return node, label.removesuffix(".")

    def _open_block(self, block: Block, prefix: str, *, every: bool) -> Iterator[str]:
        dialect = self.dialect
        item = dialect.items[0] if every or dialect.trial is None else dialect.trial
        if dialect.block is not None:
            yield from (opening(dialect.block), "\n")
        yield from (opening(dialect.outlines), "\n")
        for number, node in enumerate(block, 1):
            yield f"{opening(item)}{prefix}{number}:"
            yield from (node.move, closing(item), "\n")
        yield closing(dialect.outlines)

    def _close_block(self, concluded: Sequence[str]) -> Iterator[str]:
        if self.dialect.conclusion is not None:
            yield "" if self.dialect.after else "\n"
            yield from (*concluded, *(("\n",) if concluded else ()), closing(self.dialect.conclusion))
            yield "" if self.dialect.block is None else "\n"
        if self.dialect.block is not None:
            yield closing(self.dialect.block)


def _solution(block: Block) -> str | None:
    return next((node.solution for node in block if node.solution is not None), None)
