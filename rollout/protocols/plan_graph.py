"""A planner writes a graph of tasks; each task starts as soon as those it needs are done.

Source: Plan-over-Graph (arXiv 2502.14563). As there:
  - the plan is a graph, not rounds: a task waits only for the tasks it names, so the slowest chain of tasks
  decides, not the slowest of every round;
  - a scheduler without a model runs the plan; each task is a thread that sees its own text and the results of
  the tasks it needs, not the problem and not the other tasks;
  - when all are done, the planner sees its plan and the results (all, or only those that no task needs) and
  answers.
Every call is one causal token list, so this equals the published method on an unmodified engine. What
differs: the plan is words (`2 : TASK <after> 1`) where the paper has JSON with names, sources and targets.

    call 0  planner  <planner> A = 3 + 4 B = A * 2 C = 9 - 1 <think>
                                  <plan> 1 : A = 3 + 4 <and> 2 : B = A * 2 <after> 1 <and> 3 : C = 9 - 1 <run>
    call 1  node     <node> A = 3 + 4 <think>                                       ... <found> A = 7 <eos>
    call 2  node     <node> B = A * 2 <results> 1 : <found> A = 7 <end> <think>     ... <found> B = 14 <eos>
    call 3  node     <node> C = 9 - 1 <think>                                       ... <found> C = 8 <eos>
    call 4  planner  ... <run> <results> 1 : <found> A = 7 2 : ... 3 : ... <end>    ... <answer> 29 <eos>

Call 2 waits for call 1, not for call 3. Tasks that need a failed one read one line for it.

In a plan, an index that is taken, a task without index, an empty task or an unknown dependency is noted and
left out, and the rest runs. A plan without tasks, or in which tasks wait for each other in a circle, ends the
episode as malformed. Tasks beyond `budgets.width` do not run.
"""

import re
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import Field

from data.episodes.trajectory import Span, StopReason, ViolationKind
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt
from rollout.protocols.shared.answers import ANSWER_TAGS, RESULT_TAGS
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    Continue,
    Fork,
    ForkingParams,
    Mark,
    Note,
    ProtocolCard,
    ProtocolParams,
    Reading,
    Results,
    Role,
    ThinkingProtocol,
    ThreadResult,
    ThreadView,
    cut_off,
    malformed,
)
from rollout.protocols.shared.search_text import trace_words
from rollout.protocols.shared.tags import length

_NUMBER = re.compile(r"[0-9]{1,6}")


class PlanGraphParams(ForkingParams):
    """Recipe section of `plan_graph`; how many tasks a plan may have is `budgets.width`."""

    name: Literal["plan_graph"]
    """Name of the protocol."""
    planner_tokens: int = Field(default=128, ge=1, le=10_000_000)
    """Most sampled tokens of one call of the planner."""
    node_tokens: int = Field(default=72, ge=1, le=10_000_000)
    """Most sampled tokens of one task."""
    shown: Literal["all", "sinks"] = "all"
    """Results that the planner sees before it answers: all, or those of tasks that no other task needs."""


