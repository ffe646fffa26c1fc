"""`braid eval` outside a run: what is refused, what is asked, and the figures of a comparison by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from recipe_lab import SMALL, write

from data.errors import ConfigError
from rl.cli import main
from rl.evaluation.eflops import ClockedCall, ModelShape
from rl.evaluation.equal_cost import Setting, against
from rl.evaluation.strategies.points import Point, adaptive, after_the_fact, widths
from rl.evaluation.strategies.sample import Piece, Sample
from rl.evaluation.strategy_figure import draw_strategies
from rl.export.directory import EXPORT_FORMAT
from rl.harness.arms import steered, with_settings
from rl.harness.comparison import compare, document, figures_at_k
from rl.harness.exam import of_recipe, of_rows
from rl.harness.show import cells, headings, losers, markdown
from rl.harness.target import EndpointTarget, ModelTarget, find_target
from rollout.protocols import can_speak, default_params
from rollout.protocols.shared.framing_params import TagFramingConfig
from tests.support.protocol_lab import LetterEncoder, WordEncoder

SHAPE = ModelShape(weights=10, layers=1, query_heads=1, key_value_heads=1, head_size=1)


def sample(answer: str | None, tokens: int = 10, logprob: float | None = -1.0) -> Sample:
    """One call behind a prompt of three ids; "5" is right."""
    return Sample(
        answer=answer,
        correct=answer == "5",
        calls=(ClockedCall(context=(1, 2, 3), begin=0, length=tokens),),
        seconds=tokens / 10,
        mean_logprob=logprob,
        pieces=()
        if logprob is None
        else (Piece(begin=0, output=tuple(range(tokens)), logprobs=(logprob,) * tokens),),
    )


def by_name(points: list[Point]) -> dict[tuple[str, str], Point]:
    return {(point.strategy, point.setting): point for point in points}


def test_targets_are_told_apart(tmp_path: Path) -> None:
    found = find_target("http://127.0.0.1:1/v1", checkpoint=None, model="m", max_length=None)
    assert found == EndpointTarget(name="m", url="http://127.0.0.1:1/v1")
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 100_000}))
    model = find_target(str(tmp_path), checkpoint=None, model=None, max_length=None)
    assert isinstance(model, ModelTarget) and model.protocol is None and model.max_length == 4096
    framing = TagFramingConfig()
    protocol = default_params("sequential").model_copy(update={"max_tokens": 7, "framing": framing})
    described = {
        "format": EXPORT_FORMAT, "dtype": "float32", "max_length": 512,
        "protocol": protocol.model_dump(mode="json"),
    }  # fmt: skip
    (tmp_path / "protocol.json").write_text(json.dumps(described))
    export = find_target(str(tmp_path), checkpoint=None, model=None, max_length=None)
    assert isinstance(export, ModelTarget) and export.max_length == 512
    assert export.protocol == protocol
    (tmp_path / "protocol.json").write_text(json.dumps(described | {"format": "braid-export/1"}))
    with pytest.raises(ConfigError, match="write the export again"):
        find_target(str(tmp_path), checkpoint=None, model=None, max_length=None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["http://127.0.0.1:1/v1"], "add --model NAME"),
        (["nowhere"], "is not a run directory"),
        (["DIR", "--model", "m"], "--model: names the model of an endpoint"),
        (["DIR", "--checkpoint", "rl"], "is not a run"),
        (["DIR"], "add --rows FILE or --recipe RECIPE"),
        (["DIR", "--rows", "a.jsonl", "--recipe", "r.yaml"], "give one of them"),
        (["DIR", "--verifier", "math"], "are about rows"),
        (["DIR", "--address", "auto"], "--address"),
        (["DIR", "--rows", "ROWS", "--set", "max_tokens"], "is not KEY=VALUE"),
        (["DIR", "--rows", "ROWS", "--set", "max_tokens=[1"], "write a YAML value"),
        (["http://127.0.0.1:1/v1", "--model", "m", "--rows", "ROWS", "--set", "no=1"], "protocol.no"),
        (
            ["http://127.0.0.1:1/v1", "--model", "m", "--rows", "ROWS", "--protocol", "rounds"],
            "whole answers",
        ),
        (["DIR", "--rows", "OTHER"], "add --verifier NAME"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_a_remedy(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    gsm8k = {"question": "1 + 1?", "answer": "It is 2.\n#### 2"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(gsm8k) + "\n")
    (tmp_path / "other.jsonl").write_text(json.dumps({"prompt": "a", "answer": "b"}) + "\n")
    places = {
        "DIR": str(tmp_path), "ROWS": str(tmp_path / "rows.jsonl"), "OTHER": str(tmp_path / "other.jsonl"),
    }  # fmt: skip
    given = [places.get(argument, argument) for argument in arguments]
    assert main(["eval", *given, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err


def test_rows_are_asked_whole_with_their_layouts_verifier(tmp_path: Path) -> None:
    rows = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(5)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    exam = of_rows(str(file), layout=None, verifier=None, most=None)
    assert len(exam.problems) == 5 and exam.verifier is not None and exam.verifier.name == "gsm8k"
    assert exam.normaliser(default_params("sequential")) == "number"
    assert [exam.task.prompt(problem).text for problem in exam.problems][:2] == ["0 + 1?", "1 + 1?"]
    assert len(of_rows(str(file), layout=None, verifier="exact", most=2).problems) == 2


def test_a_recipe_says_what_is_asked_and_how(tmp_path: Path) -> None:
    exam = of_recipe(write(tmp_path, SMALL), [], "test", 3)
    assert len(exam.problems) == 3 and exam.protocol is not None and exam.protocol.name == "spawn_join"
    assert exam.normaliser(exam.protocol) == "exact"


def test_changed_keys_reach_into_sections() -> None:
    changed = with_settings(default_params("sequential"), {"answer.kind": "boxed", "max_tokens": 9})
    assert changed.answer.kind == "boxed" and changed.max_tokens == 9  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="max_tokens"):
        with_settings(default_params("sequential"), {"max_tokens": 0})


def test_only_a_model_of_one_chain_is_steered() -> None:
    names = {arm.strategy for arm in steered(default_params("sequential"), 2)}
    assert names == {"cap", "wait", "NoThinking", "refinement", "Parallel-Probe", "SEAT"}
    assert list(steered(default_params("spawn_join"), 2)) == []
    files = [arm.file for arm in steered(default_params("sequential"), 2)]
    assert len(set(files)) == len(files)
    assert can_speak(default_params("rounds"), LetterEncoder())
    assert can_speak(default_params("rounds"), WordEncoder())


def test_points_of_recorded_samples_by_hand() -> None:
    pools = {"b": [sample("6", 10), sample("5", 20)], "a": [sample("5", 30), sample("5", 10)]}
    found = by_name(after_the_fact(pools, SHAPE))
    one, two = found["majority", "n = 1"], found["majority", "n = 2"]
    # Problems in the order of their ids: a, b.
    assert one.correct.tolist() == [1.0, 0.5] and two.correct.tolist() == [1.0, 0.0]
    assert one.costs["total_tokens"].tolist() == [20, 15] and two.costs["total_tokens"].tolist() == [40, 30]
    assert two.costs["critical_tokens"].tolist() == [30, 20]
    assert one.costs["critical_seconds"].tolist() == pytest.approx([2.0, 1.5])
    first = found["first_finish", "n = 2"]
    assert first.correct.tolist() == [1.0, 0.0] and first.costs["total_tokens"].tolist() == [20, 20]
    assert ("best_of_n", "n = 2") in found and ("best_of_n", "n = 1") not in found
    # An endpoint that tells neither log-probabilities nor a shape.
    silent = {"a": [sample("5", logprob=None)] * 2}
    assert {point.strategy for point in after_the_fact(silent, None)} == {
        "majority",
        "shortest",
        "first_finish",
    }
    assert all("eflops" not in point.costs for point in after_the_fact(silent, None))
    assert widths(1) == [1] and widths(7) == [1, 2, 4]


def test_hard_problems_get_more_samples_at_the_same_mean_cost() -> None:
    # Easy: all agree. Hard: the first four differ, the next ones agree on what is right.
    easy = [sample("5")] * 16
    hard = [sample(text) for text in ("6", "7", "8", "9")] + [sample("5")] * 12
    (eight,) = adaptive([easy, easy, hard, hard] * 2, SHAPE)
    assert eight.setting == "as n = 8"
    assert eight.correct.mean() == 1.0
    # 4 samples for the easy and 8 for the hard, which is enough for them: (40 + 80) / 2.
    assert eight.costs["total_tokens"].mean() == pytest.approx(60)
    assert adaptive([easy[:8]] * 8, SHAPE) == [] and adaptive([easy] * 3, SHAPE) == []


def test_a_difference_at_equal_cost_by_hand() -> None:
    ones = np.ones(20)
    reference = [Setting(cost=100 * ones, correct=0.2 * ones), Setting(cost=200 * ones, correct=0.6 * ones)]
    found = against(Setting(cost=150 * ones, correct=0.3 * ones), reference, samples=200, seed=0)
    assert found is not None and found.points == pytest.approx(-10)
    assert found.interval == (pytest.approx(-10), pytest.approx(-10)) and found.verdict == "loses"
    better = against(Setting(cost=150 * ones, correct=0.5 * ones), reference, samples=200, seed=0)
    assert better is not None and better.verdict == "wins"
    noisy = Setting(cost=150 * ones, correct=np.array([0.0, 1.0] * 10))
    wide = against(noisy, reference, samples=200, seed=0)
    assert wide is not None and wide.verdict == "" and wide.interval[0] < 10 < wide.interval[1]
    assert against(Setting(cost=250 * ones, correct=ones), reference, samples=200, seed=0) is None


def test_the_table_says_what_loses(tmp_path: Path) -> None:
    def at(strategy: str, setting: str, cost: float, right: float) -> Point:
        values = np.full(30, cost)
        return Point(
            strategy=strategy, setting=setting, correct=np.full(30, right),
            costs={"total_tokens": values, "critical_tokens": values, "critical_seconds": values / 100},
        )  # fmt: skip

    points = [
        at("majority", "n = 1", 100, 0.2),
        at("majority", "n = 2", 200, 0.6),
        at("probed", "x", 150, 0.3),
    ]
    rows = compare(points, resamples=100)
    assert headings(rows)[3:6] == ["total", "critical", "seconds"]
    assert cells(rows)[2][-1] == "-10.0 [-10.0, -10.0] loses" and cells(rows)[0][-1] == "-"
    assert losers(rows)[0] == "At equal total, loses against majority: probed (x)."
    assert markdown(rows).count("\n") == 4
    found = document(rows, {}, target="t")
    assert (
        json.loads(json.dumps(found))["points"][2]["against_majority"]["total_tokens"]["verdict"] == "loses"
    )
    draw_strategies(tmp_path / "s.png", points, title="t")
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"


def test_figures_at_k_by_hand() -> None:
    pools = {"a": [sample("5"), sample("5"), sample("6"), sample(None)], "b": [sample("6")] * 4}
    found = figures_at_k(pools, resamples=100)
    assert found["avg@4"].value == pytest.approx(0.25)
    # a: 1 - C(2, 2) / C(4, 2) = 5/6. maj@2: {5, 5}, 2 x {5, 6} by half, 2 x {5, -}: 4/6.
    assert found["pass@2"].value == pytest.approx(5 / 12)
    assert found["maj@2"].value == pytest.approx(4 / 12)
    assert found["maj@4"].value == pytest.approx(0.5)
    assert found["g-pass@2 (0.75)"].value == pytest.approx(1 / 12)
    assert found["mg-pass@4"].value == 0
    assert all(low <= each.value <= high for each in found.values() for low, high in [each.interval])
