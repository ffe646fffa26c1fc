"""Verdicts of a judge: how they are written, and which texts are read as such."""

import pytest

from data.tasks.judge.verdicts import Until, Verdicts, first_error, read_verdicts, up_to_error, written

T, F = True, False


@pytest.mark.parametrize(
    ("text", "steps", "until", "found"),
    [
        ("1 right, 2 wrong", 2, "all", (T, F)),
        ("1 right, 2 wrong, 3 right", 3, "all", (T, F, T)),
        ("1 right, 2 wrong, 3 right", 3, "first_error", (T, F, None)),
        ("1 right, 2 wrong", 4, "first_error", (T, F, None, None)),
        ("Step 1: Correct; Step 2: Incorrect.", 2, "all", (T, F)),
        ("yes, no and yes", 3, "all", (T, F, T)),
        ("**right**", 1, "first_error", (T,)),
        # Not as many as there are steps.
        ("1 right, 2 wrong", 3, "all", None),
        ("1 right", 2, "first_error", None),
        ("1 right, 2 right, 3 right", 2, "first_error", None),
        # Another place, another text, or no verdict.
        ("2 right, 1 wrong", 2, "all", None),
        ("1 right, 3 wrong", 2, "all", None),
        ("1 right 2", 1, "all", None),
        ("1 2 right", 1, "all", None),
        ("1 right, since 9 * 4 is 36", 1, "all", None),
        ("rightly", 1, "all", None),
        ("99999999999999999999999999 right", 1, "all", None),
        ("", 1, "all", None),
    ],
)  # fmt: skip
def test_what_is_read(text: str, steps: int, until: Until, found: Verdicts | None) -> None:
    assert read_verdicts(text, steps, until) == found


@pytest.mark.parametrize("verdicts", [(T,), (F,), (T, F, T), (T,) * 30])
def test_what_is_written_is_read_back(verdicts: tuple[bool, ...]) -> None:
    assert read_verdicts(written(verdicts), len(verdicts), "all") == verdicts


@pytest.mark.parametrize(
    ("labels", "place", "kept"),
    [((T, F, T, F), 1, (T, F, None, None)), ((None, T), -1, (None, T)), ((F, None), 0, (F, None))],
)
def test_nothing_is_said_behind_the_first_error(labels: Verdicts, place: int, kept: Verdicts) -> None:
    assert first_error(labels) == place and up_to_error(labels) == kept
