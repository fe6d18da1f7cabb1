# SPDX-License-Identifier: Apache-2.0
"""
A real browser: Debian's Chromium, driven by Playwright, which is not to download one of its own.

Pictures that a test takes go to the folder that ``MLOPS_SCREENSHOTS`` names, so that those of the documentation are made by the tests, and
else to a temporary one.
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
SIZE = {"width": 1280, "height": 800}
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


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the pictures; it exists."""
    wanted = os.environ.get(SCREENSHOTS)
    folder = Path(wanted).absolute() if wanted else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def shoot(pictures: Path) -> Callable[..., Path]:
    """
    Take a picture: ``shoot(page, "graph")``.

    Further arguments are Playwright's, such as ``clip``, and a locator in place of the page is a part of it.
    """

    def take(what: Any, name: str, **arguments: Any) -> Path:
        file = pictures / f"{name}.png"
        what.screenshot(path=file, animations="disabled", **arguments)
        return file

    return take


def new_page(browser: Browser, url: str, **arguments: Any) -> Page:
    """A page of a user that nobody knows yet, at a size that pictures of the documentation have."""
    context = browser.new_context(base_url=url, viewport=SIZE, color_scheme="light", locale="en-GB", **arguments)
    context.set_default_timeout(PATIENCE)
    context.set_default_navigation_timeout(PATIENCE)
    return context.new_page()
