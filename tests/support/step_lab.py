"""Searches of a solver as `sequential` writes them, and their steps."""

from collections.abc import Iterator

from data.steps.search_lines import line_ranges
from data.tasks.labelled import StepLabelledTask
from data.tasks.search_tree import SearchNode, SearchTree


def steps_of(text: str, task: StepLabelledTask) -> list[str]:
    """Steps of a text with tags."""
    return [text[start:stop].strip() for start, stop in line_ranges(text, task.step_ranges)]


def written(tree: SearchTree, between: str = " ") -> str:
    """A search up to and with its answer."""

    def visit(node: SearchNode) -> Iterator[str]:
        yield node.trace
        for child in node.children:
            yield from visit(child)
            if child.solution is not None:
                return

    texts: list[str] = []
    for child in tree.children:
        texts += ["<try>", child.move, *visit(child)]
        if child.solution is not None and not tree.every:
            break
    texts += [tree.conclusion] if tree.conclusion else []
    return between.join([*texts, "<answer>", tree.solution] if tree.solution is not None else texts)
