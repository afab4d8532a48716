"""A recovery in a process of its own that kills itself with SIGKILL in the middle of the replay, right when the
applier has begun. Reads its orders as a pickle on standard input."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from engine.catalog import Entry
from engine.config import SiteConfig
from engine.manifest import Manifest
from engine.mysql.pitr import recover
from engine.mysql.replay import ReplayFile
from engine.scratch.mysql import Settings, open_scratch
from engine.site import Site


@dataclass(frozen=True)
class Orders:
    config: SiteConfig
    entry: Entry
    manifest: Manifest
    logs: list[tuple[str, bytes]]
    stop: tuple[str, int]
    settings: Settings


def obey(orders: Orders) -> None:
    def told(step: str, done: int, total: int | None = None) -> None:
        if step == "replay":
            print("replaying", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    log = orders.manifest.log
    files = [ReplayFile(name, partial(_chunks, data)) for name, data in orders.logs]
    assert orders.manifest.server is not None
    with Site(orders.config) as site, open_scratch(site, "mysql", orders.manifest.server, orders.settings) as scratch:
        start = (log.binlog_file, log.binlog_position)
        recover(site, scratch, orders.entry, orders.manifest, files, start, orders.stop, told)


def _chunks(data: bytes) -> Iterator[bytes]:
    yield data


if __name__ == "__main__":
    obey(pickle.load(sys.stdin.buffer))
