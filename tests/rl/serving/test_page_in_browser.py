"""The server's page in a real browser, asking the real application on an engine that follows a script."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from browser_lab import Watched, launched, problems
from serve_lab import NAME, Lab, MortalEngine, serving

from data.text.codec import load_codec
from rl.serving.access import Access
from rollout.protocols.shared.framing_params import TagFramingConfig
from rollout.protocols.spawn_join import SpawnJoinParams

pytestmark = pytest.mark.slow
PARAMS = SpawnJoinParams(name="spawn_join", parent_tokens=60, child_tokens=60, framing=TagFramingConfig())
DONE = "[...document.querySelectorAll('.status')].every((each) => each.textContent.startsWith('Done'))"


def script(model_dir: Path) -> Callable[[tuple[int, ...], int], Sequence[int]]:
    """A parent that opens two children of 9 and 5 tokens and takes the second one's solution."""
    codec = load_codec(model_dir)

    def says(prompt: tuple[int, ...], seed: int) -> Sequence[int]:
        text = codec.decode(prompt)
        if "<results>" in text:
            return codec.encode("<answer> 5 + 6 <eos>")
        if text.startswith("<child> 11 5"):
            return codec.encode("5 6 5 6 5 6 5 <nothing> <eos>")
        if text.startswith("<child>"):
            return codec.encode("<found> 5 + 6 <eos>")
        if text.startswith("<solo>"):
            return codec.encode("6 6 6 <answer> 6 + 5 <eos>")
        return codec.encode("<spawn> 11 5 <and> 11 6 <join>")

    return says


@pytest.fixture(scope="module")
def lab(tiny_model_dir: Path) -> Iterator[Lab]:
    says = script(tiny_model_dir)
    with serving(tiny_model_dir, PARAMS, lambda: MortalEngine(says, max_length=512, step_s=0.03)) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


def opened(watched: Watched, lab: Lab) -> Any:
    """The page, when it has its models."""
    watched.page.goto(lab.url)
    watched.page.wait_for_function("document.querySelector('#first').options.length > 1")
    return watched.page


def facts(page: Any) -> list[dict[str, str]]:
    """The costs of each side."""
    found: list[dict[str, str]] = page.evaluate(
        "[...document.querySelectorAll('.costs')].map((list) => Object.fromEntries("
        "[...list.children].map((row) => [...row.children].map((each) => each.textContent))))"
    )
    return found


def test_threads_are_drawn_while_they_run(browser: Any, lab: Lab) -> None:
    with Watched(browser, viewport={"width": 1000, "height": 800}) as watched:
        page = opened(watched, lab)
        assert page.locator("#first option").first.inner_text() == "spawn_join (its own)"
        page.get_by_label("Problem", exact=True).fill("11 5 6")
        page.get_by_label("Seed").fill("3")
        page.locator("#problem").press("Control+Enter")
        page.wait_for_selector("rect[data-running]")
        page.wait_for_function("document.querySelectorAll('.thread').length === 3")
        page.wait_for_function(DONE)
        # 7 tokens, children of 9 and 5 beside each other, and 5 more after the longer one.
        (cost,) = facts(page)
        assert (cost["all tokens"], cost["critical tokens"], cost["threads opened"]) == ("26", "21", "2")
        assert cost["seed"] == "3/0/0" and page.locator(".answer").inner_text() == "5 + 6"
        assert [text.split(":")[0] for text in page.locator(".thread summary").all_inner_texts()] == [
            "root (parent)", "root.0 (child)", "root.1 (child)",
        ]  # fmt: skip
        assert page.locator(".thread .said").first.inner_text().startswith("<spawn> 11 5 <and> 11 6 <join>")
        bars = page.evaluate(
            "[...document.querySelectorAll('.picture rect')].map((rect) => [+rect.getAttribute('x'), "
            "+rect.getAttribute('x') + +rect.getAttribute('width')])"
        )
        parent, long, short, answer = sorted(bars, key=lambda bar: (bar[0], -bar[1]))
        assert long[0] == short[0] == pytest.approx(parent[1]) and answer[0] == pytest.approx(long[1])
        page.get_by_role("radio", name="seconds").check()
        assert "in seconds" in page.locator(".picture svg").get_attribute("aria-label")
        assert problems(page) == [] and watched.errors == []
        assert all(url.startswith(lab.url) for url in watched.requests)


