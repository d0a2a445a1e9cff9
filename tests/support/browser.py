"""Debian's Chromium, driven by playwright; the page's accessibility, judged by axe. Skipped without a Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

REQUIRED = os.environ.get("TFS_REQUIRE_CHROMIUM") == "1"


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window; skips the test if there is none, fails it if TFS_REQUIRE_CHROMIUM is 1."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        reason = "there is no Chromium: apt-get install chromium"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    expect.set_options(timeout=30_000)  # machines under load are slow
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched(browser: Browser, **context: Any) -> Iterator[Page]:
    """A page on whose console nothing may be said: neither errors nor what the content security policy has refused."""
    opened = browser.new_context(**context)
    page, said = opened.new_page(), list[str]()
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.set_default_timeout(20_000)
    try:
        yield page
    finally:
        opened.close()
    assert not said, said


def check_accessible(page: Page) -> None:
    """Fails with what axe finds."""
    results = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]})
    found = [(v["id"], [node["html"][:150] for node in v["nodes"]][:3]) for v in results.response["violations"]]
    assert not found, found
