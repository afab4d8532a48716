"""What the PostgreSQL tests share: backups held in memory, manifests made from facts, fingerprints."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.config import PostgresConfig
from engine.journal import Journal
from engine.manifest import Cipher, Manifest, StoredFile
from engine.names import now
from engine.postgres import PostgresSource
from engine.progress import silent
from engine.source import Facts, Selection
from tests.servers.databases import DatabaseServer

ALL = Selection()
ROLES = ("app_owner", "app_reader", "analyst", 'odd role "x"')
HARD = Path(__file__).parents[2] / "data" / "postgres_hard.sql"


class Bytes:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.chunks.append(data)

    @property
    def value(self) -> bytes:
        return b"".join(self.chunks)


@dataclass
class MemoryParts:
    """Parts of a backup by role."""

    parts: dict[str, Bytes] = field(default_factory=dict)

    def data(self) -> Bytes:
        return self.parts.setdefault("data", Bytes())

    def companion(self, role: str, ext: str = "sql") -> Bytes:
        return self.parts.setdefault(role, Bytes())


@dataclass(frozen=True)
class Backup:
    """A captured database: its manifest and its parts."""

    manifest: Manifest
    parts: dict[str, bytes]

    def open(self, role: str) -> Iterator[bytes]:
        data = self.parts[role]
        yield from (data[at : at + 65536] for at in range(0, len(data), 65536))

    def altered(self, old: bytes, new: bytes) -> Backup:
        """The same with its data changed, as if on the way."""
        data = self.parts["data"]
        assert data.count(old) == 1, f"{old!r} is there {data.count(old)} times"
        return Backup(self.manifest, {**self.parts, "data": data.replace(old, new)})


def source_for(server: DatabaseServer, **options: Any) -> PostgresSource:
    """The server as a site would name it: by container where it is in one, without a host then."""
    values: dict[str, Any] = {"user": server.user, "password": server.password}
    if server.container:
        values |= {"service": server.service, "project": server.project, "docker_host": server.docker_host}
    else:
        values |= {"host": server.host, "port": server.port}
    return PostgresSource(PostgresConfig(**(values | options)), site="workbench")


def manifest_of(facts: Facts, database: str, data: bytes) -> Manifest:
    stored = StoredFile(file="x", size=0, sha256="0" * 64, plain_size=len(data), cipher=Cipher(key_id="main"))
    return Manifest.model_validate_json(
        Manifest(
            site="workbench",
            source="postgres",
            kind="postgres",
            tier="manual",
            database=database,
            file="x_20250101_000000.sql.gz.enc",
            started_at=now(),
            finished_at=now(),
            files=[stored],
            dump_format=facts.dump_format,
            server=facts.server,
            log=facts.log,
            rows=facts.rows,
            uncounted=facts.uncounted,
            schema_sha256=facts.schema_sha256,
            contents=facts.contents,
            warnings=facts.warnings,
        ).model_dump_json()
    )  # through JSON, as a stored one


def capture(source: PostgresSource, database: str) -> Backup:
    parts = MemoryParts()
    facts = source.capture(database, parts, silent)
    data = {role: sink.value for role, sink in parts.parts.items()}
    return Backup(manifest_of(facts, database, data["data"]), data)


@contextlib.contextmanager
def journal(directory: Path) -> Iterator[Journal]:
    one = Journal.create(directory, "postgres-restore")
    try:
        yield one
    finally:
        one.release()


def make_roles(server: DatabaseServer) -> None:
    for role in ROLES:
        quoted = '"' + role.replace('"', '""') + '"'
        server.sql(f"DO $$ BEGIN CREATE ROLE {quoted}; EXCEPTION WHEN duplicate_object THEN NULL; END $$")


@contextlib.contextmanager
def hard_database(server: DatabaseServer) -> Iterator[str]:
    """A database with all that breaks dumps, and with properties of its own. Dropped with all its copies."""
    make_roles(server)
    with server.database("hard") as name:
        server.sql(HARD.read_text(), name)
        server.sql(f'''
            ALTER DATABASE {name} OWNER TO app_owner;
            ALTER DATABASE {name} SET work_mem TO '7MB';
            ALTER DATABASE {name} SET search_path TO "$user", workbench, "od""d. schéma 'q'";
            ALTER DATABASE {name} SET app.greeting TO E'it''s \\\\ fine';
            ALTER ROLE app_reader IN DATABASE {name} SET statement_timeout TO '5s';
            ALTER DATABASE {name} CONNECTION LIMIT 77;
            COMMENT ON DATABASE {name} IS 'the app''s own';
            REVOKE ALL ON DATABASE {name} FROM PUBLIC;
            GRANT CONNECT ON DATABASE {name} TO app_reader, "odd role ""x""";
            GRANT TEMPORARY ON DATABASE {name} TO analyst WITH GRANT OPTION;
        ''')
        try:
            yield name
        finally:
            drop_like(server, f"{name}_%")


def drop_like(server: DatabaseServer, pattern: str) -> None:
    for (name,) in server.sql(f"SELECT datname FROM pg_database WHERE datname LIKE '{pattern}'"):
        server.sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        server.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def unused(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(4)}"


_DEFINITIONS = (HARD.parent / "postgres_definitions.sql").read_text()

_TABLES = """
SELECT c.oid::regclass::text, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'S', 'v') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (c.relkind <> 'm' OR c.relispopulated)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.oid::regclass::text COLLATE "C"
"""

_OF_DATABASE = """
SELECT pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
  d.datconnlimit, d.datallowconn,
  (SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM unnest(d.datacl) x), shobj_description(d.oid, 'pg_database'),
  (SELECT string_agg(coalesce(setrole::regrole::text, '') || ':' || setconfig::text, ' ' ORDER BY setrole::text)
   FROM pg_db_role_setting WHERE setdatabase = d.oid)
FROM pg_database d WHERE d.datname = '{0}'
"""


def fingerprint(server: DatabaseServer, database: str) -> dict[str, Any]:
    """Every row and definition of a database, by plain queries of a stock client."""
    path = "SET search_path = pg_catalog;"
    found: dict[str, Any] = {"definitions": server.sql(path + _DEFINITIONS, database)}
    queries = []
    for name, kind in server.sql(path + _TABLES, database):
        quoted = "'" + str(name).replace("'", "''") + "'"
        if kind == "S":
            queries.append(f"SELECT {quoted}, last_value::text, is_called::text FROM {name};")
        else:
            queries.append(
                f"SELECT {quoted}, count(*)::text, md5(string_agg(t::text, E'\\n' ORDER BY t::text "
                f'COLLATE "C")) FROM ONLY {name} t;'
            )
    found |= {str(row[0]): row[1:] for row in server.sql("\n".join([path, *queries]), database)}
    return found


def properties(server: DatabaseServer, database: str) -> list[Any]:
    """Owner, rights and settings of a database."""
    return server.sql(_OF_DATABASE.format(database.replace("'", "''")))
