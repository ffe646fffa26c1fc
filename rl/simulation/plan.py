"""What is simulated: the rates of engines and learner, the groups, one choice of settings, and faults."""

from dataclasses import dataclass

from rl.simulation.load import GroupLoad


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds that things take. A decode step of an engine with n live calls: `step_s + call_s * n`."""

    step_s: float
    call_s: float
    call_ticks: float = 0.0
    """Decode steps that a call lasts beside its tokens: its prefill, and the way to the engine and back."""
    learner_s: float = 0.0
    """Of a training step, whatever its size."""
    learner_token_s: float
    """Of a training step, for each token that was sampled."""
    publish_s: float = 0.0
    """Of a publish: engines sample under the weights before until its end."""
    engine_contention: float = 1.0
    """How much longer a decode step takes while the learner is at work: they may share cores."""
    learner_contention: float = 1.0
    """How much longer the learner takes while an engine is at work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """Groups by how far training has come: episodes grow or shrink as the policy learns."""

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
    """One choice."""

    rates: Rates
    workload: Workload
    steps: int
    groups_per_step: int
    staleness: int
    engines: int = 1
    max_live_calls: int = 256
    """Slots of each engine."""
    filtered_share: float = 0.0
    """Groups without signal: run, and left out."""
    validate_every: int = 0
    validation_groups: int = 0
    """Groups' worth of episodes in a validation."""
    checkpoint_every: int = 10
    """Matters to plans with faults only."""
    seed: int = 0
    """Of which groups are filtered out."""


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
