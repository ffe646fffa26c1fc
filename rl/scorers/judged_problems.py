"""Solutions to judge, as problems of task `judge`: those that a stage has labelled, or those of a file."""

from data.errors import ConfigError
from data.tasks.base import Split
from data.tasks.problem import Problem
from data.tasks.registry import build_task
from data.text.codec import Codec
from rl.config.recipe import Recipe
from rl.config.task import JudgeTask
from rl.problems import make_problems, protocols_of
from rl.scorers.label_file import LABELS
from rl.storage.run_directory import RunDirectory
from rollout.protocols import build_protocol


def labelled_problems(config: JudgeTask, directory: RunDirectory, split: Split) -> list[Problem]:
    """All problems of a split.

    Raises:
        ConfigError: the stage whose labels they are is not done, its file is damaged, or there is none to
            train on.
    """
    stage = config.params.stage
    if stage is not None:
        path = directory.path / "stages" / stage / LABELS
        if not path.is_file():
            raise ConfigError(
                f"{path}: is missing\n  fix: finish stage {stage!r}, whose labels it has, first"
            )
        params = config.params.model_copy(update={"stage": None, "file": path})
        config = config.model_copy(update={"params": params})
    return make_problems(build_task(config.params), config, split)


def judged_problems(
    recipe: Recipe, config: JudgeTask, split: Split, codec: Codec, directory: RunDirectory
) -> list[Problem]:
    """The problems that the model's context has room for, with every protocol of the stages that judge them;
    none where the split has none.

    Raises:
        ConfigError: as `labelled_problems`, or none has room.
    """
    task, problems = build_task(config.params), labelled_problems(config, directory, split)
    protocols = [build_protocol(params, codec) for params in protocols_of(recipe, config)]
    room = recipe.model.max_length
    fitting = [
        each
        for each in problems
        if all(protocol.needed_length(task.prompt(each)) <= room for protocol in protocols)
    ]
    if len(fitting) < len(problems):
        print(f"judge, {split}: {len(problems) - len(fitting)} of {len(problems)} solutions are too long")
    if problems and not fitting:
        raise ConfigError(
            f"task judge: none of {len(problems)} solutions of the {split} split, with the calls of its "
            f"protocol, fits into model.max_length = {room}\n  fix: raise it, or lower the protocol's limits"
        )
    return fitting
