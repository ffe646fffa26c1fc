"""Labels by a judge: a language model is asked of each step whether it is right, and its verdict is read."""

import re
from typing import Any

from data.tasks.base import Task
from data.text.answer_format import AnswerFormatConfig
from data.text.codec import Codec
from data.text.prompt import Prompt
from rl.config.labels import JudgeLabels
from rl.scorers.completion_file import Completed
from rl.scorers.label_file import LabelRow
from rl.stages.complete_steps import Recorded, StepCompleter, counted
from rollout.protocols import AnyParams
from rollout.protocols.sequential import SequentialParams

MARKER = "Verdict:"
_RIGHT = re.compile(r"\W*(?:right|correct|yes)\b", re.IGNORECASE)
_WRONG = re.compile(r"\W*(?:wrong|incorrect|no)\b", re.IGNORECASE)


def judge_protocol(by: JudgeLabels) -> AnyParams:
    """One thread that ends with its verdict behind `MARKER`."""
    answer = AnswerFormatConfig(kind="after", markers=(MARKER,))
    return SequentialParams(name="sequential", max_tokens=by.max_tokens, answer=answer)


def question(task: Task, row: LabelRow, place: int, recorded: Recorded) -> str:
    """What a judge is asked of one step: problem, what the writer had read besides, and the steps so far."""
    parts = ["Problem:", task.prompt(recorded.problem).text]
    if row.call:
        parts += ["", "What the writer of the solution has read:", row.prompt]
    if place:
        parts += ["", "Steps that came before:", *row.steps[:place]]
    parts += [
        "", "Step to judge:", row.steps[place], "",
        "Is this step right? Judge this step alone, not those before it. The final answer is one word: "
        "right or wrong.",
    ]  # fmt: skip
    return "\n".join(parts)


def verdict_of(text: str) -> bool | None:
    """Whether a verdict says right; None when it says neither right nor wrong."""
    if _RIGHT.match(text):
        return True
    return False if _WRONG.match(text) else None


class StepJudge(StepCompleter):
    """Asks the model of every step; verdicts stand where a completer has graded completions."""

    def __init__(self, by: JudgeLabels, *given: Any, codec: Codec, **more: Any) -> None:
        """Arguments as for `StepCompleter`, but for the protocol, which is the judge's own."""
        super().__init__(by, *given, protocol=judge_protocol(by), **more)
        self._codec = codec

    async def complete(self, recorded: Recorded, row: LabelRow, stop: int) -> Completed:
        """The verdicts on the step that ends at output token `stop`."""
        asked = question(self._task, row, row.stops.index(stop), recorded)
        episodes = await self.sample(recorded.problem, row, stop, Prompt(asked))
        answers = [each.answer_ids() for each in episodes]
        said = ["".join(self._codec.pieces(ids)) for ids in answers if ids is not None]
        verdicts = tuple(verdict for text in said if (verdict := verdict_of(text)) is not None)
        return counted(row.id, stop, verdicts, episodes, ())
