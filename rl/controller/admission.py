"""Which group may start, and which groups a step consumes: the staleness bound as a pure state machine.

    group k may start      when published_version >= floor(position(k) / B) - S
    position(k)            groups before k that are not (yet) filtered out
    step t consumes        the next B kept groups, in order

Published version v means that steps 0 .. v-1 have been trained. A group is consumed at step
floor(position/B), and a filter only ever lowers positions, so every token trained at step t was sampled
by weights of version >= t - S: by admission alone, without dropping a slow group. S = 0 is the
synchronous algorithm.
"""

from enum import StrEnum
from itertools import islice


class GroupState(StrEnum):
    """Where a group is."""

    RUNNING = "running"
    KEPT = "kept"
    """Finished, waits for its step."""
    FILTERED = "filtered"
    """Finished, will never be trained (no signal); it gives up its position."""


class Admission:
    """The state machine. Groups are numbered by the sampler's order; no clock, no I/O."""

    def __init__(
        self, *, groups_per_step: int, staleness: int, total_steps: int, step: int = 0, next_group: int = 0
    ) -> None:
        """Starts (or resumes) before `step`, with every group below `next_group` consumed or filtered."""
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
        """Started and not consumed, filtered ones included until everything before them is gone. In order."""
        # Counted as things happen, so that no question below costs more the more groups are open.
        self._num_running = 0
        self._num_kept = 0
        self._settled = next_group
        """First group that still runs: the state of everything before it is final."""
        self._settled_kept = 0
        """How many before it wait for their step."""

    @property
    def num_running(self) -> int:
        """Groups on an engine."""
        return self._num_running

    @property
    def first_open(self) -> int:
        """First group behind the last consumed one: where a resume starts. One that was filtered since is
        run again, since the step that counts it among the filtered is still to come.
        """
        return next(iter(self._groups), self.next_group)

    def steps_of(self, group: int) -> range:
        """The steps that may come to train a running group, should it be kept.

        Its position is settled up to the groups before it that still run: each may be kept or filtered out.
        With S = 0 there is one step, always; and none is left open once everything before it has finished.
        """
        assert self._groups[group] is GroupState.RUNNING
        before = [state for other, state in self._groups.items() if other < group]
        kept = self.step * self._per_step + sum(state is GroupState.KEPT for state in before)
        running = sum(state is GroupState.RUNNING for state in before)
        return range(kept // self._per_step, (kept + running) // self._per_step + 1)

    def admissible(self) -> int | None:
        """The group that may start now, or None. Groups start in order."""
        position = self.step * self._per_step + self._num_running + self._num_kept
        at_step = position // self._per_step
        if at_step >= self._total_steps or self.version < at_step - self._staleness:
            return None
        return self.next_group

    def start(self) -> int:
        """Mark the admissible group as running."""
        group = self.admissible()
        assert group is not None, "no group may start"
        self._groups[group] = GroupState.RUNNING
        self._num_running += 1
        self.next_group += 1
        return group

    def finish(self, group: int, *, kept: bool) -> None:
        """A running group ended; `kept=False` filters it out."""
        assert self._groups[group] is GroupState.RUNNING
        self._groups[group] = GroupState.KEPT if kept else GroupState.FILTERED
        self._num_running -= 1
        self._num_kept += kept
        while self._groups.get(self._settled, GroupState.RUNNING) is not GroupState.RUNNING:
            self._settled_kept += self._groups[self._settled] is GroupState.KEPT
            self._settled += 1

    def ready(self) -> list[int] | None:
        """The next B groups that are not filtered, if all of them have finished."""
        if self.step >= self._total_steps or self._settled_kept < self._per_step:
            return None
        kept = (group for group, state in self._groups.items() if state is GroupState.KEPT)
        return list(islice(kept, self._per_step))

    def consume(self) -> list[int]:
        """Take the ready batch: it is trained at `step`, which advances."""
        batch = self.ready()
        assert batch is not None, "no batch is ready"
        for group in range(self.first_open, batch[-1] + 1):
            del self._groups[group]
        self._num_kept -= len(batch)
        self._settled_kept -= len(batch)
        self.step += 1
        return batch

    def publish(self, version: int) -> None:
        """All engines now run the weights after step `version - 1`."""
        assert version == self.version + 1 <= self.step, "versions are published one by one, after their step"
        self.version = version
