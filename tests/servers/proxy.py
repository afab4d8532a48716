"""A TCP proxy that fails on request: real sockets between a client and a real server.

with Proxy(server.endpoint) as proxy:
    proxy.cut("down", after=100_000, times=2)
    ...
    assert proxy.requests == ["GET /vault/key", "GET /vault/key", ...]
"""

from __future__ import annotations

import re
import socket
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

Direction = Literal["up", "down"]
_REQUEST = re.compile(rb"(GET|PUT|HEAD|POST|DELETE) (\S+) HTTP/1\.[01]\r\n")


@dataclass
class Fault:
    """Every ``after`` bytes in one direction, ``times`` times: cut the connection, or flip one bit."""

    direction: Direction
    after: int
    times: int
    flip: bool = False
    passed: int = 0


class Proxy:
    """Passes bytes between clients and one server, counts requests, and does harm when told to."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[str] = []
        self._fault: Fault | None = None
        self._lose: re.Pattern[str] | None = None
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._closed = False

    def cut(self, direction: Direction, *, after: int, times: int = 1) -> None:
        """Cut connections: ``down`` is server to client."""
        self._fault = Fault(direction, after, times)

    def flip(self, direction: Direction, *, after: int) -> None:
        """Flip one bit of the byte that comes after so many."""
        self._fault = Fault(direction, after, 1, flip=True)

    def lose_answer(self, pattern: str) -> None:
        """Let the next request that matches (``PUT /bucket/key``) through, and cut the line at its answer."""
        self._lose = re.compile(pattern)
        self._fault = Fault("down", 0, 1)

    def heal(self) -> None:
        self._fault = None

    @property
    def done(self) -> bool:
        """Whether the harm asked for has been done in full."""
        return self._fault is not None and self._fault.times == 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for each in [self._listener, *self._sockets]:
            _close(each)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
            except OSError:
                return
            self._sockets += [client, server]
            latest = [""]
            for source, target, direction in ((client, server, "up"), (server, client, "down")):
                threading.Thread(target=self._pass, args=(source, target, direction, latest), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, direction: Direction, latest: list[str]) -> None:
        try:
            while data := source.recv(65536):
                if direction == "up" and (found := _REQUEST.match(data)):
                    latest[0] = f"{found[1].decode()} {found[2].decode()}"
                    self.requests.append(latest[0])
                allowed, cut = self._harm(direction, data, latest[0])
                target.sendall(allowed)
                if cut:
                    break
        except OSError:
            pass
        finally:
            _close(source)
            _close(target)

    def _harm(self, direction: Direction, data: bytes, request: str) -> tuple[bytes, bool]:
        with self._lock:
            fault = self._fault
            if fault is None or fault.direction != direction or not fault.times:
                return data, False
            if self._lose and (not self._lose.search(request) or data.startswith(b"HTTP/1.1 100")):
                return data, False
            left = fault.after - fault.passed
            if len(data) <= left:
                fault.passed += len(data)
                return data, False
            fault.times -= 1
            fault.passed = 0
            if fault.flip:
                return data[:left] + bytes([data[left] ^ 1]) + data[left + 1 :], False
            return data[:left], True


def _close(each: socket.socket) -> None:
    try:
        each.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    each.close()
