"""A gate before an S3 endpoint: it compares SHA-256 checksums, and has rights that moto does not know, as AWS does; or
it fails."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_REFUSAL = b"<Error><Code>BadDigest</Code><Message>The SHA256 you specified did not match</Message></Error>"
_FAILURE = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"

Asked = Callable[[str, str, Mapping[str, str], bytes], tuple[int, bytes] | None]
"""By method, path, headers and body of a request: the status and body of the gate's own answer; None lets it pass."""

_DENIAL = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@contextlib.contextmanager
def digest_gate(endpoint: str, denies: str = "") -> Iterator[str]:
    """The address of a gate before ``endpoint`` that answers 400 BadDigest to a body of another digest.

    Args:
        denies: A sub-resource, such as ``retention``, which the key may not put: 403 AccessDenied.
    """

    def compare(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes] | None:
        if denies and method == "PUT" and denies in urlsplit(path).query.split("&"):
            return 403, _DENIAL
        expected = headers.get("x-amz-checksum-sha256")
        other = expected and expected != base64.b64encode(hashlib.sha256(body).digest()).decode()
        return (400, _REFUSAL) if other else None

    with _gate(endpoint, compare) as address:
        yield address


@contextlib.contextmanager
def failing_gate(endpoint: str, fails: Callable[[str, str], bool]) -> Iterator[str]:
    """The address of a gate before ``endpoint`` that answers 500 InternalError to what ``fails`` says, by method and
    path."""
    with _gate(endpoint, lambda method, path, *_: (500, _FAILURE) if fails(method, path) else None) as address:
        yield address


@contextlib.contextmanager
def _gate(endpoint: str, asked: Asked) -> Iterator[str]:
    upstream = urlsplit(endpoint).netloc

    class Gate(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            own = asked(self.command, self.path, self.headers, body)
            if own is not None:
                return self._answer(own[0], {}, own[1])
            connection = http.client.HTTPConnection(upstream)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            length = {"Content-Length": answer.headers["Content-Length"]} if self.command == "HEAD" else {}
            self._answer(answer.status, {**dict(answer.headers), **length}, answer.read())
            connection.close()

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            headers.setdefault("Content-Length", str(len(body)))
            for name, value in headers.items():
                if name.lower() not in {"connection", "transfer-encoding"}:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