def test_two_beside_each_other_with_budgets(browser: Any, lab: Lab) -> None:
    with Watched(browser, viewport={"width": 1200, "height": 800}) as watched:
        page = opened(watched, lab)
        page.get_by_label("Problem", exact=True).fill("11 5 6")
        page.get_by_label("Compare with").select_option(f"{NAME}:sequential")
        page.get_by_text("Budgets of each episode").click()
        page.get_by_label("All tokens").fill("15")
        page.get_by_role("button", name="Think").click()
        page.wait_for_function(f"document.querySelectorAll('.side').length === 2 && {DONE}")
        first, second = facts(page)
        assert first["all tokens"] == "15" and second["all tokens"] == "8"
        assert first["seed"] == second["seed"], "one seed for both"
        statuses = page.locator(".status").all_inner_texts()
        assert "total tokens" in statuses[0] and statuses[1] == "Done: returned."
        tops = page.evaluate(
            "[...document.querySelectorAll('.side')].map((each) => each.getBoundingClientRect().top)"
        )
        assert tops[0] == tops[1]
        assert problems(page) == [] and watched.errors == []


def test_escape_stops_all_threads(browser: Any, lab: Lab) -> None:
    with Watched(browser) as watched:
        page = opened(watched, lab)
        page.get_by_label("Problem", exact=True).fill("11 5 6")
        page.get_by_role("button", name="Think").click()
        page.wait_for_selector("rect[data-running]")
        page.keyboard.press("Escape")
        page.wait_for_function("document.querySelector('.status').textContent.startsWith('Stopped')")
        lab.wait_until(lab.is_idle)
        assert page.get_by_role("button", name="Think").is_enabled()


def test_a_word_that_the_model_does_not_know(browser: Any, lab: Lab) -> None:
    """The server's own message is shown, as text."""
    with Watched(browser) as watched:
        page = opened(watched, lab)
        page.get_by_label("Problem", exact=True).fill("<img src=x onerror=alert(1)>")
        page.get_by_role("button", name="Think").click()
        page.wait_for_selector(".status.failed")
        assert "<img" in page.locator(".status").inner_text() and page.locator("img").count() == 0
        assert page.get_by_role("button", name="Think").is_enabled()
        assert not [error for error in watched.errors if "dialog" in error]


def test_a_narrow_screen(browser: Any, lab: Lab) -> None:
    with Watched(browser, viewport={"width": 360, "height": 700}) as watched:
        page = opened(watched, lab)
        page.get_by_label("Problem", exact=True).fill("11 5 6")
        page.get_by_label("Compare with").select_option(f"{NAME}:sequential")
        page.get_by_role("button", name="Think").click()
        page.wait_for_function(f"document.querySelectorAll('.side').length === 2 && {DONE}")
        assert watched.overflow() <= 0 and problems(page) == []


def test_an_api_key_is_asked_for(browser: Any, tiny_model_dir: Path) -> None:
    says = script(tiny_model_dir)
    access = Access(keys=("secret",))
    with (
        serving(tiny_model_dir, PARAMS, lambda: MortalEngine(says, max_length=512), access=access) as lab,
        Watched(browser) as watched,
    ):
        page = watched.page
        page.goto(lab.url)
        key = page.get_by_label("API key")
        key.wait_for()
        key.fill("secret")
        key.press("Tab")
        page.wait_for_function("document.querySelector('#first').options.length > 1")
        page.get_by_label("Problem", exact=True).fill("11 5 6")
        page.get_by_role("button", name="Think").click()
        page.wait_for_function(f"document.querySelectorAll('.side').length === 1 && {DONE}")
        assert page.locator(".answer").inner_text() == "5 + 6"
