import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from data.episodes.monitors import Observed
from data.episodes.trajectory import ThreadOutcome
from data.errors import BraidError, ConfigError
from rl.evaluation.document import Settings, build_summary, read_summary, write_summary
from rl.evaluation.outcomes import Evaluation, Outcome
from rl.evaluation.pass_at_k import pass_at_k, reported_k
from rl.evaluation.summary import accuracy_within, critical_ratio, gain, merge_seeds, summarise
from rl.evaluation.table import headline, markdown_table, print_summary, shown_budgets
from rl.export.model_card import CardFacts, render_card

SETTINGS = Settings(critical_budgets=(100, 150), bootstrap_samples=200)


def outcome(problem: str, correct: bool | None, critical: int = 100, **changes: Any) -> Outcome:
    fields: dict[str, Any] = {
        "problem_id": problem,
        "sample": 0,
        "correct": correct,
        "total_tokens": 3 * critical,
        "critical_tokens": critical,
        "critical_seconds": critical / 100,
        "threads": 2,
        "unique_threads": 1,
        "forked": True,
        "depth": 1,
        "outcome": ThreadOutcome.RETURNED,
        "answered": bool(correct),
    }
    return Outcome(**{**fields, **changes})


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k(4, 1, 1) == 0.25
    assert pass_at_k(4, 1, 2) == 0.5  # 1 - C(3,2)/C(4,2) = 1 - 3/6
    assert pass_at_k(4, 2, 2) == pytest.approx(5 / 6)  # 1 - C(2,2)/6
    assert pass_at_k(5, 3, 3) == 1.0  # only two wrong ones: every three hold a right one
    assert pass_at_k(3, 0, 3) == 0.0
    assert [reported_k(samples) for samples in (1, 2, 5, 8)] == [[], [1, 2], [1, 2, 4], [1, 2, 4, 8]]


def test_summary_by_hand() -> None:
    # Two samples each. p: right, right; q: right, wrong claim; r: gave up twice.
    outcomes = [
        outcome("p", True, 100, sample=0),
        outcome("p", True, 140, sample=1),
        outcome("q", True, 160, sample=0, violations={"truncated": 2}),
        outcome("q", False, 60, sample=1, answered=True, threads=0, unique_threads=0, forked=False, depth=0),
        outcome("r", False, 80, sample=0),
        outcome("r", False, 120, sample=1),
    ]
    greedy = [outcome("p", True), outcome("q", True), outcome("r", False)]
    found = summarise(
        outcomes, critical_budgets=(100, 150, 200), bootstrap_samples=300, seed=0, greedy=greedy
    )
    assert found.accuracy == pytest.approx(0.5)  # (1 + .5 + 0) / 3
    assert found.interval == (0.0, 1.0)  # one of three problems alone has 1/27 > 2.5% on either side
    assert found.greedy_accuracy == pytest.approx(2 / 3)
    assert found.critical_tokens == pytest.approx(110)  # (120 + 110 + 100) / 3
    assert found.total_tokens == pytest.approx(330)
    assert found.critical_seconds == pytest.approx(1.1)
    assert found.critical_p90 == pytest.approx(150)  # of 60 80 100 120 140 160, place 0.9 * 5 = 4.5
    assert found.threads == pytest.approx(5 / 3)  # (2 + 1 + 2) / 3
    assert found.accuracy_at_critical_budget == pytest.approx({"100": 1 / 6, "150": 1 / 3, "200": 0.5})
    assert found.pass_at_k == pytest.approx({"1": 0.5, "2": 2 / 3})
    assert found.activation == pytest.approx(5 / 6)
    assert found.wrong_claims == pytest.approx(1 / 6)
    assert found.unique_thread_share == 0.5
    assert found.violations == pytest.approx({"truncated": 1 / 6})
    assert (found.problems, found.episodes, found.ungraded) == (3, 6, 0)


