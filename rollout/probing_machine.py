"""An episode machine that, once its episode has ended, forces answers out of the root's thought.

All calls of the episode are made first, so they are those of a machine without probes, seeds and all. Then
all probes are asked for at once: they share the prefixes that the engine still holds.
"""

from dataclasses import replace

from data.episodes.probe_plan import Place, ProbePlan, Thought, probe_places
from data.episodes.trajectory import Call, Edge, EdgeKind, Episode, Probe, Ref, Span, ThreadOutcome
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt
from rollout.commands import CallResult, Cancel, Command, Generate, ScoreResult
from rollout.machine import EpisodeMachine
from rollout.protocols.shared.actions import Ask
from rollout.protocols.shared.base import ThinkingProtocol
from rollout.protocols.shared.forced_answers import forced_answer, probe_ask, thought_of
from rollout.protocols.shared.spoken import ids_of
from rollout.threads import LiveThread, PendingCall


class ProbingMachine(EpisodeMachine):
    """As `EpisodeMachine`; `done` when the probes have come back too."""

    def __init__(
        self,
        protocol: ThinkingProtocol,
        prompt: Prompt,
        *,
        id: str,
        problem_id: str,
        max_length: int,
        plan: ProbePlan,
    ) -> None:
        """`plan`: the probes; the other arguments as for `EpisodeMachine`."""
        super().__init__(protocol, prompt, id=id, problem_id=problem_id, max_length=max_length)
        self._plan, self._max_length = plan, max_length
        self._ended: Episode | None = None
        """The episode without probes, once it has ended."""
        self._open: dict[int, tuple[Place, PendingCall]] = {}
        """Probes in flight by the index of their call."""
        self._probes: dict[int, Probe] = {}

    @property
    def done(self) -> bool:
        return super().done and not self._open

    def begin(self, tree: SearchTree | None = None) -> list[Command]:
        return self._then_probe(super().begin(tree))

    def on_result(self, call: int, result: CallResult) -> list[Command]:
        if call in self._open:
            self._finish_probe(call, result)
            return []
        return self._then_probe(super().on_result(call, result))

    def on_scores(self, scoring: int, result: ScoreResult) -> list[Command]:
        return self._then_probe(super().on_scores(scoring, result))

    def on_clock(self, seconds: float) -> list[Command]:
        return self._then_probe(super().on_clock(seconds))

    def on_give_up(self) -> list[Command]:
        if self._ended is not None:
            return [Cancel(call=call) for call in self._open]
        return self._then_probe(super().on_give_up())

    def episode(self) -> Episode:
        assert self.done and self._ended is not None, "the episode is still running"
        return replace(self._ended, probes=tuple(self._probes[call] for call in sorted(self._probes)))

    def _then_probe(self, commands: list[Command]) -> list[Command]:
        """The commands and, when the episode has just ended, its probes."""
        if self._ended is not None or not super().done:
            return commands
        self._ended = super().episode()
        if self._ended.outcome in (ThreadOutcome.FAILED, ThreadOutcome.CANCELLED):
            return commands  # such an episode is not graded
        return [*commands, *self._ask_probes(self._ended)]

    def _ask_probes(self, episode: Episode) -> list[Command]:
        own = [call for call in episode.calls if call.thread == 0]
        thoughts = [
            Thought(
                call=call.index,
                tokens=thought_of(self._protocol, call),
                joined=any(edge.kind is EdgeKind.JOIN for edge in call.after),
            )
            for call in own
        ]
        root, commands = self.threads[0], list[Command]()
        for place in probe_places(thoughts, self._plan):
            context = _beginning(episode.calls[place[0]], place[1])
            ask = probe_ask(self._protocol, context, self._plan.answer_tokens)
            prompt = episode.resolve(ask.context)
            tokens = min(ask.max_tokens, self._max_length - len(prompt))
            for _ in range(self._plan.answers if tokens > 0 else 0):
                number = len(self._open)
                index = len(episode.calls) + number
                self._open[index] = place, _pending(root, ask, episode.calls[place[0]], place[1], tokens)
                commands.append(
                    Generate(
                        call=index, prompt=prompt, stops=ask.stops, max_tokens=tokens,
                        path=(), number=len(own) + number,
                    )
                )  # fmt: skip
        return commands

    def _finish_probe(self, index: int, result: CallResult) -> None:
        assert self._ended is not None, "probes follow the episode"
        (of, stop), pending = self._open.pop(index)
        call = pending.finished(index, result)
        spans = forced_answer(self._protocol, call)
        answer = None if spans is None else ids_of(spans, (call,))
        self._probes[index] = Probe(call=call, of=of, stop=stop, answer=answer)


def machine_of(
    protocol: ThinkingProtocol,
    prompt: Prompt,
    *,
    id: str,
    problem_id: str,
    max_length: int,
    probes: ProbePlan | None = None,
) -> EpisodeMachine:
    """The machine of an episode, with probes or without."""
    if probes is None:
        return EpisodeMachine(protocol, prompt, id=id, problem_id=problem_id, max_length=max_length)
    return ProbingMachine(protocol, prompt, id=id, problem_id=problem_id, max_length=max_length, plan=probes)


def _beginning(call: Call, stop: int) -> tuple[Span, ...]:
    """The context of a call, and the first tokens of what it said."""
    return (*call.context, Ref(call=call.index, start=0, stop=stop)) if stop else call.context


def _pending(root: LiveThread, ask: Ask, of: Call, stop: int, tokens: int) -> PendingCall:
    """A probe in flight. It comes after the call that it continues, or after what that call waited for."""
    after = (Edge(kind=EdgeKind.NEXT, call=of.index),) if stop else of.after
    return PendingCall(thread=root, ask=ask, after=after, max_tokens=tokens)
