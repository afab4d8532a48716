"""Count rows in a session of its own while the dump streams, and hold the dump against it."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from engine.errors import SnapshotMismatch
from engine.mysql.connection import Connection
from engine.mysql.rows import compare_rows
from engine.mysql.schema import Table, count_rows


class Counting:
    """Counts tables one after the other, in a thread, in the snapshot of ``session``.

    A table whose engine keeps no snapshots is counted as it is at that moment: at the beginning and,
    by ``again``, at the end; only where both are equal is the number held against the dump.
    """

    def __init__(self, session: Connection, database: str, tables: Iterable[Table]) -> None:
        self._session = session
        self._database = database
        self._tables = sorted(tables, key=lambda table: (table.transactional, table.name))
        self._rows: dict[str, int] = {}
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._count, name="count", daemon=True)
        self._thread.start()

    def rows(self) -> dict[str, int]:
        """Wait for the last table. Raises what counting raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._rows

    def stop(self) -> None:
        """Count no further table; the one being counted ends when its session is killed."""
        self._stopped = True

    def check(self, dumped: dict[str, int], left_out: list[str], dump: str) -> tuple[dict[str, int], list[str]]:
        """The rows for the manifest, and warnings.

        Raises:
            SnapshotMismatch: naming tables that the dump lacks or holds with other rows.
        """
        expected, warnings = dict(self.rows()), []
        for table in self._tables:
            if table.transactional:
                continue
            if count_rows(self._session, self._database, table.name) != expected[table.name]:
                del expected[table.name]
                warnings.append(f"Table {table.name!r} ({table.engine}) was written to during the dump and keeps no "
                                "snapshots: its rows are those that the dump holds, of no one moment.")  # fmt: skip
        compare_rows(dumped, expected, left_out, what=dump, other="the server at the dump's own snapshot",
                     error=SnapshotMismatch)  # fmt: skip
        unsure = {table.name: dumped.get(table.name, 0) for table in self._tables if table.name not in expected}
        return {**expected, **unsure}, warnings

    def _count(self) -> None:
        try:
            for table in self._tables:
                if self._stopped:
                    return
                self._rows[table.name] = count_rows(self._session, self._database, table.name)
        except BaseException as error:  # handed to whoever waits
            self._error = error
