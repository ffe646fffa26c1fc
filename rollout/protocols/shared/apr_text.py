"""The published text of APR (arXiv 2504.15466) around sub searches: `spawn_join` with `dialect: apr`.

    parent  Moving to Node #0
            Current State: 38:[9, 4, 2], Operations: []
            Exploring Operation: 9*4=36, Resulting Numbers: [2, 36]
            Generated Node #0,0: 38:[2, 36] Operation: 9*4=36
            <Calling Sub Searches>
            <Start Sub Search 0 at level 1> Moving to Node #0,0
            <End Calling Sub Searches>
    child   Moving to Node #0,0
            Current State: 38:[2, 36], Operations: ['9*4=36']
            ...
    parent  its text in front of <Calling Sub Searches>, and behind it
            <Sub Searches>
            <Goal Reached in Sub Search 0 at level 1 at Node #0,0>
            ...                                                     the way that the child found
            <End Sub Searches>

A search that reaches the goal ends with the way to it, told again from the node where the search began: the
text behind the second-to-last "Goal Reached". One that does not ends with "No solution found." Text is
matched, never evaluated.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data.episodes.trajectory import ThreadOutcome, ViolationKind
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.answers import Range, trimmed
from rollout.protocols.shared.actions import Note, Return, malformed
from rollout.protocols.shared.tags import EOS, Mark, Reading

CALLING, CALLED = "<Calling Sub Searches>", "<End Calling Sub Searches>"
"""Tags around the list of sub searches, which the parent writes."""
RESULTS, RESULTS_END = "<Sub Searches>", "<End Sub Searches>"
"""Tags around what they have found, which are forced."""
TAGS = (CALLING, CALLED, RESULTS, RESULTS_END)
FAILED = "No solution found."
_GOAL = "Goal Reached"
_NODE = r"#([0-9]{1,6}(?:,[0-9]{1,6})*)"
_START = re.compile(rf"<Start Sub Search ([0-9]{{1,6}}) at level ([0-9]{{1,6}})> Moving to Node {_NODE}")
_STATE = re.compile(r"Current State: .+, Operations: \[(.*)\]")
_GENERATED = re.compile(rf"Generated Node {_NODE}: (.+) Operation: (.+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubSearch:
    """One line of a list of sub searches."""

    place: str
    """Its name in the results: "0 at level 1 at Node #0,0"."""
    node: str
    """The node that it begins at: "0,0"."""


def sub_searches(text: str) -> list[SubSearch]:
    """The sub searches that a list calls, in its order; other lines are left out."""
    found = filter(None, map(_START.fullmatch, _lines(text)))
    return [SubSearch(place=f"{m[1]} at level {m[2]} at Node #{m[3]}", node=m[3]) for m in found]


def nodes_in(text: str) -> dict[str, str]:
    """Node -> the two lines that a sub search of it begins with: the node, and its state and operations.

    `text`: all that the parent has written. Of several lines that generate a node the last counts.
    """
    operations = ""
    found: dict[str, str] = {}
    for line in _lines(text):
        state, generated = _STATE.fullmatch(line), _GENERATED.fullmatch(line)
        if state is not None:
            operations = state[1]
        elif generated is not None:
            node, numbers, operation = generated.groups()
            done = ", ".join(filter(None, (operations, f"'{operation}'")))
            found[node] = f"Moving to Node #{node}\nCurrent State: {numbers}, Operations: [{done}]"
    return found


def way(text: str) -> Range | None:
    """Characters of the way that a search has found; None when it has told none."""
    last = text.rfind(_GOAL)
    before = text.rfind(_GOAL, 0, max(last, 0))
    return None if before < 0 else trimmed(text, before + len(_GOAL), len(text))


def ended(reading: Reading, *, root: bool) -> Return:
    """The end of a search, as its finished call says; a typed violation when that is no ending."""
    text = reading.text(None, None)
    found = way(text) if reading.ending == EOS else None
    if found is not None:
        return Return(outcome=ThreadOutcome.RETURNED, value=reading.cut(None, *found), success=True)
    if reading.ending == EOS and text.rstrip().endswith(FAILED):
        return Return(outcome=ThreadOutcome.RETURNED, value=None)
    if root and reading.ending == RESULTS:
        detail = "results that no sub search gave"
        return malformed(ViolationKind.JOIN_WITHOUT_FORK, reading.marks[-1].start, detail)
    kind = ViolationKind.MALFORMED_ANSWER if root else ViolationKind.MALFORMED_RETURN
    return malformed(kind, reading.end, f"ends neither with a way to the goal nor with {FAILED!r}")


def openings(reading: Reading, call: Mark, earlier: Sequence[str]) -> tuple[dict[str, str], tuple[Note, ...]]:
    """The list of sub searches at the end of a call. -> (place -> what the sub search begins with; notes).

    Args:
        call: the tag that begins the list.
        earlier: the problem, and what the same thread wrote before this call.
    """
    known = nodes_in("\n".join((*earlier, reading.text(None, call))))
    found: dict[str, str] = {}
    notes: list[Note] = []
    for search in sub_searches(reading.text(call, reading.marks[-1])):
        if search.node not in known:
            kind, detail = ViolationKind.MALFORMED_CHILD, f"node #{search.node} was not generated"
        elif search.place in found:
            kind, detail = ViolationKind.DUPLICATE_INDEX, f"sub search {search.place} is there twice"
        else:
            found[search.place] = known[search.node]
            continue
        notes.append(Note(kind=kind, position=call.start, detail=detail))
    return found, tuple(notes)


def reported(place: str, *, found: bool) -> str:
    """The line of a result: in front of the way that was found, or alone."""
    return f"<{_GOAL if found else 'No Solution'} in Sub Search {place}>"


def calls_in(children: Sequence[SearchNode]) -> str:
    """What a demonstration writes to search below each of these nodes."""
    starts = (f"<Start Sub Search {n} at level 1> {_arrival(child)}" for n, child in enumerate(children))
    return "\n".join((*(child.move for child in children), CALLING, *starts, CALLED))


def conclusion(tree: SearchTree) -> str:
    """What the parent of a demonstration ends with: the goal line and the whole way, or that it failed."""
    return f"{tree.way.splitlines()[-1]}\n{tree.way}" if tree.way else FAILED


def search_in(node: SearchNode) -> str:
    """What a child of a demonstration writes; a visit without success says so itself."""
    return f"{node.trace}\n{node.way}" if node.way else node.trace


def _arrival(node: SearchNode) -> str:
    return node.message.split("\n", 1)[0]


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.split("\n")]
