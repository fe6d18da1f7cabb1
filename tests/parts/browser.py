# SPDX-License-Identifier: Apache-2.0
"""
A real browser: Debian's Chromium, driven by Playwright, which is not to download one of its own.

The pictures of the documentation are made by the tests: ``MLOPS_SCREENSHOTS=docs/images`` says where they go.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.requirement import unavailable

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SCREENSHOTS = "MLOPS_SCREENSHOTS"
PATIENCE = 30_000
"""Milliseconds that a page may take to show what it is waited for, on a machine that does much else."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running Chromium. Of one module: Playwright keeps an event loop in this thread while it runs, which others would stumble over."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("browser", "playwright is not installed; run: make .venv")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        unavailable("browser", f"none of {', '.join(PROGRAMS)} is on the PATH; run: apt-get install chromium")
    with sync_playwright() as playwright:
        # Chromium's sandbox needs a user that is not root; what it opens here is our own.
        options = ["--no-sandbox"] if os.getuid() == 0 else []
        running = playwright.chromium.launch(executable_path=program, args=[*options, "--disable-dev-shm-usage"])
        try:
            yield running
        finally:
            running.close()


@pytest.fixture
def shoot(tmp_path: Path) -> Callable[..., Path]:
    """
    Take a picture: ``shoot(page, "graph")``; it lies in the test's folder.

    One of the documentation is taken with ``document=True``. Further arguments are Playwright's, such as ``clip``, and a locator in place of
    the page is a part of it.
    """
    wanted = os.environ.get(SCREENSHOTS)

    def take(what: Any, name: str, *, document: bool = False, **arguments: Any) -> Path:
        folder = Path(wanted).absolute() if document and wanted else tmp_path
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{name}.png"
        what.screenshot(path=file, animations="disabled", **arguments)
        return file

    return take


def new_page(browser: Browser, url: str, **arguments: Any) -> Page:
    """A page of a user that nobody knows yet, at a size that pictures of the documentation have."""
    context = browser.new_context(
        base_url=url, viewport={"width": 1280, "height": 800}, color_scheme="light", locale="en-GB", **arguments
    )
    context.set_default_timeout(PATIENCE)
    context.set_default_navigation_timeout(PATIENCE)
    return context.new_page()