class PlanGraph(ThinkingProtocol):
    """A planner, its graph of tasks, and an answer from their results."""

    name: ClassVar[str] = "plan_graph"
    params_class: ClassVar[type[ProtocolParams]] = PlanGraphParams
    roles: ClassVar[dict[str, Role]] = {
        "planner": Role(
            opens="<planner>",
            instruction="{problem}\n\nFirst plan tasks that can be worked on apart, at most {width}; who "
            "works on one sees its text and the results it needs, not the problem. Write <plan> 1: the "
            "task <and> 2: the task <after> 1 and so on, where <after> names the tasks whose results it "
            "needs, and end the plan with <run>. Their results follow between <results> and <end>; then go "
            "on. {answer}",
        ),
        "node": Role(
            opens="<node>", instruction="{task}\n\n{results:Result of task}\n\nThink step by step. {result}"
        ),
    }
    role_tags: ClassVar[tuple[str, ...]] = ("<planner>", "<node>", "<think>")
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="Plan-over-Graph (arXiv 2502.14563)",
        child_context="its task and the results it needs",
        join="results appended behind the plan",
        exact="yes; the plan is words, not JSON",
        trained="all sampled, in every thread",
        barrier="a graph: each task starts when those it needs have ended; for the planner ALL, FIRST_K or "
        "FIRST_SUCCESS by recipe",
    )
    handles_needs: ClassVar[bool] = True

    _params: PlanGraphParams

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        return (
            *("<planner>", "<node>", "<think>", "<plan>", "<and>", "<after>", "<run>", "<results>", "<end>"),
            *(*RESULT_TAGS, *ANSWER_TAGS),
        )

    @classmethod
    def words_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        return (":",)

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return (*RESULT_TAGS, *ANSWER_TAGS)

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Continue:
        return Continue(ask=self._planner(self.frame("planner", prompt)))

    def on_call(self, thread: ThreadView) -> Action:
        if thread.last.stop is StopReason.LENGTH:
            return cut_off()
        reading = self._tags.read(thread.last)
        if thread.path:
            return self.result.end(reading)
        if reading.ending == "<run>":
            return self._run(thread, reading)
        unclosed = tuple(
            Note(kind=ViolationKind.UNCLOSED_TAG, position=mark.start, detail="a plan that is not run")
            for mark in reading.all("<plan>")
        )
        end = self.end(thread)
        return replace(end, notes=(*unclosed, *end.notes))

    def on_ready(self, ask: Ask, needed: tuple[ThreadResult, ...]) -> Ask:
        names = tuple(result.name for result in needed)
        results = Results(items=self._shown(needed), names=names, separated=False)
        return replace(ask, context=self.frame("node", *ask.task, results))

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        reading = self._tags.read(thread.last)
        needed = {name for node in read_plan(reading).nodes for name in node.needs}
        if self._params.shown == "sinks":
            results = tuple(result for result in results if result.name not in needed)
        return Continue(ask=self._planner((*thread.last.context, *reading.whole(), *self._told(results))))

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        if path:
            node = tree.children[path[0]]
            trace = tuple(trace_words(node))
            return self.say(*trace, *self.result.words(node.own_solution, trace), EOS)
        if tree.children and call_number == 0:
            words: list[str] = []
            for number, child in enumerate(tree.children):
                words += ["<and>" if number else "<plan>", f"{number + 1} :", child.message]
                needs = " ".join(str(need + 1) for need in child.needs)
                words += ["<after>", needs] if needs else []
            return self.say(*words, "<run>")
        conclusion = (tree.conclusion,) if tree.conclusion else ()
        return self.say(*conclusion, *self.answer.words(tree.solution, conclusion), EOS)

    def needed_length(self, prompt: Prompt) -> int:
        planner = length(self.frame("planner", prompt))
        return self._params.planner_tokens + max(
            planner, length(self.frame("node")) + self._params.node_tokens
        )

    def _planner(self, context: tuple[Span, ...]) -> Ask:
        stops, tokens = self._tags.stops("<run>"), self._params.planner_tokens
        return Ask(role="planner", context=context, stops=stops, max_tokens=tokens)

    def _shown(self, results: tuple[ThreadResult, ...]) -> tuple[tuple[Span, ...], ...]:
        return tuple(self.result_text(result, self.nothing) for result in results)

    def _told(self, results: tuple[ThreadResult, ...]) -> tuple[Span, ...]:
        """Results behind the plan."""
        spans = [*self.forced("\n<results>\n")]
        for result, shown in zip(results, self._shown(results), strict=True):
            spans += (*self.forced(f"{result.name}: "), *shown, *self.forced("\n"))
        return (*spans, *self.forced("<end>\n"))

    def _run(self, thread: ThreadView, reading: Reading) -> Action:
        run = reading.marks[-1]
        opening = reading.last("<plan>")
        if opening is None:
            return malformed(ViolationKind.STRAY_TAG, run.start, "runs no plan")
        if thread.num_forks:
            return malformed(ViolationKind.FORK_NOT_ALLOWED, opening.start, "a second plan")
        plan = read_plan(reading)
        if not plan.nodes:
            end = malformed(ViolationKind.NO_CHILDREN, opening.start, "a plan without tasks")
            return replace(end, notes=(*plan.notes, *end.notes))
        nodes = in_order(plan.nodes)
        if nodes is None:
            end = malformed(ViolationKind.CYCLE, opening.start, "tasks wait for each other in a circle")
            return replace(end, notes=(*plan.notes, *end.notes))
        index_of = {node.name: number for number, node in enumerate(nodes)}
        return Fork(
            children=tuple(self._node(node) for node in nodes),
            needs=tuple(tuple(index_of[name] for name in node.needs) for node in nodes),
            barrier=self.barrier(),
            notes=plan.notes,
        )

    def _node(self, node: "Node") -> Ask:
        return Ask(
            role="node",
            context=self.frame("node", *node.task),
            task=node.task,
            stops=self._tags.stops(),
            max_tokens=self._params.node_tokens,
            name=node.name,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One task of a plan."""

    name: str
    """Index of the task, normalised."""
    task: tuple[Span, ...]
    needs: tuple[str, ...]
    """Indices of the tasks whose results it sees, in the order of the plan's text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The valid tasks of a plan, and its violations."""

    nodes: tuple[Node, ...]
    notes: tuple[Note, ...]


def read_plan(reading: Reading) -> Plan:
    """Read `... <plan> i : TASK <after> j k <and> i : TASK ... <run>`; text is matched, never evaluated."""
    opening = reading.last("<plan>")
    assert opening is not None
    notes: list[Note] = []
    found: dict[str, Node] = {}
    named_at: dict[str, int] = {}
    left, after = opening, None
    for mark in reading.marks[reading.marks.index(opening) + 1 :]:
        if mark.tag == "<after>" and after is None:
            after = mark
        if mark.tag not in ("<and>", "<run>"):
            continue
        node = _read_node(reading, left, after, mark, notes)
        if node is not None and node.name in found:
            detail = f"{node.name} is taken"
            notes.append(Note(kind=ViolationKind.DUPLICATE_INDEX, position=left.start, detail=detail))
        elif node is not None:
            found[node.name] = node
            named_at[node.name] = (after or left).start
        left, after = mark, None
    for name, node in found.items():
        known = tuple(need for need in node.needs if need in found)
        for need in node.needs:
            if need not in found:
                detail = f"{name} after {need}, which is unknown"
                kind = ViolationKind.UNKNOWN_DEPENDENCY
                notes.append(Note(kind=kind, position=named_at[name], detail=detail))
        found[name] = replace(node, needs=known)
    return Plan(nodes=tuple(found.values()), notes=tuple(notes))


def _read_node(
    reading: Reading, left: Mark, after: Mark | None, right: Mark, notes: list[Note]
) -> Node | None:
    """Read `i : TASK <after> j k` between two tags."""
    name, task = reading.numbered(left, after or right)
    if name is None:
        detail = "a task begins with its index and a colon"
        notes.append(Note(kind=ViolationKind.MISSING_INDEX, position=left.start, detail=detail))
        return None
    if not task:
        detail = f"task {name} is empty"
        notes.append(Note(kind=ViolationKind.EMPTY_CHILD, position=left.start, detail=detail))
        return None
    words = [] if after is None else reading.text(after, right).split()
    needs = [str(int(word)) for word in words if _NUMBER.fullmatch(word)]
    if after is not None and (not needs or len(needs) < len(words)):
        detail = f"task {name} comes after something that has no index"
        notes.append(Note(kind=ViolationKind.MISSING_INDEX, position=after.start, detail=detail))
    return Node(name=name, task=task, needs=tuple(dict.fromkeys(needs)))


def in_order(nodes: tuple[Node, ...]) -> tuple[Node, ...] | None:
    """Tasks in an order in which each comes after those it needs; None when that is impossible."""
    placed: dict[str, Node] = {}
    waiting = list(nodes)
    while waiting:
        ready = next((node for node in waiting if placed.keys() >= set(node.needs)), None)
        if ready is None:
            return None
        waiting.remove(ready)
        placed[ready.name] = ready
    return tuple(placed.values())
