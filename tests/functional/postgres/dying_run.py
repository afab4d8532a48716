"""A restore that is killed on the way: run as a process by ``test_recover``, with its orders as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.config import PostgresConfig
from engine.journal import Journal
from engine.manifest import Manifest
from engine.postgres import PostgresSource
from engine.source import Selection


def main() -> None:
    orders = json.loads(sys.argv[1])
    directory = Path(orders["directory"])
    manifest = Manifest.model_validate_json((directory / "manifest.json").read_bytes())

    class DyingJournal(Journal):
        def record(self, step: str, **facts: Any) -> None:
            if orders["when"] == f"before {step}":
                die()
            super().record(step, **facts)
            if orders["when"] == f"after {step}":
                die()

    def part(role: str) -> Iterator[bytes]:
        with (directory / role).open("rb") as file:
            while chunk := file.read(65536):
                yield chunk

    def progress(step: str, done: int, total: int | None = None) -> None:
        if orders["when"] == f"within {step}" and done * 2 > (total or 0):
            die()

    source = PostgresSource(PostgresConfig(**orders["config"]), site="workbench")
    journal = DyingJournal.create(directory / "journals", "postgres-restore")
    selection = Selection(schemas=tuple(orders["schemas"]))
    side, database = orders["side"], orders["database"]
    source.load_beside(manifest, part, side, selection, journal, progress)
    source.swap(manifest, part, side, database, f"{database}_before_x", selection, journal, progress)
    die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
