"""The published formats of `outlined_threads` as data: their tags, and which of them the model writes.

All have the same shape: a list of numbered outlines, a thread for each of them, and a continuation.

    threadweaver  arXiv 2512.07843
        <think> .. <Parallel> <Outlines> <Outline>1: ..</Outline> .. </Outlines>
        <Thread>1: ..</Thread> .. </Parallel> .. </think>
    multiverse    arXiv 2506.09991
        <Think> .. <Parallel> <Goal> <Outline>1: ..</Outline> .. </Goal>
        <Path>1: ..</Path> .. <Conclusion> .. </Conclusion> </Parallel> .. </Think>
    npr           arXiv 2512.07461
        <guideline> <plan>1: ..</plan> .. </guideline> <step>1: ..</step> .. <takeaway> .. </takeaway> ..
    parason       arXiv 2608.24658
        as threadweaver, with <Subtask> (all are needed) or <Trial> (one is enough) in place of <Outline>

Only threadweaver equals its publication; `Dialect.exactness` has the differences of the others.
"""

from dataclasses import dataclass

from data.episodes.trajectory import ViolationKind
from rollout.protocols.shared.markup import Rule
from rollout.protocols.shared.params import UNBOUNDED

_CAUSAL = (
    "no: causal re-prefill at the join, where the published engine merges the threads' key-value caches "
    "blind to each other and at shared positions; the same tags, another method"
)


_FORK, _JOIN = ViolationKind.FORK_NOT_ALLOWED, ViolationKind.JOIN_WITHOUT_FORK
_STRAY = ViolationKind.STRAY_TAG


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """One published format. Elements are named without brackets."""

    name: str
    source: str
    exactness: str
    """Whether running it here on an unmodified engine equals the published method."""
    think: str | None
    """Element around everything before the answer; its opening tag is forced, its closing tag sampled."""
    block: str | None
    """Element around outlines and threads, sampled by the model."""
    outlines: str
    """Element with the list of outlines; its closing tag ends the call."""
    items: tuple[str, ...]
    """Element names of the kinds of outlines."""
    trial: str | None = None
    """Kind of outline for which one successful thread is enough."""
    thread: str
    """Element around a thread; its opening tag and number are forced, its closing tag sampled."""
    conclusion: str | None = None
    """Element after the threads; its opening tag is forced, its closing tag sampled."""
    before: str = ""
    """Text forced between the outlines and the first thread."""
    between: str = ""
    """Text forced between two threads."""
    inside: str = ""
    """Text forced between a thread's opening tag and its number."""
    behind: str = ""
    """Text forced between the last thread and the conclusion."""
    after: str = ""
    """Text forced after the last thread, or after the opening tag of the conclusion."""
    most: int = UNBOUNDED
    """Most threads of one block; a thread that opens more ends."""
    depth: int = 1
    """Deepest nesting of blocks. In deeper threads a block is ordinary text."""

    @property
    def elements(self) -> tuple[str, ...]:
        """Names of all elements."""
        names = (self.think, self.block, self.outlines, *self.items, self.thread, self.conclusion)
        return tuple(name for name in names if name is not None)

    def base(self, *, root: bool) -> tuple[str, ...]:
        """Elements that are open when a thread begins, outermost first."""
        if not root:
            return (self.thread,)
        return () if self.think is None else (self.think,)

    def going_on(self, *, root: bool) -> tuple[str, ...]:
        """Elements that are open when a thread continues after a join."""
        further = (name for name in (self.block, self.conclusion) if name is not None)
        return (*self.base(root=root), *further)

    def asking(self, *, root: bool) -> tuple[str, ...]:
        """Elements that are open at the end of the outlines, outermost first."""
        return self.base(root=root) if self.block is None else (*self.base(root=root), self.block)

    def rules(self, *, root: bool, may_fork: bool) -> tuple[Rule, ...]:
        """Rules of the format for the root or another thread, with or without the right to open blocks."""
        base = self.base(root=root)
        around = (base[-1] if base else "",) if may_fork else ()
        outermost = self.outlines if self.block is None else self.block
        rules = [
            Rule(
                name=self.outlines,
                within=around if self.block is None else (self.block,),
                holds=self.items,
                misplaced=_FORK if outermost == self.outlines else _STRAY,
                unopened=_JOIN,
            ),
            *(Rule(name=item, within=(self.outlines,), indexed=True) for item in self.items),
            *(Rule(name=name, within=()) for name in (self.thread, self.think, self.conclusion) if name),
        ]
        if self.block is not None:
            rules.append(Rule(name=self.block, within=around, misplaced=_FORK, unopened=_JOIN))
        return tuple(rules)


_THREADWEAVER = Dialect(
    name="threadweaver",
    source="ThreadWeaver (arXiv 2512.07843)",
    exactness="yes; only a thread that fails ends the published rollout (here `on_failure: fail`)",
    think="think",
    block="Parallel",
    outlines="Outlines",
    items=("Outline",),
    thread="Thread",
    before="\n",
    inside="\n",
    after="\n",
)

_MULTIVERSE = Dialect(
    name="multiverse",
    source="Multiverse (arXiv 2506.09991)",
    exactness=_CAUSAL,
    think="Think",
    block="Parallel",
    outlines="Goal",
    items=("Outline",),
    thread="Path",
    conclusion="Conclusion",
    before="\n",
    between="\n",
    behind="\n",
    depth=UNBOUNDED,
)

_NPR = Dialect(
    name="npr",
    source="Native Parallel Reasoner (arXiv 2512.07461)",
    exactness=f"{_CAUSAL}; its engine's repetition penalty and last-tokens rule are left out",
    think=None,
    block=None,
    outlines="guideline",
    items=("plan",),
    thread="step",
    conclusion="takeaway",
    before="\n",
    between="\n",
    behind="\n",
    inside="\n",
    after="\n",
    most=5,
    depth=5,
)

_PARASON = Dialect(
    name="parason",
    source="Parason (arXiv 2608.24658)",
    exactness=(
        "no: causal re-prefill of all threads, as its description says, but no grammar-constrained decoding; "
        "which tags are forced is taken from ThreadWeaver, on whose traces it was trained"
    ),
    think="think",
    block="Parallel",
    outlines="Outlines",
    items=("Subtask", "Trial"),
    trial="Trial",
    thread="Thread",
    before="\n",
    inside="\n",
    after="\n",
)

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (_THREADWEAVER, _MULTIVERSE, _NPR, _PARASON)
}
