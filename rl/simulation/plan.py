"""Input of a simulation: rates of engines and learner, groups, settings, and faults."""

from dataclasses import dataclass

from rl.simulation.load import GroupLoad


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Durations in seconds. A decode step of an engine with n live calls takes `step_s + call_s * n`."""

    step_s: float
    call_s: float
    call_ticks: float = 0.0
    """Decode steps that a call takes beyond its tokens: prefill, and transport to the engine and back."""
    learner_s: float = 0.0
    """Fixed duration of a training step."""
    learner_token_s: float
    """Duration of a training step per sampled token."""
    publish_s: float = 0.0
    """Duration of a publish; engines sample with the old weights until its end."""
    engine_contention: float = 1.0
    """Slowdown of a decode step while the learner works on the same cores."""
    learner_contention: float = 1.0
    """Slowdown of the learner while an engine works."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """Groups by progress of the training: episodes grow or shrink as the policy learns."""

    parts: tuple[tuple[GroupLoad, ...], ...]
    """Groups of the first part of the training, of the second, and so on; at least one each."""

    def group(self, index: int, step: int, steps: int) -> GroupLoad:
        """The `index`-th group, meant for `step` of `steps`. Taken in turn, so a plan of as many steps and
        groups as the record has replays it in order.
        """
        part = self.parts[min(step * len(self.parts) // steps, len(self.parts) - 1)]
        return part[index % len(part)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One choice of settings, with everything that its simulation needs."""

    rates: Rates
    workload: Workload
    steps: int
    groups_per_step: int
    staleness: int
    engines: int = 1
    max_live_calls: int = 256
    """Number of slots of each engine."""
    filtered_share: float = 0.0
    """Share of groups that are run but have no signal."""
    validate_every: int = 0
    validation_groups: int = 0
    """Size of a validation, in groups."""
    checkpoint_every: int = 10
    """Steps between checkpoints; matters to plans with faults only."""
    seed: int = 0
    """Seed that decides which groups are filtered out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineDeath:
    """An engine's process ends at `at_s` and is back `down_s` later; its groups go to the others at once."""

    at_s: float
    engine: int
    down_s: float
    keeps: bool
    """Whether its groups go on from what they had sampled, rather than from their prompts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crash:
    """The controller or the learner ends at `at_s`; `down_s` later the run resumes from its checkpoint."""

    at_s: float
    down_s: float


Fault = EngineDeath | Crash
