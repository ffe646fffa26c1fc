"""First embedding rows of tags that were added to a pretrained model's tokenizer.

A tag's row is the mean of the rows of its own sub-words: those of its bare word, as Multiverse and
ThreadWeaver do, and those of the tag as it is spelled, so that `<Path>` and `</Path>` differ. Nothing is
drawn at random.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from data.errors import ConfigError


def tag_pieces(tokenizer: Any, tag: str) -> list[int]:
    """Ids of the sub-words of a tag in the tokenizer that lacks it: of the bare word behind a space, then of
    the whole tag. `<Path>` -> ids of " Path", "<", "Path", ">".
    """
    word = tag.strip("</>")
    texts = [f" {word}", tag] if word else [tag]
    return [int(index) for text in texts for index in tokenizer.encode(text, add_special_tokens=False)]


def mean_rows(table: torch.Tensor, pieces: Sequence[Sequence[int]]) -> torch.Tensor:
    """table [V, H], n lists of ids -> [n, H] float32: the mean of each list's rows.

    Example: rows [1, 0], [3, 4], [5, 2] and lists [0, 1], [2, 1, 1] -> [2, 2], [11/3, 10/3].
    """
    return torch.stack([table[list(ids)].float().mean(0) for ids in pieces])


def largest_cosine(rows: torch.Tensor) -> float:
    """rows [n, H] -> the largest cosine of two of them; -1 for fewer than two."""
    unit = torch.nn.functional.normalize(rows.float(), dim=1)
    cosines = unit @ unit.T
    cosines.fill_diagonal_(-1.0)
    return float(cosines.max()) if len(rows) > 1 else -1.0


def new_tags(base: Any, grown: Any) -> dict[str, int]:
    """{token: id} of the tokens that the grown tokenizer has and the base lacks, by id.

    Raises ConfigError when two of them have one id.
    """
    known = set(base.get_vocab().values())
    added = sorted(grown.get_added_vocab().items(), key=lambda item: item[1])
    found = {str(tag): int(index) for tag, index in added if index not in known}
    if len(set(found.values())) < len(found):
        raise ConfigError(f"{grown.name_or_path}: two tags have one id in {found}; save the tokenizer again")
    return found


@torch.no_grad()
def grow(model: Any, rows: int) -> None:
    """Give embedding and output layer at least so many rows, in place; never fewer than they have. New rows
    are the mean of the old ones. The configuration's vocab_size follows.
    """
    table = model.get_input_embeddings().weight
    before = table.shape[0]
    if rows <= before:
        return
    means = [layer.weight.float().mean(0) for layer in _layers(model)]
    with torch.random.fork_rng(devices=[]):  # transformers draws rows, which are replaced here
        model.resize_token_embeddings(rows, mean_resizing=False)
    for layer, mean in zip(_layers(model), means, strict=True):
        layer.weight[before:] = mean
        if getattr(layer, "bias", None) is not None:
            layer.bias[before:] = layer.bias[:before].mean()


@torch.no_grad()
def set_tag_rows(model: Any, tokenizer: Any, tags: Mapping[str, int]) -> float:
    """Set the rows of added tags in embedding and output layer, in place; also where it has spare rows.
    `tokenizer`: the one that lacks the tags. -> largest cosine of two tags' rows.

    Raises ConfigError when two tags would have equal rows.
    """
    if not tags:
        return -1.0
    ids, pieces = list(tags.values()), [tag_pieces(tokenizer, tag) for tag in tags]
    largest = -1.0
    for layer in _layers(model):
        rows = mean_rows(layer.weight, pieces)
        layer.weight[ids] = rows.to(layer.weight.dtype)
        _ensure_distinct(layer.weight[ids], list(tags))
        if getattr(layer, "bias", None) is not None:
            layer.bias[ids] = torch.stack([layer.bias[list(own)].mean() for own in pieces])
        largest = max(largest, largest_cosine(rows))
    return largest


def _layers(model: Any) -> list[Any]:
    """The embedding, and the output layer where it has weights of its own."""
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    return [embedding] if output.weight is embedding.weight else [embedding, output]


def _ensure_distinct(rows: torch.Tensor, tags: Sequence[str]) -> None:
    seen: dict[bytes, str] = {}
    for row, tag in zip(rows, tags, strict=True):
        key = row.float().cpu().numpy().tobytes()
        if key in seen:
            raise ConfigError(
                f"model.tags: add: {seen[key]} and {tag} are made of the same sub-words, so the model could "
                "not tell them apart\n  fix: rename one of them, or set model.tags: text"
            )
        seen[key] = tag
