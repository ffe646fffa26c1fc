"""The forests of a supervised stage as the table that the trainer reads."""

from typing import Any

from datasets import Dataset

from data.errors import ConfigError
from rl.config.stages import SftStage
from rl.imitation.demonstrations import RowSource
from rl.imitation.progress import ProgressWriter
from rl.imitation.tagged_rows import TaggedRow


def forests_as_dataset(source: RowSource, stage: SftStage, progress: ProgressWriter | None) -> Dataset:
    """A table with the rows of one forest in each line: as many forests as the training needs, or all there
    are, over which it then cycles. Raises ConfigError when no call fits into a forest.
    """
    activity = f"making forests of {stage.source.kind} episodes"
    needed = stage.steps * (stage.tokens_per_step // stage.forest_tokens)
    table: list[dict[str, Any]] = []
    for rows in source.forests(stage.forest_tokens):
        if progress is not None:
            progress.doing(activity, len(table), needed)
        table.append(
            {
                "ids": [list(row.ids) for row in rows],
                "weights": [list(row.weights) for row in rows],
                "episodes": [row.episode for row in rows if isinstance(row, TaggedRow)],
            }
        )
        if len(table) == needed:
            break
    left_out = source.left_out
    if not table and left_out.of and left_out.episodes == left_out.of:
        raise ConfigError(
            f"{stage.name}: {left_out}\n  fix: raise model.max_length and the protocol's token limits"
        )
    if not table and not left_out.calls and not stage.match_tags:
        raise ConfigError(
            f"{stage.name}.source: none of its episodes has a call to imitate: every thread was cut off or "
            "malformed, or the protocol trains none of its calls\n"
            "  fix: raise the protocol's token limits, or sample more episodes"
        )
    if not table:
        raise ConfigError(
            f"{stage.name}.forest_tokens = {stage.forest_tokens}: every call of every episode is longer"
            f"{', or all tags with all traces are' if stage.match_tags else ''}\n  fix: raise it"
        )
    if progress is not None and str(left_out):
        progress.note(str(left_out))
    return Dataset.from_list(table)
