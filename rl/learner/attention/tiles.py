"""Forest attention with dense kernels: tiles of queries, each with exactly the keys it can reach.

A tile is TILE neighbouring tokens in depth-first order. Whatever a token of the tile attends to before the
tile is an ancestor of the tile's first token (its range of descendants covers both). So the tile's keys are
the path from the root to its first token, then the tile itself: TILE * (depth + TILE) products instead of
TILE * T, in one batched call for all tiles of similar depth. The cost of a token does not depend on how many
others there are.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from data.forests.collate import ForestBatch

TILE = 64
"""Queries of a tile. Fewer waste less of a tile's own square, more make better matrix products."""
STEP = 64
"""Tiles are batched with those of the same depth, rounded up to a multiple of this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TileGroup:
    """n tiles with K keys each."""

    tiles: torch.Tensor
    """[n] indices of the tiles."""
    keys: torch.Tensor
    """[n * K] tokens of the tiles, as keys."""
    mask: torch.Tensor
    """[n, 1, TILE, K] float32: 0 where a query may attend, -inf elsewhere."""


class Tiles:
    """The plan for one forest; every layer's attention follows it."""

    def __init__(self, batch: ForestBatch) -> None:
        device = batch.ids.device
        self._tokens = len(batch.ids)
        count = -(-self._tokens // TILE)
        self._padding = count * TILE - self._tokens
        parents, positions = batch.parents.tolist(), batch.positions.tolist()
        # Padding attends only to itself, and no token attends to it.
        end = torch.cat([batch.end.cpu(), torch.arange(self._tokens + 1, count * TILE + 1)])
        groups: dict[int, list[int]] = {}
        for tile in range(count):
            groups.setdefault(-(-positions[tile * TILE] // STEP) * STEP, []).append(tile)
        self._groups = [_group(tiles, depth, parents, end, device) for depth, tiles in sorted(groups.items())]
        order = torch.cat([group.tiles for group in self._groups])
        self._order = torch.argsort(order)
        self._masks: dict[tuple[torch.dtype, int], list[torch.Tensor]] = {}

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """query [1, H, T, D], key and value [1, Hkv, T, D] -> [1, T, H, D]."""
        heads, size = query.shape[1], query.shape[3]
        shared = key.shape[1]
        folded = heads // shared
        dtype = value.dtype
        # Rows of [T, ...] are gathered; heads of one key head become rows of one query matrix.
        queries = pad(query[0].transpose(0, 1).to(dtype), (0, 0, 0, 0, 0, self._padding))
        queries = queries.reshape(-1, TILE, shared, folded, size)
        keys, values = (
            pad(rows[0].transpose(0, 1).to(dtype), (0, 0, 0, 0, 0, self._padding)).reshape(-1, shared * size)
            for rows in (key, value)
        )
        outputs = []
        for group, mask in zip(self._groups, self._mask(dtype, folded), strict=True):
            count = len(group.tiles)
            asked = queries[group.tiles].permute(0, 2, 3, 1, 4).reshape(count, shared, folded * TILE, size)
            seen_keys, seen_values = (
                rows.index_select(0, group.keys).view(count, -1, shared, size).transpose(1, 2)
                for rows in (keys, values)
            )
            found = _attention(asked, seen_keys, seen_values, mask, scaling)
            found = found.view(count, shared, folded, TILE, size).permute(0, 3, 1, 2, 4)
            outputs.append(found.reshape(count, TILE, heads, size))
        merged = torch.cat(outputs)[self._order].reshape(-1, heads, size)
        return merged[None, : self._tokens]

    def _mask(self, dtype: torch.dtype, folded: int) -> list[torch.Tensor]:
        """The groups' masks in the model's type, once for all layers."""
        if (dtype, folded) not in self._masks:
            self._masks[dtype, folded] = [
                group.mask.to(dtype).repeat(1, 1, folded, 1) for group in self._groups
            ]
        return self._masks[dtype, folded]


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float
) -> torch.Tensor:
    """[n, H, Q, D] and twice [n, H, K, D] -> [n, H, Q, D]."""
    if query.dtype == torch.bfloat16:
        # PyTorch's CPU kernel takes three times as long as these products, nearly all in the backward pass.
        scores = torch.matmul(query * scaling, key.transpose(-1, -2)) + mask
        return torch.matmul(torch.softmax(scores, dim=-1), value)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)


def _group(
    tiles: list[int], depth: int, parents: list[int], end: torch.Tensor, device: torch.device
) -> TileGroup:
    """`depth`: longest path before a tile, rounded up; shorter ones are filled with masked keys."""
    rows = []
    for tile in tiles:
        first = tile * TILE
        path: list[int] = []
        token = first
        while (token := parents[token]) >= 0:
            path.append(token)
        # -1 is padding, which no query may attend to.
        rows.append(path[::-1] + [-1] * (depth - len(path)) + list(range(first, first + TILE)))
    keys = torch.tensor(rows)
    queries = torch.tensor(tiles)[:, None] * TILE + torch.arange(TILE)
    real = keys >= 0
    keys = keys.clamp(min=0)
    seen = real[:, None] & (keys[:, None] <= queries[:, :, None]) & (end[keys][:, None] > queries[:, :, None])
    mask = torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)[:, None]
    return TileGroup(
        tiles=torch.tensor(tiles, device=device), keys=keys.flatten().to(device), mask=mask.to(device)
    )
