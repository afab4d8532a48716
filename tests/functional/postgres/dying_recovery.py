"""A recovery that is killed on the way: run as a process by ``test_pitr``, with its orders as JSON on its input."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from engine.config import PostgresConfig
from engine.postgres.pitr import recover
from engine.scratch.postgres_settings import Goal
from tests.functional.postgres.pitr_kit import base_in, wal_in


def main() -> None:
    orders = json.load(sys.stdin)
    directory = Path(orders["directory"])

    def progress(step: str, done: int, total: int | None = None) -> None:
        if step == orders["when"] and (step != "unpack the base backup" or done * 2 > (total or 0)):
            os.kill(os.getpid(), signal.SIGKILL)

    base = base_in(directory / "base", orders["major"])
    wal = wal_in(directory / "wal")
    config = PostgresConfig.model_validate(orders["config"])
    with recover(config, site="x", state=Path(orders["state"]), base=base, wal=wal, goal=Goal(), progress=progress):
        progress("recovered", 1)


if __name__ == "__main__":
    main()
