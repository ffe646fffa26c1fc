"""A real browser for tests of pages: any Chromium or Chrome on this machine, driven by playwright.

Where there is none, the tests are left out and the session says how to get one; with BRAID_BROWSER=required,
as in continuous integration, they fail.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = "no Chromium or Chrome with playwright"
HOW = (
    f"{MISSING}: tests of the report and of the server's page in a browser were left out; to run them,\n"
    "  install one (Debian: apt-get install --no-install-recommends chromium) and `make setup`"
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
_CHECK = (Path(__file__).parent / "accessibility.js").read_text()


def executable() -> str | None:
    """Path of a browser, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def launched() -> Iterator[Any]:
    """A running browser. Skips the test, or fails it where a browser is required."""
    path = executable()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        if os.environ.get("BRAID_BROWSER") == "required":
            pytest.fail(f"{MISSING}, and BRAID_BROWSER=required")
        pytest.skip(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS), headless=True)
        try:
            yield browser
        finally:
            browser.close()


def problems(page: Any) -> list[str]:
    """What an accessibility checker would find on a page: labels, headings, landmarks, ids, contrast."""
    found: list[str] = page.evaluate(_CHECK)
    return found


class Watched:
    """A page whose errors, console messages, dialogs and requests are kept."""

    def __init__(self, browser: Any, **context: Any) -> None:
        self._context = browser.new_context(**context)
        self.page = self._context.new_page()
        self.errors: list[str] = []
        """Exceptions of scripts, errors in the console, and dialogs."""
        self.requests: list[str] = []
        """Addresses that the page asked for."""
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._on_console)
        self.page.on("dialog", self._on_dialog)
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _on_dialog(self, dialog: Any) -> None:
        self.errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        wide: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return wide
