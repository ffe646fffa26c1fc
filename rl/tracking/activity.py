"""Progress lines of a stage between two lines of metrics: activity and time left."""

from dataclasses import dataclass

from rl.tracking.terminal import clock


@dataclass(kw_only=True, slots=True)
class Activity:
    """The current activity of a stage, before or during its next update."""

    name: str
    began: float
    """Seconds on the clock of `text`."""
    done: int = 0
    total: int = 0

    def text(self, now: float) -> str:
        """One line: amount, time elapsed, and the time left at this pace.

        Example: "making forests, 200 of 800, 0:20 elapsed, about 1:00 left".
        """
        elapsed = now - self.began
        parts = [self.name]
        if self.total:
            parts.append(f"{self.done} of {self.total}")
        elif self.done:
            parts.append(f"{self.done} so far")
        parts.append(f"{clock(elapsed)} elapsed")
        if 0 < self.done < self.total:
            parts.append(f"about {clock(elapsed / self.done * (self.total - self.done))} left")
        return ", ".join(parts)