def test_order_of_arrival_does_not_matter() -> None:
    outcomes = [outcome(f"p{index}", index % 3 == 0, 50 + index) for index in range(20)]
    forward = summarise(outcomes, critical_budgets=(60,), bootstrap_samples=50, seed=1)
    assert summarise(outcomes[::-1], critical_budgets=(60,), bootstrap_samples=50, seed=1) == forward


def test_samples_of_one_problem_do_not_narrow_the_interval() -> None:
    # Two problems, a hundred equal samples each: as good as two draws, and no better.
    outcomes = [outcome(name, name == "p", sample=sample) for name in "pq" for sample in range(100)]
    assert summarise(outcomes, critical_budgets=(), bootstrap_samples=500, seed=0).interval == (0.0, 1.0)


def test_ungraded_is_not_wrong() -> None:
    outcomes = [outcome("p", True), outcome("q", None, 300)]
    found = summarise(outcomes, critical_budgets=(400,), bootstrap_samples=50, seed=0)
    assert (found.accuracy, found.problems, found.episodes, found.ungraded) == (1.0, 1, 2, 1)
    assert found.accuracy_at_critical_budget == {"400": 1.0}
    assert found.critical_tokens == 200  # it did cost its tokens
    with pytest.raises(BraidError, match="none of 1 episodes could be graded") as caught:
        summarise(
            [outcome("q", None, reason="the worker died")], critical_budgets=(), bootstrap_samples=50, seed=0
        )
    assert "1 times: the worker died" in str(caught.value)
    # The input was fine: exit code 1, not 2.
    assert not isinstance(caught.value, ConfigError)


def test_no_thread_has_no_unique_share() -> None:
    alone = outcome("p", True, threads=0, unique_threads=0, forked=False, depth=0)
    found = summarise([alone], critical_budgets=(), bootstrap_samples=10, seed=0)
    assert (found.unique_thread_share, found.greedy_accuracy, found.pass_at_k) == (None, None, {})


def test_monitors_are_of_all_episodes_or_not_at_all() -> None:
    seen = Observed(
        ran=4, returned=4, duplicate=1, spurious=0, sees_sibling=0, leaks=0, serial=False,
        total_tokens=100, cancelled_tokens=0, outcome="returned", children={"returned": 4},
    )  # fmt: skip
    watched = [outcome("p", True, observed=seen), outcome("q", None, observed=replace(seen, serial=True))]
    found = summarise(watched, critical_budgets=(), bootstrap_samples=10, seed=0).monitors
    assert found is not None
    assert (found["share/duplicate_threads"], found["share/serial_collapse"]) == (0.25, 0.5)
    older = [*watched, outcome("r", True)]
    assert summarise(older, critical_budgets=(), bootstrap_samples=10, seed=0).monitors is None


def test_gain_is_paired_by_problem() -> None:
    # A fixed half of 100 problems is solved before and after: unpaired, the difference would spread by
    # 2 * 1.96 * sqrt(2 * .25 / 100) = 28 points; paired, only the ten that changed do.
    before = [outcome(f"p{index:03}", index < 50) for index in range(100)]
    after = [outcome(f"p{index:03}", index < 60) for index in range(99, -1, -1)]
    found = gain(before, after, bootstrap_samples=2_000, seed=0)
    assert found.points == pytest.approx(10)
    # sqrt(.1 * .9 / 100) = 3 points of standard error
    assert found.interval == pytest.approx((4.5, 16), abs=1.01)


def test_gain_needs_the_same_problems() -> None:
    with pytest.raises(ConfigError, match="share 1 problems and differ in 2"):
        gain([outcome("p", True), outcome("q", True)], [outcome("p", True), outcome("r", True)],
             bootstrap_samples=10, seed=0)  # fmt: skip
    ungraded = [outcome("p", None), outcome("q", True)]
    found = gain([outcome("p", False), outcome("q", False)], ungraded, bootstrap_samples=10, seed=0)
    assert found.points == 100  # q alone: p could not be graded after


