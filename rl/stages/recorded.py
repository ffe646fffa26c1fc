"""The recorded episodes that a stage labels or learns from."""

import random

from data.episodes.trajectory import Episode
from data.tasks.problem import Problem
from rl.config.stages import LabelStage, RewardModelStage
from rl.imitation.recorded_episodes import read_records, record_files
from rl.stages.context import RunContext
from rl.stages.sft import shown


def drawn_episodes(
    context: RunContext, stage: LabelStage | RewardModelStage, purpose: str
) -> list[tuple[Problem, Episode]]:
    """Recorded episodes on training problems of the stage, copies left out, in random order; at most
    `episodes` of the stage. Equal for equal records, seeds and purposes.

    Raises ConfigError for a damaged record, or one of another protocol.
    """
    problems = {problem.id: problem for problem in context.problems(stage, "train")}
    protocol = context.recipe.protocol_of(stage).name
    records = read_records(record_files(stage.source, context.directory), protocol)
    found: list[tuple[Problem, Episode]] = []
    seen: set[tuple[object, ...]] = set()
    for _, episode in shown(stage.name, records):
        key = (episode.problem_id, tuple(call.output for call in episode.calls))
        if episode.problem_id in problems and key not in seen:
            seen.add(key)
            found.append((problems[episode.problem_id], episode))
    random.Random(f"braid/{purpose}/{context.recipe.seed}").shuffle(found)
    return found[: stage.episodes]
