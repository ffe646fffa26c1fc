"""The calls of a running episode: finished, in flight, and waiting for a slot."""

from data.episodes.trajectory import Call, Edge, EdgeKind, Forced, Limit, Span
from rollout.commands import CallResult, Cancel, Generate
from rollout.protocols.shared.params import Budgets
from rollout.threads import LiveThread, PendingCall, charge, left


class CallTable:
    """All calls of one episode by index, with the budgets that limit them."""

    def __init__(self, budgets: Budgets, max_length: int) -> None:
        """`max_length`: longest context + output of one call, in tokens."""
        self._budgets = budgets
        self._max_length = max_length
        self.calls: list[Call | None] = []
        """[calls] the finished calls; None while one is in flight."""
        self._critical: list[int] = []
        """[calls] sampled tokens on the longest path up to and including each call."""
        self.in_flight: dict[int, PendingCall] = {}
        """Calls that have not come back, by index."""
        self._queue: list[PendingCall] = []
        """Calls that wait for a slot, first come, first served."""

    def critical_tokens(self, call: int) -> int:
        """Sampled tokens on the longest path up to a call, its own included once it has come back."""
        return self._critical[call]

    @property
    def idle(self) -> bool:
        """Whether no call is in flight."""
        return not self.in_flight

    @property
    def has_slot(self) -> bool:
        """Whether `budgets.live_calls` allows one more call in flight."""
        return len(self.in_flight) < self._budgets.live_calls

    def resolve(self, spans: tuple[Span, ...]) -> tuple[int, ...]:
        """Token ids of spans: forced ids, and ranges of finished calls' outputs."""
        ids: list[int] = []
        for span in spans:
            if isinstance(span, Forced):
                ids.extend(span.ids)
            else:
                call = self.calls[span.call]
                assert call is not None, "a reference to a call that has not come back"
                ids.extend(call.output[span.start : span.stop])
        return tuple(ids)

    def enqueue(self, pending: PendingCall) -> None:
        """Let a call wait for a slot."""
        self._queue.append(pending)

    def next_queued(self, freed_by: int | None) -> PendingCall | None:
        """The next waiting call when there is a slot, else None. Calls of ended threads are dropped.
        `freed_by`: the finished call that made the slot free; the next call comes after it.
        """
        while self._queue and self.has_slot:
            pending = self._queue.pop(0)
            if pending.thread.ended:
                continue
            if freed_by is not None and all(edge.call != freed_by for edge in pending.after):
                pending.after = (*pending.after, Edge(kind=EdgeKind.SLOT, call=freed_by))
            return pending
        return None

    def start(self, pending: PendingCall) -> Generate | Limit:
        """Put a call in flight. -> the command, or the limit that leaves it no token to sample."""
        thread, ask = pending.thread, pending.ask
        prompt = self.resolve(ask.context)
        critical = max((self._critical[edge.call] for edge in pending.after), default=0)
        rooms = {
            Limit.CONTEXT: self._max_length - len(prompt),
            Limit.TOTAL_TOKENS: left(thread, self._budgets),
            Limit.CRITICAL_TOKENS: self._budgets.critical_tokens - critical,
        }
        limit = min(rooms, key=rooms.__getitem__)
        if rooms[limit] < 1:
            return limit
        pending.max_tokens = min(ask.max_tokens, rooms[limit])
        charge(thread, reserved=pending.max_tokens)
        index = len(self.calls)
        self.calls.append(None)
        self._critical.append(critical)
        self.in_flight[index] = pending
        thread.last_call = index
        return Generate(
            call=index,
            prompt=prompt,
            stops=ask.stops,
            max_tokens=pending.max_tokens,
            path=thread.path,
            number=len(thread.calls),
        )

    def finish(self, index: int, result: CallResult) -> tuple[LiveThread, Call]:
        """Record the result of a call in flight. -> (its thread, the finished call)."""
        pending = self.in_flight.pop(index)
        thread = pending.thread
        charge(thread, spent=len(result.output), reserved=-pending.max_tokens)
        call = pending.finished(index, result)
        self.calls[index] = call
        self._critical[index] += len(result.output)
        thread.calls.append(call)
        thread.last_call = index
        return thread, call

    def cancel(self, thread: LiveThread) -> list[Cancel]:
        """Commands that abort a thread's calls in flight; each call is aborted once."""
        commands: list[Cancel] = []
        for index, pending in self.in_flight.items():
            if pending.thread is thread and not pending.cancelled:
                pending.cancelled = True
                commands.append(Cancel(call=index))
        return commands

    def finished(self) -> tuple[Call, ...]:
        """All calls of an episode that has ended."""
        calls = tuple(call for call in self.calls if call is not None)
        assert len(calls) == len(self.calls), "a call is in flight"
        return calls
