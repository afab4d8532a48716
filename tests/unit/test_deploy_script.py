"""The script of the GitHub Actions against servers that answer oddly: it ends in words, with a code of the table."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployments.github.deploy_snapshot import (
    FAILED,
    TIMED_OUT,
    UNREACHABLE,
    USAGE,
    Console,
    Ended,
    Inputs,
    Job,
    Server,
)
from deployments.github.deploy_snapshot import work as do_it

Answer = tuple[int, Any]
GOOD: dict[str, Answer] = {
    "/deployments/name/": (200, {"id": "d1", "parameters": {}}),
    "/create_flow_run": (201, {"id": "r1"}),
    "/flow_runs/r1": (200, {"id": "r1", "state": {"type": "COMPLETED", "name": "Completed", "message": "it stands"}}),
    "/logs/filter": (200, []),
    "/set_state": (200, {"status": "ACCEPT"}),
}
RUNNING: Answer = (200, {"id": "r1", "state": {"type": "RUNNING", "name": "Running"}})


@contextmanager
def server(answers: Callable[[str, dict[str, Any]], Answer]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, body = answers(self.path, json.loads(self.rfile.read(length) or b"{}"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        do_GET = do_POST = answer

        def log_message(self, *args: Any) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_port}/api"
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


def ended(odd: dict[str, Answer], tmp_path: Path, **given: str) -> tuple[str, Ended | None]:
    """What is said in the end, and how it ended, where some paths are answered oddly."""

    def answers(path: str, body: dict[str, Any]) -> Answer:
        return next(
            answer for part, answer in {**odd, **{k: v for k, v in GOOD.items() if k not in odd}}.items()
            if (path.removeprefix("/api").startswith(part) or path.endswith(part))
        )  # fmt: skip

    with server(answers) as api:
        environ = {
            "PREFECT_API_URL": api, "BACKUPS_SITE": "shop", "BACKUPS_OPERATION": "snapshot", "BACKUPS_POLL": "0.1",
            "BACKUPS_PATIENCE": "1", "BACKUPS_TIMEOUT": "30", **given,
        }  # fmt: skip
        inputs = Inputs(environ)
        job = Job(inputs, Server(inputs.api, inputs.auth), Console({}))
        try:
            return do_it(job), None
        except Ended as end:
            return end.reason, end


@pytest.mark.parametrize("where", ["/deployments/name/", "/create_flow_run", "/flow_runs/r1"])
@pytest.mark.parametrize("body", [{}, [], None, "well", b"<html>"])
def test_what_is_no_prefect_server_is_said_to_be_none(where: str, body: Any, tmp_path: Path) -> None:
    said, end = ended({where: (200, body)}, tmp_path)
    assert end is not None and end.code == UNREACHABLE and "is no Prefect server" in said


@pytest.mark.parametrize("answer", [(422, {}), (401, {}), (403, b"no"), (200, None), (200, b"<html>"), (500, {})])
def test_a_log_that_cannot_be_read_never_decides_how_a_job_ends(answer: Answer, tmp_path: Path) -> None:
    assert ended({"/logs/filter": answer}, tmp_path) == ("it stands", None)


def test_a_long_log_is_shown_to_its_last_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"timestamp": "2026-11-22T10:00:00Z", "message": f"line {number}"} for number in range(450)]

    def answers(path: str, body: dict[str, Any]) -> Answer:
        if path.endswith("/logs/filter"):
            return 200, lines[body["offset"] : body["offset"] + body["limit"]]
        return next(answer for part, answer in GOOD.items() if part in path)

    with server(answers) as api:
        inputs = Inputs({"PREFECT_API_URL": api, "BACKUPS_SITE": "shop", "BACKUPS_OPERATION": "snapshot"})
        do_it(Job(inputs, Server(inputs.api, inputs.auth), Console({})))
    shown = capsys.readouterr().out
    assert [f"line {number}\n" in shown for number in (0, 199, 200, 449)] == [True] * 4


def test_a_run_that_is_gone_was_begun_all_the_same(tmp_path: Path) -> None:
    said, end = ended({"/flow_runs/r1": (404, {"detail": "none"})}, tmp_path)
    assert end is not None and end.code == FAILED != USAGE and "was begun" in said


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, {"status": "ACCEPT"}), "and was cancelled"),
        ((200, {"status": "REJECT"}), "could not be cancelled: it may still go on"),
        ((500, {}), "could not be cancelled: it may still go on"),
        ((200, []), "could not be cancelled: it may still go on"),
    ],
)
def test_a_run_that_takes_too_long_is_said_to_be_cancelled_only_when_it_is(
    answer: Answer, told: str, tmp_path: Path
) -> None:
    said, end = ended({"/set_state": answer, "/flow_runs/r1": RUNNING}, tmp_path, BACKUPS_TIMEOUT="1")
    assert end is not None and end.code == TIMED_OUT and told in said
