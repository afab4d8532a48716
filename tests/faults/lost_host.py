"""A writer who remembers when each commit was acknowledged, and a database host that is gone from one moment on."""

from __future__ import annotations

import bisect
import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

from engine.point_in_time import bring_back, plan_past
from engine.restore_plan import RestoreRequest
from engine.site import Site
from tests.servers.databases import DatabaseServer

BETWEEN_COMMITS = 0.02
"""Seconds: what the figures are exact to."""


class Writer:
    """Commits the numbers from 1 on, one by one, into a table ``ticks``."""

    def __init__(self, server: DatabaseServer, database: str) -> None:
        self._server, self._database = server, database
        self.acknowledged: list[float] = []
        """When the server had said yes to each number, as ``time.time()``."""
        self._over = threading.Event()
        server.sql("CREATE TABLE ticks (n int PRIMARY KEY, filling text)", database)
        self._thread = threading.Thread(target=self._write, daemon=True)

    def start(self) -> Writer:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Write no more."""
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def before(self, moment: float) -> int:
        """How many were acknowledged by then."""
        return bisect.bisect_right(self.acknowledged, moment)

    def _write(self) -> None:
        session: Any = self._server.connect(self._database)
        with contextlib.suppress(Exception), session, session.cursor() as cursor:  # the server is going to vanish
            while not self._over.wait(BETWEEN_COMMITS):
                number = len(self.acknowledged) + 1
                cursor.execute(f"INSERT INTO ticks VALUES ({number}, '{'x' * 200}')")
                self.acknowledged.append(time.time())


def vanish(*servers: DatabaseServer, also: Callable[[], list[psutil.Process]] = list) -> float:
    """Kill every process of these servers (and others) as a power cut would, and take their data away; when it was."""
    moment = time.time()
    doomed = also()
    for server in servers:
        main = psutil.Process(server.pid)
        doomed += [main, *main.children(recursive=True)]
    for process in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for server in servers:
        server.kill()
        assert server.data_directory is not None
        shutil.rmtree(server.data_directory)
    return moment


def recovered_numbers(site: Site, source: str, database: str, location: str = "auto") -> int:
    """How many of the numbers come back, recovering to the end of the logs in one place or in all."""
    request = RestoreRequest(database, source=source, location=location)
    _, manifest = bring_back(site, plan_past(site, request, "latest"))
    return next(count for table, count in manifest.rows.items() if table.endswith("ticks"))
