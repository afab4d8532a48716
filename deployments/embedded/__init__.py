"""Private database servers, for the demo, the benchmarks and the tests.

Each lives in one directory, listens on a free port of 127.0.0.1 and on a socket inside the directory,
and is stopped by its process id. Nothing on the standard ports is touched, so a machine that has its
own servers is safe. Uses the programs of Debian's ``mariadb-server`` and ``postgresql``; run as root, the
servers themselves run as ``mysql`` and ``postgres``.

    with MariaDB(Path("/var/tmp/demo/mariadb"), password="...") as server:
        print(server.port, server.socket)

Without ``with``, ``start`` leaves the server running after this process has ended; another process that
names the same directory can ``stop`` it. ``start`` on a stopped directory brings the same data back on
the same port.
"""

from deployments.embedded.mariadb import MariaDB
from deployments.embedded.postgres import PostgreSQL, postgres_programs
from deployments.embedded.server import READY_SECONDS, STOP_SECONDS, EmbeddedError, Server, free_port, is_running

__all__ = [
    "READY_SECONDS",
    "STOP_SECONDS",
    "EmbeddedError",
    "MariaDB",
    "PostgreSQL",
    "Server",
    "free_port",
    "is_running",
    "postgres_programs",
]
