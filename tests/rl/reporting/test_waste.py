"""Wasted tokens, counted by hand."""

from episodes import call, episode

from data.episodes.trajectory import Call, Forced, Ref
from rl.reporting.waste import wasted_tokens


def calls(*, shown: tuple[Ref, ...]) -> list[Call]:
    """A root of 4 tokens forks children of 6 and 9 that see it, and goes on for 2 with what is shown."""
    seen = (Forced(ids=(3,)), Ref(call=0, start=0, stop=2))
    return [
        call(0, 0, 4),
        call(1, 1, 6, after=(0,), context=seen),
        call(2, 2, 9, after=(0,), context=seen),
        call(3, 0, 2, after=(1, 2), context=(Forced(ids=(3,)), *shown)),
    ]


def test_what_the_answer_does_not_rest_on() -> None:
    answer = (Ref(call=3, start=0, stop=1),)
    made = episode(calls(shown=(Ref(call=0, start=0, stop=4), Ref(call=2, start=5, stop=9))), answer=answer)
    assert wasted_tokens(made, correct=True) == 6


def test_a_child_brings_its_parent_along() -> None:
    """The answer shows only the first child, whose context shows the root: the second child's 9 are left."""
    made = episode(calls(shown=(Ref(call=1, start=0, stop=6),)), answer=(Ref(call=3, start=0, stop=1),))
    assert wasted_tokens(made, correct=True) == 9


def test_a_wrong_answer_wastes_all() -> None:
    made = episode(calls(shown=()), answer=(Ref(call=3, start=0, stop=1),))
    assert wasted_tokens(made, correct=False) == 21
    assert wasted_tokens(episode(calls(shown=())), correct=True) == 21  # no answer
