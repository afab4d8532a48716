"""Pictures of the Prefect UI for the docs, by headless Chromium.

    set -a; . client.env; set +a; python scripts/screenshot.py docs/images

The server and its login come from ``PREFECT_API_URL`` and ``PREFECT_API_AUTH_STRING``.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from playwright.sync_api import Page, Route, sync_playwright

CHROMIUM = "/usr/bin/chromium"
SETTLE_MS = 3000


def take(url: str, auth: str, pages: Mapping[Path, str], *, dark: bool = False) -> None:
    """Save a PNG of each page.

    Args:
        url: Of the UI, without a trailing slash.
        auth: ``user:password``.
        pages: Path below the UI's address, by file to write.
    """
    stored = base64.b64encode(auth.encode()).decode()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": 1400, "height": 1450}, color_scheme="dark" if dark else "light"
        )
        context.add_init_script(f"localStorage.setItem('prefect-password', {json.dumps(stored)})")
        context.route("**/*", lambda route: _only_ours(route, url))
        page = context.new_page()
        for file, path in pages.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            _shoot(page, f"{url}{path}", file)
        browser.close()


def _shoot(page: Page, address: str, file: Path) -> None:
    # The UI holds a connection for events open, so the network never falls silent.
    page.goto(address, wait_until="load")
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=str(file))


def _only_ours(route: Route, url: str) -> None:
    """Let nothing out of this machine."""
    if route.request.url.startswith((url, "data:", "blob:")):
        route.continue_()
    else:
        route.abort()


def main() -> None:
    """The run history of the server in the environment."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    url = os.environ["PREFECT_API_URL"].removesuffix("/api")
    pages = {folder / "runs.png": "/runs"}
    take(url, os.environ.get("PREFECT_API_AUTH_STRING", ""), pages)


if __name__ == "__main__":
    main()
