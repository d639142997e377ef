"""Headless Chromium, and what a page finds out about itself in it.

Where Chromium is missing tests are skipped, but not where CI runs: there it can be installed.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LACKS = "needs Chromium: apt-get install chromium"
TRIES = 2
"""On a busy machine the virtual time may be over before a page has answered."""


def require_chromium() -> str:
    """Its path."""
    if CHROMIUM is None:
        assert not os.environ.get("CI"), LACKS
        pytest.skip(LACKS)
    return CHROMIUM


def found_by_page(
    url: str, profile: Path, theme: str, window: tuple[int, int], budget_ms: int, *more: str
) -> Any:
    """The JSON that a page's own script has put into ``<pre id="found">``.

    Args:
        url: of the page.
        profile: directory of the browser's own.
        theme: ``light`` or ``dark``, as the reader prefers.
        window: width and height, pixels.
        budget_ms: virtual time that the page has.
        more: options of the browser.
    """
    command = [
        require_chromium(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--no-first-run",
        f"--user-data-dir={profile}",
        f"--blink-settings=preferredColorScheme={0 if theme == 'dark' else 1}",
        f"--window-size={window[0]},{window[1]}",
        f"--virtual-time-budget={budget_ms}",
        *more,
        "--dump-dom",
        url,
    ]
    for _ in range(TRIES):
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=180, check=True)
        found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
        if found is not None:
            return json.loads(html.unescape(found[1]))
        time.sleep(1)
    raise AssertionError(done.stdout[-2000:] + done.stderr[-2000:])
