"""What the tests of binary logs share: servers asked by stock clients, a site, a changing load."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from engine.config import MySQLConfig, SiteConfig
from engine.mysql.connection import Connection, open_connection
from engine.mysql.server import MySQLSource
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers import DatabaseServer


def config(server: DatabaseServer, **more: Any) -> MySQLConfig:
    """As a site file has it. By address alone: no program is run where the server is."""
    given = {"host": server.host, "port": server.port, "user": server.user, "password": server.password, **more}
    return MySQLConfig.model_validate(given)


def site_config(server: DatabaseServer, root: Path, **more: Any) -> SiteConfig:
    vault = {"root": str(root), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}}
    return SiteConfig.model_validate({"site": "shop", "vault": vault, "mysql": config(server, **more).model_dump()})


def connect(server: DatabaseServer) -> Connection:
    """A session as the engine opens it."""
    settings = config(server)
    return open_connection(settings, MySQLSource(settings, site="shop").address)


def logs(server: DatabaseServer) -> list[tuple[str, int]]:
    """Names and sizes, as the server lists them."""
    return [(str(row[0]), int(row[1] or 0)) for row in server.sql("SHOW BINARY LOGS")]


def rotate(server: DatabaseServer) -> str:
    """Close the present log; its name."""
    name = logs(server)[-1][0]
    server.sql("FLUSH BINARY LOGS")
    return name


def own_bytes(server: DatabaseServer, name: str) -> bytes:
    """The file in the server's data directory."""
    if server.data_directory is not None:
        return (server.data_directory / name).read_bytes()
    argv = ["docker", "--host", server.docker_host, "exec", server.container, "cat", f"/var/lib/mysql/{name}"]
    return subprocess.run(argv, check=True, capture_output=True).stdout


def reset(server: DatabaseServer) -> None:
    server.sql("RESET MASTER" if server.flavour == "mariadb" else "RESET BINARY LOGS AND GTIDS")


LOAD = """
CREATE TABLE i (a INT PRIMARY KEY AUTO_INCREMENT, b TEXT, c INT) ENGINE=InnoDB;
CREATE TABLE m (a INT PRIMARY KEY AUTO_INCREMENT, b TEXT) ENGINE=MyISAM;
INSERT INTO i (b) VALUES ('x'), (UUID());
INSERT INTO m (b) VALUES ('x');
BEGIN; INSERT INTO i (b) VALUES ('y'); SAVEPOINT s; INSERT INTO i (b) VALUES ('no'); ROLLBACK TO s;
UPDATE i SET c = 1; DELETE FROM i WHERE a = 1; COMMIT;
CREATE TABLE c SELECT * FROM i;
CREATE TEMPORARY TABLE tmp (a INT); INSERT INTO tmp VALUES (1); INSERT INTO i (c) SELECT a FROM tmp;
DROP TEMPORARY TABLE tmp;
XA START 'x'; INSERT INTO i (b) VALUES ('xa'); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x';
SET timestamp = 1000000000; INSERT INTO i (b) VALUES ('long ago'); SET timestamp = DEFAULT;
RENAME TABLE c TO d; ALTER TABLE d ADD e INT; CREATE INDEX k ON d (c); TRUNCATE d; DROP TABLE d, m;
INSERT INTO i (b) VALUES (REPEAT('long ', 10000));
"""
"""Every kind of statement that logs differ in."""
