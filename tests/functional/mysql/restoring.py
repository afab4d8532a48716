"""What the restore tests share: a small database with all that makes restoring hard, backups held in
memory, and fingerprints of production taken with stock clients alone."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from engine import names
from engine.config import MySQLConfig
from engine.journal import Journal
from engine.manifest import Cipher, Manifest, StoredFile
from engine.mysql.server import MySQLSource
from engine.progress import silent
from engine.source import Facts, Selection
from tests.servers.databases import DatabaseServer

EVERYTHING = Selection()
ADMIN = "fake-restorer-password"

SHOP = """
CREATE TABLE {db}.audit (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(200), UNIQUE KEY only_once (what));
CREATE TABLE {db}.parents (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100), payload BLOB) CHARSET=utf8mb4;
CREATE TABLE {db}.kids (id INT AUTO_INCREMENT PRIMARY KEY, parent BIGINT,
    CONSTRAINT kid_parent FOREIGN KEY (parent) REFERENCES {db}.parents (id));
CREATE TABLE {db}.zebra (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(200));
CREATE TABLE {db}.`odd ``name'"` (`a b` INT, d VARCHAR(100));
CREATE TABLE {db}.quiet (id INT PRIMARY KEY);
INSERT INTO {db}.parents (name, payload) VALUES ('é😀', 0x00FF27),
    ('-- Dumping events for database ''x''\\n/*!50003 SET @saved_cs_client      = 1 */ ;\\n', NULL);
INSERT INTO {db}.kids (parent) VALUES (1), (2), (NULL);
INSERT INTO {db}.zebra (what) VALUES ('stripes');
INSERT INTO {db}.`odd ``name'"` VALUES (1, ';\\n');
USE {db};
DELIMITER ;;
CREATE FUNCTION twice(x INT) RETURNS INT DETERMINISTIC RETURN x * 2;;
CREATE PROCEDURE add_one(IN x INT) BEGIN
-- Final view structure for view `a_view`
INSERT INTO {db}.audit (what) VALUES (CONCAT('procedure ', UUID())); END;;
CREATE TRIGGER parent_new AFTER INSERT ON parents FOR EACH ROW BEGIN
-- Dumping routines for database 'prod'
INSERT INTO {db}.audit (what) VALUES (CONCAT('parent ', NEW.id, '/', twice(NEW.id))); END;;
CREATE TRIGGER `zebra new` AFTER INSERT ON zebra FOR EACH ROW
INSERT INTO audit (what) VALUES (CONCAT('zebra ', NEW.id));;
CREATE EVENT ticking ON SCHEDULE EVERY 1 SECOND DO INSERT INTO {db}.audit (what) VALUES (CONCAT('event ', UUID()));;
CREATE EVENT asleep ON SCHEDULE EVERY 1 DAY DISABLE DO BEGIN
-- Dumping routines for database 'prod'
SELECT 1; END;;
DELIMITER ;
CREATE VIEW z_view AS SELECT id, name, twice(id) AS d FROM parents;
CREATE VIEW a_view AS SELECT z_view.id FROM z_view JOIN kids ON kids.parent = z_view.id;
"""


@dataclass
class Backup:
    """A backup in memory: a manifest and its parts' plain bytes."""

    manifest: Manifest
    parts: dict[str, bytes]

    def part(self, role: str) -> Iterator[bytes]:
        data = self.parts[role]
        return (data[at : at + 4096] for at in range(0, len(data), 4096))


@dataclass
class MemorySink:
    data: bytearray = field(default_factory=bytearray)

    def write(self, data: bytes) -> None:
        self.data += data


class MemoryParts:
    def __init__(self) -> None:
        self.sinks: dict[str, MemorySink] = {}

    def data(self) -> MemorySink:
        return self.sinks.setdefault("data", MemorySink())

    def companion(self, role: str, ext: str = "sql") -> MemorySink:
        return self.sinks.setdefault(role, MemorySink())


def source_of(server: DatabaseServer, **settings: object) -> MySQLSource:
    """The source as a site would configure it: tools in the server's own container where it has one.

    A try for the lock may take longer than a site lets it, for the machine that runs the tests may be a slow one.
    """
    settings = {"lock_try_seconds": 10, "lock_wait_seconds": 60, **settings}
    place = {"container": server.container, "docker_host": server.docker_host} if server.container else {
        "host": server.host, "port": server.port}  # fmt: skip
    config = MySQLConfig.model_validate(
        {"user": server.user, "password": SecretStr(server.password), **place, **settings}
    )
    return MySQLSource(config, site="test")


def take(source: MySQLSource, database: str) -> Backup:
    """A real capture, kept in memory."""
    parts = MemoryParts()
    facts = source.capture(database, parts, silent)
    return Backup(manifest_of(database, parts, facts), {role: bytes(sink.data) for role, sink in parts.sinks.items()})


