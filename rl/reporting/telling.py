"""Makes an episode readable: its text by the run's tokenizer, its problem, and the labels of its steps."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from data.errors import ConfigError
from data.steps.label import label_lines
from data.steps.step import LabelledStep
from data.tasks.base import Task
from data.tasks.labelled import StepLabelledTask
from data.tasks.problem import Problem
from data.tasks.registry import build_task
from data.text.codec import Codec, load_codec
from rl.config import Recipe
from rl.config.stages import StageConfig
from rl.config.task import TaskConfig
from rl.drawing.layout import Decode, blocks
from rl.evaluation.recorded_steps import stage_problems
from rl.reporting.contents import Shown, Told
from rl.reporting.gaps import Gaps
from rl.storage.run_directory import RunDirectory


@dataclass(kw_only=True)
class Teller:
    """Tells the episodes of one run. What it cannot find out is left out, with a message in `gaps`."""

    directory: RunDirectory
    recipe: Recipe | None
    """None where this version of Braid cannot read it: then there are neither problems nor labels."""
    gaps: Gaps
    _codec: list[Codec | None] = field(default_factory=list)
    _known: list[tuple[TaskConfig, tuple[Task, dict[str, Problem]]]] = field(default_factory=list)

    def tell(self, stage_name: str, why: str, shown: Shown) -> Told:
        """The episode with its text and everything known of it."""
        codec = self.codec
        told = Told(stage=stage_name, why=why, shown=shown, blocks=tuple(blocks(shown.episode, self.decode)))
        if codec is None or self.recipe is None:
            return told
        found = self._problem(self.recipe, stage_name, codec, shown.episode.problem_id)
        if found is None:
            return told
        task, problem = found
        unknown: tuple[LabelledStep, ...] = ()
        steps = self.gaps.attempt(lambda: _labelled(task, problem, shown, codec), unknown)
        text = self.gaps.attempt(lambda: task.prompt(problem).text, "")
        return replace(told, problem=text, steps=steps)

    @property
    def codec(self) -> Codec | None:
        """The run's tokenizer, loaded once; None where it cannot be loaded."""
        if not self._codec:
            self._codec.append(self.gaps.attempt(lambda: load_codec(self.directory.start), None))
        return self._codec[0]

    @property
    def decode(self) -> Decode:
        """Token ids to text; to numbers where there is no tokenizer."""
        return _numbers if self.codec is None else self.codec.decode

    def _problem(
        self, recipe: Recipe, stage_name: str, codec: Codec, problem_id: str
    ) -> tuple[Task, Problem] | None:
        stage = recipe.stage(stage_name)
        config = recipe.task_of(stage)
        loaded = next((found for known, found in self._known if known == config), None)
        if loaded is None:
            loaded = self.gaps.attempt(lambda: _load(recipe, self.directory, stage, codec), None)
            if loaded is None:
                return None
            self._known.append((config, loaded))
        task, problems = loaded
        problem = problems.get(problem_id)
        return None if problem is None else (task, problem)


def _load(
    recipe: Recipe, directory: RunDirectory, stage: StageConfig, codec: Codec
) -> tuple[Task, dict[str, Problem]]:
    return build_task(recipe.task_of(stage).params), stage_problems(recipe, directory, stage, codec)


def _labelled(task: Task, problem: Problem, shown: Shown, codec: Codec) -> tuple[LabelledStep, ...]:
    if not isinstance(task, StepLabelledTask):
        return ()
    return tuple(label_lines(task, problem, shown.episode, codec))


def _numbers(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def open_teller(directory: RunDirectory, gaps: Gaps) -> Teller:
    """The teller of a run whose recipe may be one that this version of Braid cannot read."""
    recipe: Recipe | None = None
    try:
        recipe = directory.recipe()
    except ConfigError as error:
        gaps.note(str(error))
    return Teller(directory=directory, recipe=recipe, gaps=gaps)