def test_critical_ratio() -> None:
    short = [outcome("p", True, 50), outcome("q", True, 100)]
    long = [outcome("p", True, 100), outcome("q", True, 200)]
    found = critical_ratio(short, long, bootstrap_samples=50, seed=0)
    assert found is not None
    ratio, interval = found
    assert ratio == pytest.approx(0.5)
    assert interval == pytest.approx((0.5, 0.5))
    nothing = [outcome("p", False, 0), outcome("q", True, 200)]
    assert critical_ratio(short, nothing, bootstrap_samples=50, seed=0) is None


def test_merged_seeds_are_the_mean_over_seeds() -> None:
    runs = {0: [outcome("p", True), outcome("q", False)], 1: [outcome("p", True), outcome("q", True)]}
    assert accuracy_within(merge_seeds(runs), 1_000) == pytest.approx(0.75)
    with pytest.raises(ConfigError, match="seeds 0 and 1 saw different problems"):
        merge_seeds({0: [outcome("p", True)], 1: [outcome("q", True)]})


def arms() -> dict[str, dict[str, dict[int, Evaluation]]]:
    """Two seeds; spawn_join goes from 0 and 1 of 4 to 3 and 4, sequential stays at 1 with longer paths."""

    def run(right: int, critical: int, *, greedy: bool = True) -> Evaluation:
        done = tuple(outcome(f"p{index}", index < right, critical) for index in range(4))
        return Evaluation(sampled=done, greedy=done if greedy else ())

    return {
        "spawn_join": {"sft": {0: run(0, 50), 1: run(1, 50)}, "rl": {0: run(3, 100), 1: run(4, 120)}},
        "sequential": {
            "sft": {0: run(1, 80), 1: run(1, 80)},
            "rl": {0: run(1, 220), 1: run(1, 220, greedy=False)},
        },
    }


def test_document_has_the_published_keys(tmp_path: Path) -> None:
    document = build_summary(
        arms(), subject="spawn_join", settings=SETTINGS, seconds=90.0, peak_memory_gb=2.5
    )
    measures = document["arms"]["spawn_join"]["rl"]
    assert measures["accuracy"] == pytest.approx(7 / 8)
    assert measures["critical_tokens"] == pytest.approx(110)
    assert measures["accuracy_at_critical_budget"] == pytest.approx({"100": 3 / 8, "150": 7 / 8})
    assert {
        "interval",
        "greedy_accuracy",
        "total_tokens",
        "critical_p90",
        "threads",
        "problems",
    } <= measures.keys()
    assert measures["problems"] == 4
    assert document["arms"]["sequential"]["rl"]["greedy_accuracy"] is None  # one seed has none
    assert document["gain"]["points"] == pytest.approx(75)
    assert document["gain"]["interval"][0] > 0
    assert document["seeds"]["spawn_join"]["0"]["gain"]["points"] == pytest.approx(75)
    assert document["seeds"]["spawn_join"]["1"]["rl"]["accuracy"] == 1.0
    contrast = document["contrasts"]["sequential"]
    assert (contrast["stage"], contrast["points"]) == ("rl", pytest.approx(62.5))
    assert contrast["critical_ratio"] == pytest.approx(0.5)
    path = tmp_path / "runs" / "summary.json"
    write_summary(path, document)
    assert read_summary(path)["gain"]["points"] == 75
    assert json.loads(path.read_text())["peak_memory_gb"] == 2.5


def test_gain_is_from_the_first_to_the_last_stage_whatever_their_names() -> None:
    runs = arms()["spawn_join"]
    stages = {"start": runs["sft"], "warmup": runs["sft"], "rl2": runs["rl"]}
    document = build_summary(
        {"spawn_join": stages}, subject="spawn_join", settings=SETTINGS, seconds=1, peak_memory_gb=1
    )
    gain = document["gain"]
    assert (gain["from"], gain["to"], gain["points"]) == ("start", "rl2", pytest.approx(75))


def test_document_of_one_stage_has_no_gain() -> None:
    sft = {"spawn_join": {"sft": arms()["spawn_join"]["sft"]}}
    document = build_summary(sft, subject="spawn_join", settings=SETTINGS, seconds=1, peak_memory_gb=1)
    assert document["gain"] is None
    with pytest.raises(ConfigError, match="no arm named 'other'"):
        build_summary(sft, subject="other", settings=SETTINGS, seconds=1, peak_memory_gb=1)


