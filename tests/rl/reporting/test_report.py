"""`braid report` and `braid show` on a run with everything, and on what is not a whole run."""

import json
import re
import shutil
from pathlib import Path

import pytest
from recorded_lab import PROBLEMS, whole_run

from rl import cli
from rl.commands.report import labels
from rl.reporting.gather import differences, gather_run

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror=hacked()>\x1b[31m\u202e"
SHOWN = "&lt;script&gt;window.hacked = 1&lt;/script&gt;&lt;img src=x onerror=hacked()&gt;\\x1b[31m\\u202e"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose rewards give a hostile reason. Not to be changed."""
    return whole_run(tmp_path_factory.mktemp("report"), reason=HOSTILE)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run to damage."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def braid(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main([*map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_page_with_everything(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    code, text, error = braid(capsys, "report", run, "-o", out)
    assert code == 0, error
    page = out.read_text()
    assert "left out" not in text and "Left out of this report" not in page
    for part in (
        "From sft to rl, accuracy of spawn_join changes by", "its process was killed", "before 1", "7 GiB",
        "Tokens by staleness", "1:15 over all starts", "small, seed 0", "the whole recipe",
        "best: episode", "most wasteful: episode", "after sft: episode", "after rl: episode", "process",
    ):  # fmt: skip
        assert part in page, part
    # Its own script is the only one, and every reference stays within the page.
    assert SHOWN in page and page.count("<script") == 1 and "\x1b" not in page and "<img" not in page
    assert set(re.findall(r'(?:href|src)="([^"]*)"', page)) <= {
        f"#{anchor}"
        for anchor in ("summary", "recipe", "changes", "stage-1", "stage-2", "stage-3", "stage-4")
    }
    # Each episode has both waterfalls.
    assert page.count("by tokens") == page.count("by seconds") > 5


def test_the_same_run_gives_the_same_page(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for page in pages:
        assert braid(capsys, "report", run, "-o", page)[0] == 0
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_what_is_gathered(run: Path) -> None:
    part = gather_run(run, "mine")
    assert part.gaps == () and [stage.state for stage in part.stages] == ["done", "done", "done", "not begun"]
    rl = part.stages[1]
    assert rl.rl is not None and rl.rl.groups == {"consumed": PROBLEMS}
    # Every group has one right and one wrong episode.
    assert [(mean.step, mean.mean) for mean in rl.rl.rewards] == [(0, 0.5), (1, 0.5)]
    assert rl.rl.without_signal == ((0, 0.0), (1, 0.0))
    assert rl.rl.waits == pytest.approx(
        {"rollout": 0.75, "reward": 0, "learner": 0.25, "publish": 0, "validation": 0, "other": 0}
    )
    assert rl.chosen_from == "6 episodes of record/step-000001"
    best = rl.told[0]
    assert best.why == "best" and best.shown.reward == 1.0 and best.problem
    assert all(step.label.valid is True for step in best.steps)
    worst = next(told for told in rl.told if told.why == "worst")
    assert next(step.step.text for step in worst.steps if step.label.valid is False) == "59"
    (change,) = part.comparisons
    assert (change.kept_right, change.gained, change.lost, change.kept_wrong) == (1, 2, 1, 2)
    assert change.points == pytest.approx(100 / 6)
    assert [row.after - row.before for row in change.examples] == [1, 1, -1]
    assert [told.why for told in change.examples[0].told] == ["after sft", "after rl"]


def test_two_runs_beside_each_other(
    run: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = json.loads((copy / "recipe.json").read_text())
    recipe["seed"] = 7
    (copy / "recipe.json").write_text(json.dumps(recipe))
    out = tmp_path / "two.html"
    assert braid(capsys, "report", run, copy, "-o", out)[0] == 0
    page = out.read_text()
    assert "Keys that differ between the runs" in page and "run: entropy" in page and "copy: entropy" in page
    (row,) = differences([gather_run(run, "a"), gather_run(copy, "b")])
    assert (row.key, row.values) == ("seed", ("0", "7"))


def test_labels_of_runs() -> None:
    assert labels([Path("/a/demo"), Path("/b/demo"), Path("/c")]) == ["a/demo", "b/demo", "c"]
    assert labels([Path("/a/x"), Path("/a/x")]) == ["a/x (1)", "a/x (2)"]


def test_a_run_that_is_being_written(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No summary, accounting, evaluation or ledger yet, half a line of metrics: what there is is shown."""
    for name in ("summary.json", "accounting.json", "ledger.sqlite", "stages/rl/done.json"):
        (copy / name).unlink()
    shutil.rmtree(copy / "stages" / "eval")
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "rl", "st')
    out = tmp_path / "report.html"
    code, text, _ = braid(capsys, "report", copy, "-o", out)
    assert code == 0 and "there is no such ledger" in text
    page = out.read_text()
    assert "not known before the run ends" in page and "No evaluation has finished" in page
    assert "best: episode" in page and "running or stopped" in page


def test_damaged_files_are_named_and_left_out(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = copy / "stages" / "rl" / "record" / "step-000001.episodes.jsonl.gz"
    record.write_bytes(record.read_bytes()[:200])
    (copy / "ledger.sqlite").write_bytes(b"no database at all" * 100)
    (copy / "metrics.jsonl").write_text('{"stage": "sft", "step": 1, "loss": 2.0}\nnot json\n')
    outcomes = copy / "stages" / "eval" / "rl.sampled.jsonl"
    outcomes.write_text("".join(outcomes.read_text().splitlines(keepends=True)[:-1]))
    (copy / "summary.json").write_text("{}")
    out = tmp_path / "report.html"
    code, text, _ = braid(capsys, "report", copy, "-o", out)
    assert code == 0
    for part in (str(record), "ledger.sqlite", "metrics.jsonl, line 2", str(outcomes), "summary.json"):
        assert part in text, part
    # The step before the damaged one is shown in its place.
    assert "6 episodes of record/step-000000" in out.read_text()


def test_stages_of_any_name_and_none_of_rl(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = json.loads((copy / "recipe.json").read_text())
    recipe["stages"] = [recipe["stages"][0] | {"name": "stage-1 'x\" <b>"}]
    (copy / "recipe.json").write_text(json.dumps(recipe))
    (copy / "summary.json").unlink()
    (copy / "metrics.jsonl").write_text(
        json.dumps({"stage": "stage-1 'x\" <b>", "step": 1, "loss</script>": 1.0}) + "\n"
    )
    out = tmp_path / "report.html"
    assert braid(capsys, "report", copy, "-o", out)[0] == 0
    page = out.read_text()
    assert "Stage stage-1 &#39;x&#34; &lt;b&gt;" in page and page.count("</script>") == 1


def test_a_recipe_of_another_version(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = json.loads((copy / "recipe.json").read_text()) | {"later": 1}
    (copy / "recipe.json").write_text(json.dumps(recipe))
    out = tmp_path / "report.html"
    code, text, _ = braid(capsys, "report", copy, "-o", out)
    assert code == 0 and "is not a recipe of this version" in text
    assert "best: episode" in out.read_text()  # without problems and labels


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["report", "FOLDER"], ["is not a run directory", "fix: "]),
        (["report", "FOLDER/none"], ["is not a run directory", "fix: "]),
        (["report", "RUN", "-o", "report.pdf"], ["report.pdf", ".html"]),
        (["report", "RUN", "-o", "FOLDER/none/report.html"], ["a folder that exists"]),
        (["report", *["RUN"] * 7], ["at most 6"]),
        (["show", "FOLDER"], ["is not a run directory"]),
        (["show", "RUN", "--episode", "99/9"], ["--episode 99/9", "is not among"]),
        (
            ["show", "RUN", "--episode", "1/0"],
            ["is in 3 places", "--in rl/record/step-000000", "eval/rl.sampled"],
        ),
        (["show", "RUN", "--in", "nope"], ["--in nope", "sft, rl, eval, export"]),
        (["show", "RUN", "--in", "sft"], ["has no recorded episodes"]),
    ],
)
def test_wrong_inputs_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], parts: list[str]
) -> None:
    places = {"RUN": str(run), "FOLDER": str(tmp_path)}
    filled = [places.get(each, each.replace("FOLDER", str(tmp_path))) for each in arguments]
    code, _, error = braid(capsys, *filled)
    assert code == 2 and error.startswith("braid: ")
    for part in parts:
        assert part in error


def test_a_recipe_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in ("[]", "{}", '{"stages": [1]}', "{"):
        (tmp_path / "recipe.json").write_text(content)
        code, _, error = braid(capsys, "report", tmp_path)
        assert code == 2 and "recipe.json" in error, content


def test_one_episode_in_the_terminal(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, error = braid(capsys, "show", run, "--episode", "5/1")
    assert code == 0, error
    assert text.startswith("rl/record/step-000001, problem countdown-")
    assert "reward 0.000, wrong" in text and "| call 0  parent" in text
    assert re.search(r"call +1 +WRONG +\w+ +59", text)
    code, text, _ = braid(capsys, "show", run, "--episode", "5/0", "--in", "rl")
    assert code == 0 and "process +0.500 for call 0, tokens 0-2" in text
    assert "\\x1b[31m\\u202e" in text and "\x1b" not in text


def test_a_list_of_episodes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = braid(capsys, "show", run)
    assert code == 0
    assert [line for line in text.splitlines() if line.endswith(":")] == [
        "rl/record/step-000001:",
        "eval/rl.sampled:",
        "eval/sft.sampled:",
    ]
    assert text.count("best: reward 1.000, right") == 3
