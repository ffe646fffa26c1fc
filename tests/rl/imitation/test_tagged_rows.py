"""Tags and traces paired anew, by hand."""

from dataclasses import replace

from data.forests.forest import unique_tokens
from data.forests.rows import Row
from data.tasks.countdown import Countdown, CountdownParams
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rl.imitation.demonstrations import DemonstrationSource
from rl.imitation.tagged_rows import TaggedRow, as_tagged, candidates, paired, sets_of
from rollout.protocols import build_protocol, default_params, vocabulary

A = TaggedRow(ids=(5, 6, 1, 7, 8), first=3, weights=(1.0, 3.0), episode="x")
"""Prompt 5 6, tag 1, trace 7 8."""
B = TaggedRow(ids=(5, 6, 2, 9), first=3, weights=(2.0,), episode="x")


def test_a_tag_takes_the_words_of_another() -> None:
    assert paired(A, B) == TaggedRow(ids=(5, 6, 1, 9), first=3, weights=(2.0,), episode="x")
    assert paired(B, A) == TaggedRow(ids=(5, 6, 2, 7, 8), first=3, weights=(1.0, 3.0), episode="x")
    assert paired(A, A) == A


def test_every_tag_with_every_trace() -> None:
    assert candidates([A, B]) == [A, paired(A, B), paired(B, A), B]


def test_sets_are_episodes() -> None:
    row = Row(ids=(5, 6, 1, 4), first=3, weights=(1.0,))
    other = as_tagged(row, "w")
    assert (other.ids, other.first, other.weights, other.episode) == (row.ids, 3, (1.0,), "w")
    assert sets_of([A, other, B]) == [[other], [A, B]]


def test_an_episodes_rows_stay_together_or_are_left_out() -> None:
    task, params = Countdown(CountdownParams()), default_params("forking_tokens")
    tags, words = vocabulary(params)
    codec = Codec(build_tokenizer([*tags, *words, *task.words()], numbers=99, digits=False))
    source = DemonstrationSource(
        task=task, protocol=build_protocol(params, codec), codec=codec, seed=0, pivot_weight=1.0,
        match_tags=True, problems=task.problems("train", 12, 0), max_length=1024, count=12,
    )  # fmt: skip
    sizes = {}
    for episode in source.episodes(0, 12):
        rows = source.rows(episode)
        sizes[episode.id] = unique_tokens(candidates([as_tagged(row, episode.id) for row in rows]))
        assert len({row.ids[: row.first - 1] for row in rows}) == 1, "the contexts differ in their tag alone"
        assert len({row.ids[row.first - 1] for row in rows}) == len(rows) == 6
    limit = sorted(sizes.values())[len(sizes) // 2]
    kept = [row for forest in source.forests(limit) for row in forest]
    assert all(isinstance(row, TaggedRow) for row in kept)
    sets = {
        members[0].episode: len(members) for members in sets_of([r for r in kept if isinstance(r, TaggedRow)])
    }
    assert sets == {name: 6 for name, size in sizes.items() if size <= limit}
    assert 0 < len(sets) < len(sizes)
    plain = replace(source, match_tags=False)
    assert not any(isinstance(row, TaggedRow) for forest in plain.forests(limit) for row in forest)
