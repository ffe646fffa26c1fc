"""Which forking tag learns which trace: the cheapest matching.

    L = mean over matched pairs of NLL[tag, trace],   matching = argmin over matchings of the sum of sg(NLL)

Set supervised fine-tuning (arXiv 2510.05132; sg stops gradients): a question has M traces, and there are N
reserved tags to begin with. A fixed order would teach each tag a mixture of all; with the cheapest matching a
tag keeps to the kind of trace that it already makes likely. A supervised stage with `match_tags` trains so:
it matches first, without gradients, and computes only the matched pairs again; NLL is the sum over a trace's
tokens, and the mean is over tokens, as in all supervised training here.
"""

import math

import torch


def match(costs: torch.Tensor) -> list[tuple[int, int]]:
    """[N tags, M traces] -> min(N, M) pairs (tag, trace), by tag, of the smallest total cost. A tag or a
    trace is in one pair at most.

    Example: [[1, 2], [1, 5], [9, 9]] -> [(0, 1), (1, 0)], 2 + 1; the cheapest trace of both rows
    would be 0
    """
    num_tags, num_traces = costs.shape
    if num_tags < num_traces:
        return sorted((tag, trace) for trace, tag in match(costs.T))
    return sorted((tag, trace) for trace, tag in enumerate(_assign(costs.T.tolist())))


def matched_loss(nll: torch.Tensor) -> torch.Tensor:
    """[N tags, M traces] negative log-likelihoods -> scalar. What is not matched gets no gradient.

    Example: [[1, 2], [1, 5], [9, 9]] -> (2 + 1) / 2
    """
    tags, traces = zip(*match(nll.detach()), strict=True)
    return nll[list(tags), list(traces)].mean()


def _assign(costs: list[list[float]]) -> list[int]:
    """[R][C] with R <= C -> for each row its column: the Hungarian method, with potentials.

    Rows are added one by one, each by the shortest path of reassignments that frees a column for it. The
    potentials keep cost - of_row - of_column at least 0, and at 0 for assigned pairs: so the path is
    Dijkstra's, and the assignment is the best one of the rows so far.
    """
    num_columns = len(costs[0]) if costs else 0
    of_row = [0.0] * len(costs)
    of_column = [0.0] * (num_columns + 1)
    row_at: list[int | None] = [None] * (num_columns + 1)  # the last column is where each path begins
    for new in range(len(costs)):
        row_at[num_columns] = new
        distance = [math.inf] * num_columns
        before = [num_columns] * num_columns
        done: list[int] = []
        column = num_columns
        while (row := row_at[column]) is not None:
            done.append(column)
            open_columns = [j for j in range(num_columns) if j not in done]
            for j in open_columns:
                through = costs[row][j] - of_row[row] - of_column[j]
                if through < distance[j]:
                    distance[j], before[j] = through, column
            column = min(open_columns, key=distance.__getitem__)
            step = distance[column]
            for j in done:
                of_column[j] -= step
                at = row_at[j]
                assert at is not None
                of_row[at] += step
            for j in open_columns:
                distance[j] -= step
        while column != num_columns:
            row_at[column] = row_at[before[column]]
            column = before[column]
    column_of = {row: column for column, row in enumerate(row_at[:num_columns]) if row is not None}
    return [column_of[row] for row in range(len(costs))]
