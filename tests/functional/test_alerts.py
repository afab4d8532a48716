"""Handing a message to an address: what it gets, and in which words it is told that it did not take it."""

from __future__ import annotations

import contextlib
import logging
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from blocks.alerts import block_of
from deployments.launch import without_addresses
from engine.alert_config import AlertConfig
from engine.errors import Unreachable
from tasks.alerts import hand_over

SECRET = "FAKE-secret-of-an-address"


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield port


@contextmanager
def mail_server(refuses: str, taken: list[str]) -> Iterator[int]:
    """One that answers 250 to all but what it refuses (AUTH with 535, RCPT with 550)."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 mail.invalid")
            while line := self.rfile.readline().decode(errors="replace").strip():
                word = line.split()[0].upper()
                if word == "EHLO":
                    self.say("250-mail.invalid", "250 AUTH LOGIN PLAIN")
                elif word == "AUTH":
                    self.say(f"535 5.7.8 no {SECRET}" if refuses == "AUTH" else "235 well")
                elif word == "RCPT" and refuses == "RCPT":
                    self.say(f"550 5.1.1 nobody called {SECRET}")
                elif word == "DATA":
                    self.say("354 go on")
                    while (part := self.rfile.readline().decode(errors="replace").rstrip("\r\n")) != ".":
                        taken.append(part)
                    self.say("250 well")
                else:
                    self.say("221 bye" if word == "QUIT" else "250 well")
                    if word == "QUIT":
                        return

        def say(self, *lines: str) -> None:
            self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    with serving(Server(("127.0.0.1", 0), Handler)) as port:
        yield port


def refused(url: str, kind: str = "webhook") -> str:
    """What is said of an address that does not take a message."""
    block: Any = block_of(AlertConfig.model_validate({"name": "ops", "kind": kind, "url": url}))
    with pytest.raises(Unreachable) as told:
        hand_over(block, "own/shop-alert-ops", "[critical] shop", "text")
    error = told.value
    assert (
        error.retryable and "no backup waits for it" in error.kept and "backups alert -f SITE --to ops" in error.remedy
    )
    assert SECRET not in f"{error} {error.message}" and error.__context__ is None
    return error.message


@pytest.mark.parametrize("kind", ["webhook", "apprise"])
@pytest.mark.parametrize("status", [404, 500])
def test_an_address_that_refuses_is_said_in_words_without_it(kind: str, status: int) -> None:
    with answering(status) as port:
        scheme = "http" if kind == "webhook" else "json"
        said = refused(f"{scheme}://127.0.0.1:{port}/services/{SECRET}", kind)
    assert f"did not take the message: it answers {status}" in said
    assert ("withdrawn" in said) == (status == 404)


def test_a_webhook_that_is_down_or_unknown_is_said_in_words() -> None:
    assert "the connection is refused" in refused(f"http://127.0.0.1:9/{SECRET}")
    assert "its host name is not known" in refused(f"http://nowhere.invalid/{SECRET}")
    assert "did not take the message: the connection is refused" in refused(f"json://127.0.0.1:9/{SECRET}", "apprise")


@pytest.mark.parametrize(("refuses", "says"), [("AUTH", "refuses the login"), ("RCPT", "refuses the recipient")])
def test_a_mail_server_that_refuses_is_said_in_words(refuses: str, says: str) -> None:
    with mail_server(refuses, []) as port:
        url = f"mailto://user:{SECRET}@127.0.0.1:{port}?from=a@shop.invalid&to=ops@shop.invalid&mode=insecure"
        assert f"the mail server {says}" in refused(url, "apprise")


def test_a_mail_server_gets_subject_and_text() -> None:
    taken: list[str] = []
    with mail_server("", taken) as port:
        url = f"mailto://user:{SECRET}@127.0.0.1:{port}?from=a@shop.invalid&to=ops@shop.invalid&mode=insecure"
        block: Any = block_of(AlertConfig.model_validate({"name": "mail", "kind": "apprise", "url": url}))
        hand_over(block, "slack-webhook/shop-alert-mail", "[critical] shop: disk/local", "CRITICAL disk/local: full")
    told = "\n".join(taken)
    assert "[critical] shop: disk/local" in told and "CRITICAL disk/local: full" in told


def test_the_log_of_a_server_holds_no_address_of_a_webhook_that_refuses() -> None:
    """Prefect logs what httpx raises when an automation tells a webhook, and its text is the whole address."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    logger = logging.Logger("of a server")
    logger.addHandler(handler)
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(without_addresses(before))
    try:
        with answering(403) as port:
            try:
                httpx.post(f"http://127.0.0.1:{port}/{SECRET}", json={}).raise_for_status()
            except httpx.HTTPError:
                logger.exception("Failed in %s", "consume_loop")
        try:
            raise ValueError("of another kind")
        except ValueError:
            logger.exception("Failed")
    finally:
        logging.setLogRecordFactory(before)
    assert lines[0] == "Failed in consume_loop: HTTPStatusError 403"
    assert "Traceback" in lines[1] and "of another kind" in lines[1]


@contextmanager
def dripping() -> Iterator[int]:
    """One that answers a byte now and then, and comes to no end."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
                while not over.wait(0.05):
                    self.wfile.write(b"a")

    over = threading.Event()
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with serving(server) as port:
        yield port
        over.set()


@pytest.mark.parametrize("scheme", ["http", "json"])
def test_an_address_that_answers_drop_by_drop_is_given_up(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.alerts.PATIENCE", 1.0)
    kind = "webhook" if scheme == "http" else "apprise"
    with dripping() as port:
        given = {"name": "ops", "kind": kind, "url": f"{scheme}://127.0.0.1:{port}/{SECRET}"}
        block = block_of(AlertConfig.model_validate(given))
        with pytest.raises(Unreachable, match="does not answer in time") as refused:
            hand_over(block, "custom-webhook/shop-alert-ops", "subject", "text")
    assert SECRET not in str(refused.value)
