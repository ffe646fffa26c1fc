"""Episodes as text and back: the machine, and nothing else, makes the DAG."""

import random
from collections.abc import Callable

import pytest
from protocol_lab import WordEncoder, build, drive, scripted

from data.episodes.trajectory import Episode, ThreadOutcome
from data.errors import TrajectoryError
from rollout.transcript import dump_transcript, load_transcript, read_transcript, transcript_of

EXAMPLE = """
protocol: spawn_join
prompt: 37 10
calls:
  - {thread: [], sees: <parent> 37 10 <think>, says: <spawn> 4 5 <and> 6 <join>}
  - {thread: [0], sees: <child> 4 5 <think>, says: 8 <found> 9 10 <eos>}
  - {thread: [1], sees: <child> 6 <think>, says: 11, stop: length}
  - {thread: [], says: <answer> 9 10 <eos>}
"""


def test_a_written_transcript_becomes_the_episode_it_tells() -> None:
    episode = read_transcript(load_transcript(EXAMPLE), build("spawn_join"), WordEncoder())
    assert [thread.outcome for thread in episode.threads] == [
        ThreadOutcome.RETURNED,
        ThreadOutcome.RETURNED,
        ThreadOutcome.TRUNCATED,
    ]
    assert [len(call.output) for call in episode.calls] == [6, 5, 1, 4]
    assert episode.answer_ids() == (9, 10)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ((", says: <answer> 9 10 <eos>", ", says: <join>"), None),
        (("<child> 6 <think>", "<child> 7 <think>"), r"call 0 of thread \[1\] sees '<child> 6 <think>'"),
        (("  - {thread: [], says: <answer> 9 10 <eos>}\n", ""), r"has no entry for call 1 of thread \[\]"),
        (("<spawn> 4 5 <and> 6", "<spawn> 4 5"), r"never makes call 0 of thread \[1\]"),
        (("says: 8", "said: 8"), "needs protocol, prompt, and calls"),
    ],
)
def test_a_transcript_that_the_protocol_would_not_make_is_refused(
    change: tuple[str, str], complaint: str | None
) -> None:
    def read() -> Episode:
        return read_transcript(load_transcript(EXAMPLE.replace(*change)), build("spawn_join"), WordEncoder())

    if complaint is None:
        assert read().outcome is ThreadOutcome.MALFORMED  # a violation is part of an episode
    else:
        with pytest.raises(TrajectoryError, match=complaint):
            read()


def test_any_episode_survives_the_way_through_text(rng: random.Random) -> None:
    pick: Callable[[int], int] = rng.randrange
    episode = drive(
        build("spawn_join", wait="success", budgets={"depth": 2}),
        scripted(
            {
                ((), 0): "<spawn> 4 <and> 5 <and> 6 <join>",
                ((0,), 0): "<spawn> 7 <and> 8 <join>",
                ((0, 0), 0): "1 <nothing> <eos>",
                ((0, 1), 0): "1 <found> 2 <eos>",
                ((0,), 1): "<found> 3 2 <eos>",
                ((1,), 0): "1 2 3 4 5 6 <nothing> <eos>",
                ((2,), 0): "1 2 3 4 5 6",
                ((), 1): "<answer> 3 2 <eos>",
            }
        ),
        pick=pick,
    )
    text = dump_transcript(transcript_of(episode, "1 2 3", WordEncoder()))
    again = read_transcript(
        load_transcript(text), build("spawn_join", wait="success", budgets={"depth": 2}), WordEncoder()
    )
    assert again.calls != ()
    assert [(c.context, c.output, c.after, c.stop) for c in again.calls] == [
        (c.context, c.output, c.after, c.stop) for c in episode.calls
    ]
    assert again.threads == episode.threads and again.answer == episode.answer
