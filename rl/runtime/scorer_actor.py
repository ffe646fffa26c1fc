"""The Ray actors of scorers: `ScorerActor.options(...).remote(settings, task)`, `LabelActor` alike."""

import ray

from rl.scorers.label_worker import LabelWorker
from rl.scorers.worker import ScorerWorker

ScorerActor = ray.remote(ScorerWorker)
LabelActor = ray.remote(LabelWorker)
