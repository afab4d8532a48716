"""What a person sees: the pages of the UI in a real browser, with the login."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from deployments.server import ROOT
from tests.integration.installation import Installation, Site

COMMON = True
SCRIPT = ROOT / "scripts" / "screenshot.py"


def test_the_run_history_shows_runs_and_their_states(prefect: Installation, site: Site) -> None:
    assert prefect.run(f"manual-backup/{site.name}", label="seen").state == "COMPLETED"
    assert prefect.run(f"manual-backup/{site.name}", source="nothing").state == "FAILED"
    stored = base64.b64encode(prefect.server.auth.encode()).decode()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1500, "height": 950})
        context.add_init_script(f"localStorage.setItem('prefect-password', '{stored}')")
        page = context.new_page()
        page.goto(f"{prefect.server.url}/runs")
        page.get_by_text(f"manual backup of {site.name}: seen").first.wait_for(timeout=60_000)
        page.get_by_text("Failed").first.wait_for()
        browser.close()


def test_the_script_for_the_docs_makes_its_picture(prefect: Installation, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        env={**os.environ, **prefect.server.client_env()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs.png").read_bytes().startswith(b"\x89PNG")
