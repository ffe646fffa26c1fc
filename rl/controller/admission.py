"""The staleness bound as a pure state machine: which group may start, and which groups a step consumes.

    group k may start      when published_version >= floor(position(k) / B) - S
    position(k)            groups before k that are not (yet) filtered out
    step t consumes        the next B kept groups, in order

Published version v means that steps 0 .. v-1 have been trained. A group is consumed at step
floor(position/B), and a filter only ever lowers positions, so every token trained at step t was sampled
by weights of version >= t - S. Admission alone guarantees this; no slow group is dropped. S = 0 is the
synchronous algorithm.
"""

from enum import StrEnum
from itertools import islice


class GroupState(StrEnum):
    """State of a started group."""

    RUNNING = "running"
    KEPT = "kept"
    """Finished and waiting for its step."""
    FILTERED = "filtered"
    """Finished without signal: it is never trained and gives up its position."""


class Admission:
    """States of all open groups, numbered in the order of the sampler. No clock, no I/O."""

    def __init__(
        self, *, groups_per_step: int, staleness: int, total_steps: int, step: int = 0, next_group: int = 0
    ) -> None:
        """Start or resume before `step`, with every group below `next_group` consumed or filtered out."""
        assert groups_per_step >= 1 and staleness >= 0 and 0 <= step <= total_steps
        self._per_step = groups_per_step
        self._staleness = staleness
        self._total_steps = total_steps
        self.version = step
        """Published version: number of steps whose weights all engines have."""
        self.step = step
        """Next step to consume a batch."""
        self.next_group = next_group
        """First group that has not been started."""
        self._groups: dict[int, GroupState] = {}
        """Open groups in order: started and not consumed. Filtered ones stay until the next consumption."""
        # Counters, so that no method needs to walk over all open groups.
        self._num_running = 0
        self._num_kept = 0
        self._settled = next_group
        """First group that still runs; the states of all groups before it are final."""
        self._settled_kept = 0
        """Number of kept groups before it."""

    @property
    def num_running(self) -> int:
        """Number of groups that are being sampled, scored or decided."""
        return self._num_running

    @property
    def first_open(self) -> int:
        """First group after the last consumed one, where a resume starts. Groups filtered out since then run
        again, because the step that counts them has not been made.
        """
        return next(iter(self._groups), self.next_group)

    def steps_of(self, group_index: int) -> range:
        """The steps that may train a running group if it is kept.

        Its position is uncertain only by the groups before it that still run, since each of them may be kept
        or filtered out. There is exactly one step with S = 0, or when all groups before it have finished.
        """
        assert self._groups[group_index] is GroupState.RUNNING
        before = [state for other, state in self._groups.items() if other < group_index]
        kept = self.step * self._per_step + sum(state is GroupState.KEPT for state in before)
        running = sum(state is GroupState.RUNNING for state in before)
        return range(kept // self._per_step, (kept + running) // self._per_step + 1)

    def admissible(self) -> int | None:
        """Index of the group that may start now, or None. Groups start in order."""
        position = self.step * self._per_step + self._num_running + self._num_kept
        at_step = position // self._per_step
        if at_step >= self._total_steps or self.version < at_step - self._staleness:
            return None
        return self.next_group

    def start(self) -> int:
        """Mark the admissible group as running. -> its index."""
        group_index = self.admissible()
        assert group_index is not None, "no group may start"
        self._groups[group_index] = GroupState.RUNNING
        self._num_running += 1
        self.next_group += 1
        return group_index

    def finish(self, group_index: int, *, kept: bool) -> None:
        """End a running group; `kept=False` filters it out."""
        assert self._groups[group_index] is GroupState.RUNNING
        self._groups[group_index] = GroupState.KEPT if kept else GroupState.FILTERED
        self._num_running -= 1
        self._num_kept += kept
        while self._groups.get(self._settled, GroupState.RUNNING) is not GroupState.RUNNING:
            self._settled_kept += self._groups[self._settled] is GroupState.KEPT
            self._settled += 1

    def ready(self) -> list[int] | None:
        """Indices of the next B kept groups, once no group before the last of them still runs; else None."""
        if self.step >= self._total_steps or self._settled_kept < self._per_step:
            return None
        kept = (index for index, state in self._groups.items() if state is GroupState.KEPT)
        return list(islice(kept, self._per_step))

    def consume(self) -> list[int]:
        """Take the ready batch, which `step` trains, and advance to the next step. -> group indices."""
        batch = self.ready()
        assert batch is not None, "no batch is ready"
        for index in range(self.first_open, batch[-1] + 1):
            del self._groups[index]
        self._num_kept -= len(batch)
        self._settled_kept -= len(batch)
        self.step += 1
        return batch

    def publish(self, version: int) -> None:
        """Note that all engines now have the weights after step `version - 1`."""
        assert version == self.version + 1 <= self.step, "versions are published one by one, after their step"
        self.version = version
