"""Figures of a server for Prometheus, at `/metrics`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from data.episodes.topology import critical_tokens
from data.episodes.trajectory import Episode, StopReason

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """All figures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("braid_requests", "Requests answered", ["endpoint", "status"], registry=own)
        self.episodes = Counter("braid_episodes", "Episodes that ended", ["outcome"], registry=own)
        self.sampled = Counter(
            "braid_sampled_tokens", "Tokens sampled, cancelled ones included", registry=own
        )
        self.cancelled = Counter(
            "braid_cancelled_tokens", "Tokens of calls that were cancelled", registry=own
        )
        self.critical = Counter(
            "braid_critical_tokens", "Tokens on the longest path of episodes", registry=own
        )
        self.context = Counter("braid_context_tokens", "Tokens that calls saw", registry=own)
        self.cached = Counter("braid_cached_tokens", "Of these, from the prefix cache", registry=own)
        self.gone = Counter("braid_clients_gone", "Requests whose client went away", registry=own)
        self.deaths = Gauge("braid_engine_deaths", "Engines that were replaced", registry=own)
        self.live = Gauge("braid_live_episodes", "Episodes that run", registry=own)
        self.waiting = Gauge("braid_waiting_episodes", "Episodes that wait for room", registry=own)
        self.cancel_steps = Gauge(
            "braid_cancel_steps_max", "Most tokens a call sampled after its client had gone", registry=own
        )
        self.first_token = Histogram(
            "braid_first_token_seconds", "From a request to its first token", buckets=_SECONDS, registry=own
        )
        self.seconds = Histogram(
            "braid_episode_seconds", "From a request to an episode's end", buckets=_SECONDS, registry=own
        )
        self._most_steps = 0

    def add_episode(self, episode: Episode, seconds: float) -> None:
        """Count a finished episode; `seconds`: since its request came."""
        self.episodes.labels(episode.outcome.value).inc()
        self.critical.inc(critical_tokens(episode))
        self.seconds.observe(seconds)
        for call in episode.calls:
            self.sampled.inc(len(call.output))
            self.context.inc(sum(len(span) for span in call.context))
            self.cached.inc(call.cached_tokens)
            if call.stop is StopReason.ABORT:
                self.cancelled.inc(len(call.output))

    def add_cancelled(self, steps: int) -> None:
        """Count the tokens that a call sampled after its client had gone."""
        self._most_steps = max(self._most_steps, steps)
        self.cancel_steps.set(self._most_steps)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