def manifest_of(database: str, parts: MemoryParts, facts: Facts) -> Manifest:
    moment = names.now()
    files = [
        StoredFile(file=f"{database}.{role}", role=role, size=1, sha256="0" * 64, plain_size=len(sink.data),
                   cipher=Cipher(key_id="main"))
        for role, sink in parts.sinks.items()
    ]  # fmt: skip
    return Manifest(
        site="test", source="mysql", kind="mysql", tier="manual", database=database, file=files[0].file,
        started_at=moment, finished_at=moment, files=files, server=facts.server, log=facts.log, rows=facts.rows,
        uncounted=facts.uncounted, schema_sha256=facts.schema_sha256, contents=facts.contents,
    )  # fmt: skip


@contextlib.contextmanager
def shop(server: DatabaseServer, database: str, *, altered: bool = True) -> Iterator[str]:
    """The SHOP database, with an altered character set, and an account that may only EXECUTE."""
    clear(server, database)
    after = f"ALTER DATABASE {database} CHARACTER SET latin1 COLLATE latin1_swedish_ci;" if altered else ""
    server.sql(
        f"CREATE DATABASE {database} CHARACTER SET utf8mb4;\n{SHOP.format(db=database)}{after}"
        f"CREATE USER '{database}_exec'@'%' IDENTIFIED BY 'fake-grantee-pw';"
        f"GRANT EXECUTE ON PROCEDURE {database}.add_one TO '{database}_exec'@'%';"
        f"GRANT SELECT ON {database}.a_view TO '{database}_exec'@'%'"
    )
    try:
        yield database
    finally:
        clear(server, database)


def clear(server: DatabaseServer, database: str) -> None:
    """Drop every database of the test and its account."""
    drops = "".join(f"DROP DATABASE `{name}`;" for name in databases(server, database))
    server.sql(f"{drops} DROP USER IF EXISTS '{database}_exec'@'%'")


def ticking(server: DatabaseServer, on: bool) -> None:
    server.sql(f"SET GLOBAL event_scheduler = {'ON' if on else 'OFF'}")


def begin(directory: Path, database: str) -> Journal:
    return Journal.create(directory, "mysql-restore", database=database)


def databases(server: DatabaseServer, prefix: str) -> list[str]:
    return sorted(name for (name,) in server.sql("SHOW DATABASES") if name is not None and name.startswith(prefix))


def fingerprint(server: DatabaseServer, database: str, *, rows: bool = True) -> dict[str, str]:
    """Rows, definitions, owners, grants and database settings of production, by stock client alone.

    Without ``rows``, what writers change meanwhile is left out.
    """
    asked = {"database": f"SHOW CREATE DATABASE `{database}`"}
    for kind, name in server.sql(_OBJECTS.format(db=database)):
        assert kind and name
        quoted = f"`{database}`.`{name.replace('`', '``')}`"
        if kind == "ACCOUNT":
            user, _, host = name.rpartition("@")
            asked[f"grants {name}"] = f"SHOW GRANTS FOR '{user}'@'{host}'"
            continue
        asked[f"{kind} {name}"] = f"SHOW CREATE {kind} {quoted}"
        if rows and kind == "TABLE":
            asked[f"rows {name}"] = f"SELECT * FROM {quoted}"
    script = "".join(f"SELECT '{_MARK}', {number};\n{statement};\n" for number, statement in enumerate(asked.values()))
    answers: list[list[str]] = []
    for row in server.sql(script):
        if row[0] == _MARK:
            answers.append([])
        else:
            answers[-1].append(repr([_MADE.sub("", value or "NULL") for value in row]))
    found = {name: repr(sorted(answer)) for name, answer in zip(asked, answers, strict=True)}
    for name, text in found.items():
        if name.startswith("TABLE ") and not rows:
            found[name] = re.sub(r" AUTO_INCREMENT=\d+", "", text)
    return found


_MARK = "next statement"
_MADE = re.compile(r"^\d{4}-\d\d-\d\d [\d:]{8}\.\d\d$")  # the moment a trigger was made
_OBJECTS = """
SELECT IF(table_type LIKE '%VIEW', 'VIEW', 'TABLE'), table_name FROM information_schema.tables
    WHERE table_schema = '{db}';
SELECT 'TRIGGER', trigger_name FROM information_schema.triggers WHERE trigger_schema = '{db}';
SELECT 'EVENT', event_name FROM information_schema.events WHERE event_schema = '{db}';
SELECT routine_type, routine_name FROM information_schema.routines WHERE routine_schema = '{db}';
SELECT 'ACCOUNT', CONCAT(user, '@', host) FROM mysql.user WHERE user LIKE '{db}%';
"""


class HotWriter:
    """An app that never stops writing, each row firing a trigger; it remembers every error it saw."""

    def __init__(self, server: DatabaseServer, database: str, statement: str) -> None:
        self._server = server
        self._database = database
        self._statement = statement
        self.errors: list[str] = []
        self.writes = 0
        self.longest = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> HotWriter:
        self._thread.start()
        deadline = time.monotonic() + 20
        while self.writes < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        with contextlib.closing(self._server.connect()) as connection, connection.cursor() as cursor:
            while not self._stop.is_set():
                begun = time.monotonic()
                try:
                    cursor.execute(self._statement)
                except Exception as error:  # whatever the app would see
                    self.errors.append(f"{error!r} at {time.monotonic():.4f}")
                self.longest = max(self.longest, time.monotonic() - begun)
                self.writes += 1
