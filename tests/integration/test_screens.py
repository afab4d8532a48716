"""What a person sees: the pages of the UI in a real browser, with the login."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from deployments import site_file
from deployments.server import ROOT
from engine.site import Site as Opened
from tests.integration.installation import Installation, Site

COMMON = True
SCRIPT = ROOT / "scripts" / "screenshot.py"


@pytest.mark.soak(sample=False)
def test_the_run_history_shows_runs_and_their_states(prefect: Installation, site: Site) -> None:
    assert prefect.run(f"manual-backup/{site.name}", label="seen").state == "COMPLETED"
    failed = prefect.run(f"manual-backup/{site.name}", source="nothing")
    log = prefect.log(failed)
    assert failed.state == "FAILED" and not any("Traceback" in line for line in log), log
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


def test_the_weekly_report_leaves_a_page_and_an_artifact_and_the_script_for_the_docs_makes_its_picture(
    prefect: Installation, site: Site, tmp_path: Path
) -> None:
    with Opened(site_file.load(site.file, site.env)) as opened:
        opened.vault.check()
    run = prefect.run(f"weekly-report/{site.name}")
    assert run.state == "COMPLETED" and "of 2 sources" in run.first_line, run.message
    short = prefect.markdown(run.id, f"{site.name}-report")
    assert short.startswith(f"# {run.first_line}.") and f"The whole page: `{site.vault}/" in short
    page = site.vault / ".backup-flows" / site.name / "reports" / f"{site.name}.html"
    assert f"Page: {page}" in run.message and f"<h1>{run.first_line}.</h1>" in page.read_text()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "runs.png"],
        env={**os.environ, **prefect.server.client_env()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs.png").read_bytes().startswith(b"\x89PNG")
