"""A private MariaDB."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from deployments.embedded.server import Server, run


class MariaDB(Server):
    """A private MariaDB: binlog on, ROW format, 32 MB buffer pool; ``root`` by password from anywhere."""

    user = "root"
    system_user = "mysql"
    stop_signal = signal.SIGTERM

    @property
    def socket(self) -> Path:
        """The socket file; root needs the password there too."""
        return self.run_directory / "s.sock"

    def _initialise(self, data: Path) -> None:
        data.mkdir()
        self._give_away(data)
        as_user = ["--user=mysql"] if os.geteuid() == 0 else []
        # A server that starts removes what looks like leftovers from its temporary directory: never share one.
        with tempfile.TemporaryDirectory(prefix="backup-flows-", dir="/var/tmp") as own:
            self._give_away(Path(own))
            self._install(data, as_user, {**os.environ, "TMPDIR": own})

    def _install(self, data: Path, as_user: list[str], env: dict[str, str]) -> None:
        run(
            [
                "mariadb-install-db",
                "--no-defaults",
                *as_user,
                f"--datadir={data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            env=env,
        )
        bootstrap = ["mariadbd", "--no-defaults", *as_user, f"--datadir={data}", "--bootstrap"]
        run(bootstrap, self._accounts(), env=env)

    def _accounts(self) -> str:
        """The accounts of an official image: root, by password, on the socket and from any host."""
        password = self.password.replace("\\", "\\\\").replace("'", "\\'")
        return f"""
            FLUSH PRIVILEGES;
            DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');
            FLUSH PRIVILEGES;
            ALTER USER root@localhost IDENTIFIED BY '{password}';
            CREATE USER root@'%' IDENTIFIED BY '{password}';
            GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
        """.replace("\n", " ").replace("; ", ";\n")

    def _argv(self) -> list[str]:
        return [
            shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "/usr/sbin/mariadbd",
            "--no-defaults",
            f"--datadir={self.data}",
            f"--socket={self.socket}",
            f"--pid-file={self.run_directory}/mariadbd.pid",
            f"--tmpdir={self.run_directory}",  # a server that starts clears leftovers of others out of a shared one
            f"--port={self.port}",
            f"--bind-address={self.host}",
            "--log-bin=mysql-bin",
            "--server-id=1",
            "--binlog-format=ROW",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=8M",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",
            *self.options,
        ]

    def _answers(self) -> bool:
        ping = ["mariadb-admin", "--no-defaults", f"--socket={self.socket}", "--connect-timeout=2", "ping"]
        # It says "alive" with exit status 0 also where the password is missing.
        return self.socket.exists() and subprocess.run(ping, capture_output=True).returncode == 0
