"""The report in a real browser: with and without scripts, by keyboard, on a narrow screen."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_lab import MISSING, Watched, launched, problems
from recorded_lab import whole_run

from rl.reporting.gather import gather_run
from rl.reporting.render import render_report

pytestmark = pytest.mark.slow
HOSTILE = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">\'"'


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a report on a run beside itself, whose rewards give a hostile reason."""
    folder = tmp_path_factory.mktemp("browser")
    run = whole_run(folder / "made", reason=HOSTILE)
    page = folder / "report.html"
    page.write_text(render_report([gather_run(run, "first"), gather_run(run, HOSTILE)]))
    return Path(page).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


def test_clicking_through_a_report(browser: Any, report: str) -> None:
    with Watched(browser, viewport={"width": 1100, "height": 900}) as watched:
        page = watched.page
        page.goto(report)
        assert page.locator("h1").inner_text() == f"Braid report: first, {HOSTILE}"
        page.get_by_role("link", name="Stage rl").click()
        assert page.url.endswith("#stage-2")
        # One axis of a waterfall at a time.
        episode = page.locator("article.episode").first
        tokens, seconds = (episode.locator(f".axis[data-axis={axis}]") for axis in ("tokens", "seconds"))
        assert tokens.is_visible() and not seconds.is_visible()
        episode.get_by_role("button", name="seconds").click()
        assert seconds.is_visible() and not tokens.is_visible()
        assert episode.get_by_role("button", name="seconds").get_attribute("aria-pressed") == "true"
        # The text of the calls, with log-probabilities, and the steps.
        episode.get_by_text("Text of its").click()
        assert episode.locator(".call .text").first.is_visible()
        assert episode.locator(".text .p2[title='-2.500']").first.is_visible()
        episode.get_by_text("Steps and their scores").click()
        assert episode.get_by_role("cell", name="process").is_visible()
        # Values of a curve, under the pointer and by keyboard.
        chart = page.locator("figure.chart", has_text="Entropy").first
        chart.locator("svg").first.hover()
        assert chart.locator(".reading").inner_text().startswith("step ")
        chart.locator("svg").first.focus()
        page.keyboard.press("ArrowLeft")
        assert (
            chart.locator(".reading").inner_text() == f"step 1: first: entropy 0.25, {HOSTILE}: entropy 0.25"
        )
        # The comparison of checkpoints opens too.
        page.locator("details.pair summary").first.click()
        assert page.get_by_role("heading", name="after rl: episode").first.is_visible()
        assert page.evaluate("window.hacked") is None
        assert watched.errors == [] and watched.requests == [report]


def test_nothing_is_wrong_with_its_labels_and_contrast(browser: Any, report: str) -> None:
    with Watched(browser, viewport={"width": 1100, "height": 900}) as watched:
        watched.page.goto(report)
        watched.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert problems(watched.page) == []


def test_the_check_finds_what_is_wrong(browser: Any) -> None:
    """A check that finds nothing proves nothing."""
    with Watched(browser) as watched:
        watched.page.set_content(
            "<html><body><h1>a</h1><h3>b</h3><p style='color:#999'>pale</p><input><button></button>"
            "<i id=x></i><b id=x></b><a href='#none'>c</a><table><tr><th>d</th></tr></table><svg></svg>"
            "</body></html>"
        )
        found = "\n".join(problems(watched.page))
    for part in (
        "no language", "no title", "one main", "skips from h1 to h3", "contrast 2.85",
        "without a name: <input", "without a name: <button", "id occurs twice", "leads nowhere",
        "without scope", "neither named nor hidden",
    ):  # fmt: skip
        assert part in found, part


def test_without_scripts(browser: Any, report: str) -> None:
    with Watched(browser, java_script_enabled=False) as watched:
        page = watched.page
        page.goto(report)
        for text in ("From sft to rl, accuracy of spawn_join changes by", "small, seed 0"):
            assert page.get_by_text(text).first.is_visible()
        assert page.locator("figure.chart svg.braid-chart").first.is_visible()
        episode = page.locator("article.episode").first
        for axis in ("tokens", "seconds"):
            assert episode.locator(f".axis[data-axis={axis}] svg").is_visible()
        episode.get_by_text("Text of its").click()  # the browser's own disclosure
        assert episode.locator(".call .text").first.is_visible()


def test_a_narrow_screen(browser: Any, report: str) -> None:
    with Watched(browser, viewport={"width": 360, "height": 700}) as watched:
        watched.page.goto(report)
        watched.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert watched.overflow() <= 0


def test_without_a_browser_tests_are_left_out_or_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("BRAID_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match=MISSING), launched():
        pass
    monkeypatch.setenv("BRAID_BROWSER", "required")
    with pytest.raises(pytest.fail.Exception, match="BRAID_BROWSER=required"), launched():
        pass
