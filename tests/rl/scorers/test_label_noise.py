"""Noise of labels against the truth, by hand; the filter of consensus, and labels of a file."""

from pathlib import Path
from typing import Any

import pytest

from data.errors import ConfigError
from data.steps.formats.row import StepRow
from rl.scorers.consensus import consensus, labelled_by_file
from rl.scorers.label_file import LabelRow, read_labels, with_labels, write_labels
from rl.scorers.label_noise import figures, noise, noise_table

Outcomes = tuple[bool, ...]
T, F = True, False


def row(
    labels: tuple[float | None, ...],
    valid: tuple[bool | None, ...],
    *,
    episode: str = "e",
    problem: str = "p",
    **given: Any,
) -> LabelRow:
    steps = tuple(f"step {place}" for place in range(len(labels)))
    return LabelRow(
        problem=problem, episode=episode, call=0, prompt="<solo> 1", first=2,
        ids=tuple(range(2 + len(labels))), steps=steps, stops=tuple(range(1, len(labels) + 1)), labels=labels,
        truth={"valid": valid, "reachable": (None,) * len(labels)}, **given,
    )  # fmt: skip


def test_shares_by_hand() -> None:
    """Steps with label and truth: (1, T) (.5, F) (.25, F) (0, T) | (1, T) (.9, T): four of six agree; of two
    wrong steps one is called right, of four right ones one is called wrong. The first errors are at 1 and
    nowhere, and seen at 2 and nowhere.
    """
    rows = [
        row((1.0, 0.5, 0.25, 0.0, None), (T, F, F, T, F)),
        row((1.0, 0.9, 0.0), (T, T, None), episode="f", problem="q"),
    ]
    found = figures(rows[:1], "valid")
    assert (found["steps"], found["agreement"]["share"]) == (4, 0.5)
    found = figures([rows[0], with_labels(rows[1], (1.0, 0.9, None))], "valid")
    assert found["steps"] == 6
    assert found["agreement"]["share"] == pytest.approx(4 / 6)
    assert found["false_positives"]["share"] == 0.5
    assert found["false_negatives"]["share"] == 0.25
    assert found["first_error"] | {"interval": None} == {
        "f1": 0.0, "wrong": 0.0, "right": 1.0, "interval": None,
    }  # fmt: skip
    low, high = found["agreement"]["interval"]
    assert low == 0.5 and high == 1.0, "one problem agrees in 2 of 4 steps, the other in 2 of 2"


def test_the_first_error_is_found_or_not() -> None:
    rows = [
        row((1.0, 0.0), (T, F)),
        row((0.0, 1.0), (T, F), episode="f", problem="q"),
        row((1.0, 1.0), (T, T), episode="g", problem="r"),
    ]
    found = figures(rows, "valid")["first_error"]
    assert (found["wrong"], found["right"]) == (0.5, 1.0)
    assert found["f1"] == pytest.approx(2 / 3)


def test_completions_are_dealt_out() -> None:
    """A wrong step with 1 of 4 right, a right one with 2 of 4. One completion: the sets say T F F F and T T F
    F; two, any: T F and T F, since the right ones stand side by side.
    """
    rows = [row((0.25, 0.5), (F, T), outcomes=((T, F, F, F), (T, T, F, F)))]
    found = noise(rows)
    assert found is not None
    by = found["valid"]["by_completions"]
    assert list(by) == ["1", "2", "4"]
    assert by["1"]["any"]["steps"] == 8
    assert by["1"]["any"]["false_positives"]["share"] == 0.25
    assert by["1"]["any"]["false_negatives"]["share"] == 0.5
    assert by["2"]["any"]["false_positives"]["share"] == 0.5
    assert by["2"]["half"]["false_negatives"]["share"] == 0.5
    assert by["4"]["any"]["false_positives"]["share"] == 1.0
    assert by["4"]["half"]["false_positives"]["share"] == 0.0
    assert found["reachable"]["agreement"] is None
    table = noise_table(found)
    assert "4 completions, half" in "\n".join(table) and len({len(line) for line in table}) == 1


def test_a_search_says_nothing_of_numbers_of_completions() -> None:
    found = noise([row((1.0, 0.0), (T, F), outcomes=(None, (F, F)))])
    assert found is not None and found["valid"]["by_completions"] == {}
    assert noise([LabelRow(**{**fields(row((1.0,), (T,))), "truth": None})]) is None


def fields(of: LabelRow) -> dict[str, Any]:
    return {name: getattr(of, name) for name in LabelRow.__dataclass_fields__}


def test_consensus_keeps_what_agrees_on_the_first_error() -> None:
    first = [
        row((0.75, 0.25, 0.5), (T, F, F), episode="a", outcomes=((T, T, T, F), (F, F, F, T), (T, F, F, T))),
        row((1.0, 0.0), (T, F), episode="b"),
        row((1.0, 0.5), (T, T), episode="c"),
        row((1.0, 1.0), (T, T), episode="only here"),
    ]
    second = [
        row((1.0, None), (T, T), episode="c"),
        row((1.0, 0.0, 1.0), (T, F, F), episode="a"),
        row((0.0, 1.0), (T, F), episode="b"),
    ]
    kept, shared = consensus([first, second])
    assert shared == 3
    assert [(each.episode, each.labels) for each in kept] == [("a", (1.0, 0.0, None)), ("c", (1.0, 1.0))]
    assert kept[0].outcomes == first[0].outcomes
    assert consensus([first, [row((None, None), (T, F), episode="b")]])[0] == [], "no label is no agreement"


def test_a_step_that_a_limit_cut_off_has_no_label() -> None:
    assert with_labels(row((None, None), (T, T), cut_off=True), (1.0, 0.5)).labels == (1.0, None)


def test_a_file_labels_the_calls_with_its_text() -> None:
    rows = [row((None, None), (T, F), episode="a"), row((None,), (T,), episode="b")]
    given = [StepRow(id="x", prompt=" <solo>  1\n", steps=("step 0", "step  1"), labels=(0.3, None))]
    (found,) = labelled_by_file(rows, given)
    assert (found.episode, found.labels) == ("a", (0.3, None))


def test_targets_stand_at_the_last_token_of_each_step_and_stay_soft() -> None:
    judged = row((0.375, None, 1.0), (T, T, T)).judged()
    assert judged.places == [0, 2] and judged.row.targets == (0.375, 0.0, 1.0)
    assert judged.row.first == 2 and len(judged.row.ids) == 5


def test_the_file_gives_what_was_written(tmp_path: Path) -> None:
    rows = [
        row((0.375, None), (T, None), outcomes=((T, F, F), None), answer_correct=False, cut_off=True),
        LabelRow(**{**fields(row((1.0,), (T,))), "truth": None}),
    ]
    write_labels(tmp_path / "labels.jsonl", rows)
    assert read_labels(tmp_path / "labels.jsonl") == rows
    (tmp_path / "labels.jsonl").write_text('{"prompt": "a", "completions": ["b"], "labels": [1.0]}\n')
    with pytest.raises(ConfigError, match="row 0: is none of a stage of kind: label_steps"):
        read_labels(tmp_path / "labels.jsonl")
    with pytest.raises(ConfigError, match="finish the stage that labels steps first"):
        read_labels(tmp_path / "none.jsonl")
