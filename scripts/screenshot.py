"""Pictures for the docs, by headless Chromium: the Prefect UI, and a report on a machine that never was.

    set -a; . client.env; set +a; python scripts/screenshot.py docs/images
    python scripts/screenshot.py docs/images runs.png artifact-watch.png      # only these

The server and its login come from ``PREFECT_API_URL`` and ``PREFECT_API_AUTH_STRING``; without them only the report
is taken. Of the UI it takes what is there: the run history, the newest failed run, and the newest tables of backups and
of the watch. Pictures have at most 256 colours, so that they are small.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CHROMIUM = "/usr/bin/chromium"
SETTLE_MS = 3000
COLOURS = 256


@dataclass(frozen=True)
class Shot:
    """One picture of the UI.

    Attributes:
        path: Below the UI's address.
        shows: A text that is there once the page is.
        width, height: Of the picture, in pixels.
    """

    file: str
    path: str
    shows: str
    height: int = 900
    width: int = 1400


def ui(url: str, auth: str, folder: Path, only: Sequence[str] = ()) -> list[str]:
    """Take what the server has to show; the files that were made.

    Args:
        url: Of the UI, without a trailing slash.
        auth: ``user:password``.
        only: Files to make; empty: all.
    """
    stored = base64.b64encode(auth.encode()).decode()
    shots = [shot for shot in _shots(url, auth) if not only or shot.file in only]
    with _browser() as browser:
        for shot in shots:
            context = browser.new_context(viewport={"width": shot.width, "height": shot.height}, color_scheme="light")
            context.add_init_script(f"localStorage.setItem('prefect-password', {json.dumps(stored)})")
            context.route("**/*", lambda route: _only_ours(route, url))
            page = context.new_page()
            # The UI holds a connection for events open, so the network never falls silent.
            page.goto(f"{url}{shot.path}", wait_until="load")
            page.get_by_text(shot.shows).first.wait_for(timeout=60_000)
            page.wait_for_timeout(SETTLE_MS)
            _save(page, folder / shot.file)
            context.close()
    return [shot.file for shot in shots]


def report(folder: Path, html: str) -> list[str]:
    """A page on a phone and on a desktop, light and dark; the files that were made."""
    made = []
    with tempfile.TemporaryDirectory() as scratch, _browser() as browser:
        path = Path(scratch) / "report.html"
        path.write_text(html, encoding="utf-8")
        for file, width, height, scheme in (
            ("report-phone.png", 390, 1500, "dark"),
            ("report-desktop.png", 1200, 1250, "light"),
        ):
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            page.goto(path.as_uri(), wait_until="load")
            _save(page, folder / file)
            made.append(file)
            if width > 1000:
                _save(page.locator("#sizes"), folder / "report-plots.png")
                made.append("report-plots.png")
            context.close()
    return made


def _shots(url: str, auth: str) -> Iterator[Shot]:
    user, _, password = auth.partition(":")
    with httpx.Client(base_url=f"{url}/api", auth=(user, password) if auth else None, timeout=60) as client:

        def newest(what: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
            answer = client.post(f"/{what}/filter", json={"limit": 200, **wanted})
            answer.raise_for_status()
            found: list[dict[str, Any]] = answer.json()
            return found

        yield Shot("runs.png", "/runs", "Runs", 1100)
        failed = {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}, "sort": "END_TIME_DESC"}
        for run in newest("flow_runs", failed)[:1]:
            yield Shot("failed-run.png", f"/runs/flow-run/{run['id']}", "Finished in state", 1020)
        for ending, width, height in (("backups", 1500, 500), ("watch", 1400, 1000)):
            wanted = {"artifacts": {"key": {"like_": f"%-{ending}"}}, "sort": "CREATED_DESC"}
            for each in [one for one in newest("artifacts", wanted) if "-last-" not in one["key"]][:1]:
                yield Shot(f"artifact-{ending}.png", f"/artifacts/artifact/{each['id']}", each["key"], height, width)


@contextmanager
def _browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def _save(page: Page | Locator, file: Path) -> None:
    """The visible part of a page, or an element of it, in few colours."""
    file.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(file))
    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


def _only_ours(route: Route, url: str) -> None:
    """Let nothing out of this machine."""
    if route.request.url.startswith((url, "data:", "blob:")):
        route.continue_()
    else:
        route.abort()


def main() -> None:
    """The pictures of the docs."""
    from engine.report.page import page
    from scripts.sample_report import sample

    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    only = sys.argv[2:]
    made = report(folder, page(sample())) if not only or any(each.startswith("report-") for each in only) else []
    api = os.environ.get("PREFECT_API_URL", "")
    if api:
        made += ui(api.removesuffix("/api"), os.environ.get("PREFECT_API_AUTH_STRING", ""), folder, only)
    print("\n".join(made))


if __name__ == "__main__":
    main()
