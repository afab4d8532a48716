"""The watch through its deployment: findings, failures and silence reach a webhook once, and once more when over."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from deployments import site_file
from engine.site import Site as Opened
from tests.integration.installation import Installation, Site, until

COMMON = True
PATH = "/FAKE-secret-of-the-webhook-9"


class Hook:
    """A webhook, a dead man's switch and their log."""

    def __init__(self) -> None:
        self.told: list[dict[str, str]] = []
        self.pings = 0
        self.down = False
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not hook.down:
                    hook.told.append(body)
                self.send_response(503 if hook.down or self.path != PATH else 200)
                self.end_headers()

            def do_GET(self) -> None:
                hook.pings += 1
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def subjects(self) -> list[str]:
        return [each["subject"] for each in self.told]


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@pytest.fixture(scope="module")
def watched(prefect: Installation, hook: Hook) -> Site:
    """A site with two addresses, of which one hears of what is critical alone, and whose silence is told after 40 s."""
    site = prefect.site("watched")
    site.env |= {"ITEST_HOOK": hook.url + PATH, "ITEST_PING": f"{hook.url}/ping", "BACKUP_FLOWS_SILENT_SECONDS": "40"}
    for server in ("mysql", "postgres"):
        site.document[server]["point_in_time"] = False
    site.document["watch"] = {"ping": "${ITEST_PING}", "disk": 99}
    site.document["alerts"] = [{"name": "ops", "url": "${ITEST_HOOK}", "levels": ["critical"]}]
    site.write()
    done = prefect.apply(site)
    assert done.returncode == 0, done.stdout + done.stderr
    with Opened(site_file.load(site.file, {**site.env})) as opened:
        opened.vault.check()
    return site


def test_a_watch_leaves_a_table_and_a_state_that_says_how_it_stands(prefect: Installation, site: Site) -> None:
    run = prefect.run(f"watch-backups/{site.name}")
    rows = prefect.table(run, f"{site.name}-watch")
    assert run.state == "COMPLETED" and run.state_name.upper() == rows[0]["level"] == "CRITICAL", run.message
    assert {"recovery-point", "slot", "copies", "disk"} <= {row["condition"] for row in rows}
    assert rows[0]["what to do"] == f"docs/watch.md#{rows[0]['condition']}"


@pytest.mark.soak(sample=False)
def test_what_is_wrong_is_told_once_and_once_more_when_it_is_over(
    prefect: Installation, watched: Site, hook: Hook
) -> None:
    sent = prefect.command("-m", "deployments.cli", "alert", "-f", str(watched.file), env=watched.env)
    assert sent.returncode == 0 and "took the message" in sent.stdout, sent.stdout + sent.stderr
    assert hook.subjects() == [f"[test] {watched.name}: this is a test"]

    hook.down = True  # what cannot be told is told as soon as it can be
    run = prefect.run(f"watch-backups/{watched.name}")
    assert run.state == "COMPLETED" and "2 critical" in run.first_line, run.message
    assert "did not take the message" in run.first_line and hook.pings == 0
    hook.down = False
    backup = prefect.run(f"manual-backup/{watched.name}", source="mysql")
    assert backup.state == "COMPLETED", backup.message
    run = prefect.run(f"watch-backups/{watched.name}")
    assert "1 critical" in run.first_line and len(hook.told) == 3
    assert (
        hook.subjects()[1].startswith(f"[critical] {watched.name}: backup-age/") and "and 1 more" in hook.subjects()[1]
    )
    assert hook.subjects()[2] == f"[resolved] {watched.name}: backup-age/mysql/{watched.shop}"
    table = prefect.table(run, f"{watched.name}-watch")
    assert table[0]["level"] == "CRITICAL" and table[0]["what to do"] == "docs/watch.md#backup-age"
    shown = "\n".join([*prefect.log(run), json.dumps(prefect.api.artifacts(run.id)), sent.stdout, sent.stderr])
    assert "FAKE-secret" not in shown

    # Nobody looks any more: the server itself tells it, once.
    until(lambda: len(hook.told) > 3, "the silence to be told")
    assert hook.subjects()[3:] == [f"[critical] {watched.name}: nobody watches the backups"]

    before = len(hook.told)
    del watched.document["postgres"]
    watched.write()
    assert prefect.apply(watched).returncode == 0
    broken = prefect.run(f"manual-backup/{watched.name}", source="mysql", database="is_not_there")
    assert broken.state == "FAILED"
    run = prefect.run(f"watch-backups/{watched.name}")
    assert [each for each in hook.subjects()[before:] if "run/manual-backup" in each] == hook.subjects()[before:]
    assert "run/manual-backup" in hook.told[-1]["text"] and "is_not_there" in hook.told[-1]["text"]
    assert prefect.run(f"manual-backup/{watched.name}", source="mysql").state == "COMPLETED"
    run = prefect.run(f"watch-backups/{watched.name}")
    assert run.first_line.startswith("all is well") and hook.pings == 1, run.message
    assert hook.subjects()[-1] == f"[resolved] {watched.name}: run/manual-backup"
    assert len(hook.told) == before + 2
