"""Guards of process rewards, by hand."""

import pytest

from rewards.process.guards import count_answers, without_padding


@pytest.mark.parametrize(
    ("most", "wrong", "expected"),
    [
        (32, 0.0, [0.9, 0.0, 0.8]),
        (32, -1.0, [0.9, -1.0, 0.8]),
        (None, 0.0, [0.9, 1.0, 0.8]),
        (40, 0.0, [0.9, 1.0, 0.8]),
        (5, 0.85, [0.9, 0.85, 0.8]),  # a long step that is worse than `wrong` gains nothing by it
    ],
)
def test_a_longer_step_counts_as_wrong(most: int | None, wrong: float, expected: list[float]) -> None:
    assert without_padding([0.9, 1.0, 0.8], [5, 40, 6], most, wrong) == expected


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("so it is \\boxed{4}", 1),
        ("\\boxed{4}. Another problem: 1 + 1 = \\boxed{2}", 2),
        ("Final Answer: \\boxed{4}", 1),
        ("I give up", 0),
    ],
)
def test_answers_are_counted_by_their_marks(text: str, answers: int) -> None:
    assert count_answers(text, ("\\boxed{", "Final Answer:")) == answers
