"""Problems of a recipe: generated, from problem files, or the rows of a data set within its length limits."""

from collections.abc import Sequence
from functools import cache, cached_property

from data.errors import ConfigError
from data.tasks.base import SolvedTask, Split, Task
from data.tasks.dataset.lengths import LengthLimit
from data.tasks.dataset.loading import Loaded
from data.tasks.dataset.sources import ReadSource, read_source
from data.tasks.dataset.task import Dataset
from data.tasks.problem import Problem, load_problems
from data.text.codec import Codec
from data.text.prompt import Prompt
from rl.config.codec import make_codec
from rl.config.protocol import ProtocolConfig
from rl.config.recipe import Recipe
from rl.config.stages import ExportStage
from rl.config.task import DatasetTask, TaskConfig
from rollout.opening import opening_tokens
from rollout.protocols import build_protocol
from rollout.protocols.shared.base import ThinkingProtocol


def make_problems(task: Task, config: TaskConfig, split: Split) -> list[Problem]:
    """Problems of a split, generated or from a problem file. They do not depend on the training seed."""
    assert not isinstance(config, DatasetTask), "rows are read by load_dataset, all splits at once"
    file = config.file(split)
    if file is not None:
        return load_problems(file, validate=task.validate)
    return task.problems(split, config.num_problems(split), 0)


def solved_task(task: Task, source: str) -> SolvedTask:
    """The task, whose solver the caller wants. Raises ConfigError, which names the recipe, if it has none."""
    if not isinstance(task, SolvedTask):
        raise ConfigError(
            f"{source}: task {task.name}: has no solver\n  fix: give a recipe of a task that is solved"
        )
    return task


def protocols_of(recipe: Recipe, config: TaskConfig) -> list[ProtocolConfig]:
    """The different protocols of the stages that work on a task; the recipe's own where no stage does."""
    stages = [stage for stage in recipe.stages if not isinstance(stage, ExportStage)]
    params = [recipe.protocol_of(stage) for stage in stages if recipe.task_of(stage) == config]
    return [one for index, one in enumerate(params) if one not in params[:index]] or [recipe.protocol]


def load_dataset(
    recipe: Recipe, config: DatasetTask, codec: Codec, read: ReadSource = read_source
) -> dict[Split, Loaded]:
    """The rows of a data set, measured as every protocol that works on them sends them.

    Raises:
        ConfigError: a row cannot become a problem, or lengths break the recipe's policy; the row is named.
    """
    protocols = [build_protocol(one, codec) for one in protocols_of(recipe, config)]
    return Dataset(config.params).load(length_limits(protocols, recipe.model.max_length, config), read)


class Datasets:
    """The data sets of a recipe for checks that look at them in turn: every source is read once."""

    def __init__(self, recipe: Recipe, read: ReadSource = read_source) -> None:
        self._recipe, self._read = recipe, cache(read)
        self._loaded: dict[DatasetTask, dict[Split, Loaded]] = {}

    @cached_property
    def codec(self) -> Codec:
        """The tokenizer that measures them."""
        return make_codec(self._recipe)

    def splits(self, config: DatasetTask) -> dict[Split, Loaded]:
        """The rows that training and evaluation will get. Raises ConfigError as `load_dataset` does."""
        if config not in self._loaded:
            self._loaded[config] = load_dataset(self._recipe, config, self.codec, self._read)
        return self._loaded[config]


def length_limits(
    protocols: Sequence[ThinkingProtocol], max_length: int, config: DatasetTask
) -> list[LengthLimit]:
    """The limits on a prompt: that of the recipe, and the model's context with the protocols' calls in it."""

    def needed(prompt: Prompt) -> int:
        return max(protocol.needed_length(prompt) for protocol in protocols)

    def sent(prompt: Prompt) -> int:
        return max(opening_tokens(protocol, prompt) for protocol in protocols)

    limits = [LengthLimit(needed, max_length, "model.max_length")]
    most = config.params.max_prompt_tokens
    own = [] if most is None else [LengthLimit(sent, most, "task.params.max_prompt_tokens")]
    return [*own, *limits]
