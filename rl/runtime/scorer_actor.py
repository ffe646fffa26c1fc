"""The Ray actors of scorers: `ScorerActor.options(...).remote(settings, task)`, the others alike."""

import ray

from rl.scorers.judge_worker import JudgeWorker
from rl.scorers.label_worker import LabelWorker
from rl.scorers.worker import ScorerWorker

ScorerActor = ray.remote(ScorerWorker)
LabelActor = ray.remote(LabelWorker)
JudgeActor = ray.remote(JudgeWorker)