def test_bad_summary_files(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    with pytest.raises(ConfigError, match="no such file"):
        read_summary(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_summary(path)
    path.write_text("{}")
    with pytest.raises(ConfigError, match="'arms' is missing"):
        read_summary(path)
    document = build_summary(
        arms(), subject="spawn_join", settings=SETTINGS, seconds=90.0, peak_memory_gb=2.5
    )
    for damaged, key in (
        (5, "arms"),
        (document | {"seconds": None}, "seconds"),
        (document | {"arms": {"spawn_join": []}}, "arms.spawn_join"),
        (document | {"arms": {"spawn_join": {"rl": {"accuracy": "0.5"}}}}, "arms.spawn_join.rl.accuracy"),
    ):
        path.write_text(json.dumps(damaged))
        with pytest.raises(ConfigError, match=re.escape(f"key '{key}' is missing or of the wrong type")):
            read_summary(path)
    path.write_bytes(b"\xff\x00" * 20)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_summary(path)


def test_table_fits_a_hundred_columns() -> None:
    many = Settings(critical_budgets=(80, 100, 110, 150, 200, 300, 440), bootstrap_samples=20)
    document = build_summary(arms(), subject="spawn_join", settings=many, seconds=90.0, peak_memory_gb=2.5)
    assert shown_budgets(document) == ["80", "150", "440"]
    console = Console(width=100, record=True, file=io.StringIO())
    print_summary(document, console)
    text = console.export_text()
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "0.875 [" in text
    rows = markdown_table(document).splitlines()
    assert len(rows) == 2 + 4
    assert len({row.count("|") for row in rows}) == 1


def test_findings_in_words() -> None:
    document = build_summary(
        arms(), subject="spawn_join", settings=SETTINGS, seconds=90.0, peak_memory_gb=2.5
    )
    first, second, third = headline(document)
    assert first.startswith("From sft to rl, accuracy of spawn_join changes by +75.0 points [+")
    assert first.endswith("; by seed +75.0, +75.0.")
    assert second.startswith("Against sequential after rl: +62.5 points [")
    assert second.endswith("critical path 0.50 of its length.")
    assert third == "1.5 minutes, peak memory 2.50 GB."


def test_model_card_shows_what_was_measured() -> None:
    document = build_summary(
        arms(), subject="spawn_join", settings=SETTINGS, seconds=90.0, peak_memory_gb=2.5
    )
    facts = CardFacts(
        name="tiny",
        task="countdown",
        protocol="spawn_join",
        recipe="countdown_cpu.yaml",
        command="make demo",
        parameters=870_000,
        checkpoint="rl",
        stages=("Supervised.", "Reinforced."),
    )
    card = render_card(facts, document)
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "license" not in card and "base_model" not in card
    assert "870,000 parameters" in card
    assert "| spawn_join | rl | 0.875 [" in card
    assert "make demo" in card
    assert "random weights" in card
    assert "2. Reinforced." in card
    assert "exported without an evaluation" in render_card(facts, {"arms": {}})
    assert "It claims a wrong answer" in card
    baseline = render_card(replace(facts, checkpoint="start", stages=()), document)
    assert "It was not trained: these are random weights, with which the recipe" in baseline
    assert "It claims a wrong answer" not in baseline


def test_regret_is_a_mean_over_problems_where_it_was_measured() -> None:
    told = [outcome("p", True, sample=n, regret=regret) for n, regret in enumerate((0.2, 0.4))]
    measured = summarise(
        [*told, outcome("q", False, regret=0.6), outcome("r", False)],
        critical_budgets=(), bootstrap_samples=10, seed=0,
    )  # fmt: skip
    assert measured.regret == pytest.approx((0.3 + 0.6) / 2) == measured.as_dict()["regret"]
    plain = summarise([outcome("p", True)], critical_budgets=(), bootstrap_samples=10, seed=0)
    assert plain.regret is None and "regret" not in plain.as_dict()
