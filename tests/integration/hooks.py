"""Webhooks and a dead man's switch on this machine, and what they were told."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "FAKE-secret-of-the-webhook-9"


class Hooks:
    """One server; each path below the secret is a webhook of its own, a GET is the dead man's switch.

    Attributes:
        down: It answers 503, and takes nothing.
        times: When (UTC) what was taken, for whoever reads why a test failed.
        pings: What the outside sees: the path of each request.
    """

    def __init__(self) -> None:
        self._told: dict[str, list[dict[str, str]]] = defaultdict(list)
        self.pings: list[str] = []
        self.times: list[str] = []
        self.down = False
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                well = not hooks.down and self.path.startswith(f"/{SECRET}/")
                if well:
                    hooks.times.append(f"{datetime.now(UTC):%H:%M:%S} {body['subject']}")
                    hooks._told[self.path.rsplit("/", 1)[-1]].append(body)
                self.send_response(200 if well else 503)
                self.end_headers()

            def do_GET(self) -> None:
                hooks.pings.append(self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        """Of a webhook."""
        return f"{self.base}/{SECRET}/{name}"

    def subjects(self, name: str) -> list[str]:
        return [each["subject"] for each in self._told[name]]

    def turns(self, name: str) -> dict[str, list[str]]:
        """By a finding's id what was said of it, in order: told, told again, resolved."""
        found: dict[str, list[str]] = defaultdict(list)
        for part in self.text(name).split("\n\n"):
            word, _, rest = part.partition(" ")
            if word in ("WARNING", "CRITICAL", "UNKNOWN", "RESOLVED"):
                found[rest.split(": ")[0].split(" (")[0]].append("resolved" if word == "RESOLVED" else "told")
        return dict(found)

    def text(self, name: str) -> str:
        return "\n\n".join(each["text"] for each in self._told[name])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
