"""Rows of a frozen embedding and output layer that are trained beside adapters: those of added tags.

A parameter [n, H] stands in place of the rows `ids` wherever the model looks them up: a hook replaces the
embedding's output, `rl.learner.logprobs` the logits. A tied output layer shares the embedding's.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

NAME = "trained_rows"
"""Name of the module below in the layer that it belongs to."""


class TrainedRows(torch.nn.Module):
    """Float32 copies of some rows of a table [V, H]."""

    ids: torch.Tensor
    places: torch.Tensor

    def __init__(self, table: torch.Tensor, ids: Sequence[int]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(table[list(ids)].detach().float().clone())
        places = torch.full((table.shape[0],), -1, dtype=torch.int64)
        places[list(ids)] = torch.arange(len(ids))
        self.register_buffer("ids", torch.tensor(ids, dtype=torch.int64), persistent=False)
        self.register_buffer("places", places.to(table.device), persistent=False)
        self.to(table.device)

    def replace(self, tokens: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """tokens [...] and their frozen rows [..., H] -> the rows as trained."""
        places = self.places[tokens]
        mine = torch.nn.functional.embedding(places.clamp(min=0), self.weight)
        return torch.where((places >= 0)[..., None], mine.to(output.dtype), output)


def add_trained_rows(model: Any, ids: Sequence[int]) -> None:
    """Train these rows of a frozen model, in place; nothing is added without ids. A reward model has no
    output layer, only an embedding.
    """
    if not ids:
        return
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    rows = TrainedRows(embedding.weight, ids)
    embedding.add_module(NAME, rows)
    embedding.register_forward_hook(lambda _module, inputs, found: rows.replace(inputs[0], found))
    if output is not None and output.weight is not embedding.weight:
        output.add_module(NAME, TrainedRows(output.weight, ids))


def trained_rows(model: Any) -> TrainedRows | None:
    """The trained rows of the output layer; None when it has none."""
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    layer = embedding if output.weight is embedding.weight else output
    found: TrainedRows | None = getattr(layer, NAME, None)
    return found


def layers_with_rows(model: Any) -> Iterator[tuple[str, TrainedRows]]:
    """(path of the layer, its trained rows), in the model's order."""
    for path, module in model.named_modules():
        if isinstance(module, TrainedRows):
            yield path.removesuffix(f".{NAME}"), module
