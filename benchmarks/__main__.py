"""``python -m benchmarks [NAME ...]``: run what begins with one of the names, or everything."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import backup, buckets, catalog, logs, recoveries, snapshots
from benchmarks.limits import beyond
from benchmarks.measure import Figure, save, show

BENCHES: dict[str, Callable[[Path], list[Figure]]] = {
    "catalog": catalog.run,
    "mariadb.backup": lambda directory: backup.run(backup.OnMariaDB(directory)),
    "postgres.backup": lambda directory: backup.run(backup.OnPostgres(directory)),
    "mariadb.memory": lambda directory: backup.memory(backup.OnMariaDB(directory)),
    "postgres.memory": lambda directory: backup.memory(backup.OnPostgres(directory)),
    "mariadb.ship": logs.run_mariadb,
    "postgres.ship": logs.run_postgres,
    "mariadb.recover": lambda directory: recoveries.run(recoveries.OnMariaDBLogs, directory),
    "postgres.recover": lambda directory: recoveries.run(recoveries.OnPostgresLogs, directory),
    "bucket.snapshot": buckets.run,
    "demo.snapshot": snapshots.run,
}


def main(wanted: list[str]) -> int:
    """Run, print and save; 1 when a figure is beyond its limit, 2 when nothing has such a name."""
    chosen = [name for name in BENCHES if not wanted or any(name.startswith(each) for each in wanted)]
    if not chosen:
        print(f"no benchmark begins with {' or '.join(wanted)}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    told: list[str] = []
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="backup-flows-bench-") as directory:
            Path(directory).chmod(0o755)
            figures = BENCHES[name](Path(directory))
        show(figures)
        save(figures)
        told += beyond(figures)
    for each in told:
        print(f"beyond its limit: {each}", file=sys.stderr)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
