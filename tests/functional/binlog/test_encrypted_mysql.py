"""A MySQL server that encrypts its own binary logs (``binlog_encryption``), its key in a keyring component."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.binlog.events import Reader
from engine.errors import IntegrityError
from engine.site import Site
from tests.functional.binlog import kit
from tests.functional.binlog.test_ship import data, held, run, write
from tests.servers import DatabaseServer
from tests.servers.docker import DockerEngine
from tests.servers.fixtures import PASSWORD, server_in

pytestmark = pytest.mark.soak(sample=False)
_KEYRING = "/var/lib/mysql-keyring"


@pytest.fixture
def server(dockerd: DockerEngine, tmp_path: Path) -> Iterator[DatabaseServer]:
    """In a container, as its manual says: a manifest beside the program, the component's own settings beside it."""
    settings = {"path": f"{_KEYRING}/keys", "read_only": False}
    files = {
        "/usr/sbin/mysqld.my": {"components": "file://component_keyring_file"},
        "/usr/lib/mysql/plugin/component_keyring_file.cnf": settings,
    }
    binds = {}
    for number, (path, content) in enumerate(files.items()):
        (tmp_path / str(number)).write_text(json.dumps(content))
        (tmp_path / str(number)).chmod(0o644)
        binds[str(tmp_path / str(number))] = {"bind": path, "mode": "ro"}
    keyring = tmp_path / "keyring"
    keyring.mkdir()
    keyring.chmod(0o777)
    (keyring / "keys").touch()  # else root makes it, before the server becomes its own user
    (keyring / "keys").chmod(0o666)
    binds[str(keyring)] = {"bind": _KEYRING, "mode": "rw"}
    options = ["--log-bin=binlog", "--server-id=1", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"]
    options += ["--binlog-encryption=ON", "--performance-schema=OFF", "--mysqlx=OFF", "--innodb-buffer-pool-size=16M"]
    container = dockerd.service(
        "sealed", "mysql", "mysql", environment={"MYSQL_ROOT_PASSWORD": PASSWORD}, command=options, volumes=binds
    )
    try:
        yield server_in("mysql", dockerd, container, 3306, "root")
    finally:
        container.remove(force=True, v=True)


def test_its_logs_are_shipped_readable_and_replayed(server: DatabaseServer, tmp_path: Path) -> None:
    assert server.sql("SELECT @@binlog_encryption") == [("1",)]
    server.sql("CREATE DATABASE ships; CREATE TABLE ships.t (a INT AUTO_INCREMENT PRIMARY KEY)")
    config = kit.site_config(server, tmp_path / "vault", databases=["ships"])
    write(server, 2)
    report = run(config)
    assert sum(log.transactions for log in report.shipped) >= 4
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW BINARY LOGS")
        assert {row[2] for row in cursor.fetchall()} == {"Yes"}, "on the server they are encrypted"
    shipped = {log.name: data(config, entry, manifest) for entry, manifest, log in held(config)}
    assert any(b"CREATE TABLE ships.t" in each for each in shipped.values())
    name = report.shipped[-1].name
    stored = kit.own_bytes(server, name)
    assert stored.startswith(b"\xfdbin") and b"ships" not in stored
    with pytest.raises(IntegrityError, match="encrypted by its server"):
        list(Reader([stored]))
    with Site(config) as site:
        assert site.sweep().problems == []
