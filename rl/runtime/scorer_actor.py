"""The Ray actor of a scorer: `ScorerActor.options(...).remote(settings, task)`."""

import ray

from rl.scorers.worker import ScorerWorker

ScorerActor = ray.remote(ScorerWorker)
