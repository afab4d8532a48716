"""A private PostgreSQL."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from deployments.embedded.server import EmbeddedError, Server, run


class PostgreSQL(Server):
    """A private PostgreSQL: scram over TCP, trust on the socket for its own user; 32 MB of buffers.

    ``options`` are settings, ``name=value``.
    """

    user = "postgres"
    system_user = "postgres"
    stop_signal = signal.SIGINT

    @property
    def socket(self) -> Path:
        """The directory of the socket (what clients call the host)."""
        return self.run_directory

    def _initialise(self, data: Path) -> None:
        # initdb reads the password from a file that its own user must be able to open.
        secret = data.with_name(f"{data.name}.pw")
        data.mkdir(mode=0o700)
        self._give_away(data)
        secret.touch(mode=0o600)
        self._give_away(secret)
        secret.write_text(f"{self.password}\n")
        try:
            run(
                [
                    str(postgres_programs() / "initdb"),
                    f"--pgdata={data}",
                    f"--username={self.user}",
                    f"--pwfile={secret}",
                    "--auth-local=trust",
                    "--auth-host=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    "--no-sync",
                ],
                **self._identity(),
            )
        finally:
            secret.unlink()

    def _argv(self) -> list[str]:
        settings = [
            f"port={self.port}",
            f"listen_addresses={self.host}",
            f"unix_socket_directories={self.run_directory}",
            "shared_buffers=32MB",
            "wal_level=replica",
            "timezone=UTC",
            "log_timezone=UTC",
            *self.options,
        ]
        arguments = [part for setting in settings for part in ("-c", setting)]
        return [str(postgres_programs() / "postgres"), "-D", str(self.data), *arguments]

    def _answers(self) -> bool:
        probe = [str(postgres_programs() / "pg_isready"), "-q", "-h", str(self.socket), "-p", str(self.port), "-t", "2"]
        return subprocess.run(probe, capture_output=True).returncode == 0


def postgres_programs() -> Path:
    """The directory of the newest PostgreSQL server's programs on this host.

    Raises:
        EmbeddedError: None is installed.
    """
    found = {int(path.parts[-3]): path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")}
    if not found:
        raise EmbeddedError("no PostgreSQL server on this host; install the package postgresql")
    return found[max(found)]
