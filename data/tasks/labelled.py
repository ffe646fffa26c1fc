"""Tasks that know of every step of a search whether it is right."""

from abc import abstractmethod
from collections.abc import Sequence

from data.steps.step import Range, StepLabel
from data.tasks.base import SolvedTask
from data.tasks.problem import Problem


class StepLabelledTask(SolvedTask):
    """A solved task with exact labels of steps, for text as its solver writes it and near to it."""

    @abstractmethod
    def step_ranges(self, segment: str) -> list[Range]:
        """Ranges of characters of the steps in a text without tags and line ends, ascending."""

    @abstractmethod
    def label_steps(
        self, problem: Problem, before: Sequence[str], steps: Sequence[str]
    ) -> tuple[StepLabel, ...]:
        """[S] label of each step that a call wrote, in order.

        A wrong step does not spoil later ones: those are judged by the values that it left.

        Args:
            before: steps that the call's context shows, the problem's own lines among them; they say which
                values are there.
            steps: what the call wrote, as `step_ranges` cuts it.
        """
