"""What the tests of drills share: a machine with two databases and some files, all backed up, and backups that were
sealed anew after something was taken out of them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.backup import backup_one
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.manifest import Manifest
from engine.scratch import leftovers
from engine.shipping import base, ship
from engine.site import Site, Target
from engine.source import Facts
from tests.servers.databases import DatabaseServer
from tests.servers.docker import DockerEngine

KEY = "fake-passphrase-for-tests-" + "x" * 20
SHOP = r"""
CREATE TABLE orders (id INT PRIMARY KEY, note VARCHAR(80), amount DECIMAL(9,2), ratio FLOAT, at TIMESTAMP(6) NULL,
  doc JSON, raw BLOB) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
INSERT INTO orders SELECT seq, IF(seq % 5, CONCAT('it''s "', seq, '"),(\\ 🙂\n'), NULL), seq / 7, SQRT(seq),
  '2026-01-01 00:00:00.123456', '{"a": [1, 2]}', UNHEX(MD5(seq)) FROM seq_1_to_700;
CREATE TABLE keyless (a INT, b VARCHAR(20));
INSERT INTO keyless VALUES (1, 'same'), (1, 'same'), (2, NULL);
CREATE TABLE `odd ``name'` (id INT PRIMARY KEY);
CREATE TABLE empty_one (id INT PRIMARY KEY);
CREATE VIEW totals AS SELECT COUNT(*) AS n FROM orders;
CREATE TRIGGER o_new BEFORE INSERT ON orders FOR EACH ROW SET NEW.ratio = 1;
"""
PLATFORM = r"""
CREATE SCHEMA bronze;
CREATE TABLE bronze.events (id int PRIMARY KEY, body text, at timestamptz, tags text[], raw bytea, ratio float8);
INSERT INTO bronze.events SELECT n, 'event ' || n || E'\t\\ \n🙂', '2026-01-01 00:00+02', ARRAY['a', 'b ' || n],
  decode(md5(n::text), 'hex'), sqrt(n) FROM generate_series(1, 700) n;
CREATE TABLE keyless (a int, b interval); INSERT INTO keyless VALUES (1, '1 day 2 h'), (1, '1 day 2 h'), (2, NULL);
CREATE TABLE parts (day date, n int) PARTITION BY RANGE (day);
CREATE TABLE parts_one PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO parts VALUES ('2026-03-01', 1), ('2026-04-01', 2);
CREATE TABLE "odd. ""name" (id int PRIMARY KEY);
CREATE TABLE notes (id serial PRIMARY KEY, body text); INSERT INTO notes (body) VALUES ('one');
CREATE FUNCTION scribble() RETURNS bigint LANGUAGE sql AS $$ INSERT INTO notes (body) VALUES ('x') RETURNING 1 $$;
"""


class Machine:
    """Two databases and some files, and the site that backs them up."""

    def __init__(self, root: Path, mariadb: DatabaseServer, postgres: DatabaseServer) -> None:
        self.root, self.mariadb, self.postgres = root, mariadb, postgres
        self.vault, self.files = root / "vault", root / "etc"
        self.shop, self.platform = (f"{kind}_{secrets.token_hex(4)}" for kind in ("shop", "platform"))
        mariadb.sql(f"CREATE DATABASE {self.shop}")
        mariadb.sql(SHOP, self.shop)
        postgres.sql(f"CREATE DATABASE {self.platform}")
        postgres.sql(PLATFORM, self.platform)
        (self.files / "nginx").mkdir(parents=True)
        (self.files / "nginx/app.conf").write_text("listen 80;\n")
        (self.files / ".env").write_text("PASSWORD=fake\n")
        (self.files / "link").symlink_to("nginx/app.conf")

    def document(self, **more: Any) -> dict[str, Any]:
        """The site as plain data."""
        return {
            "site": "drilled",
            "vault": {"root": str(self.vault), "keys": {"current": "main", "keys": {"main": KEY}}},
            "mysql": self.server(self.mariadb, self.shop),
            "postgres": self.server(self.postgres, self.platform),
            "config": {"paths": [str(self.files)]},
            **more,
        }

    @staticmethod
    def server(server: DatabaseServer, *databases: str) -> dict[str, Any]:
        """A server with these databases."""
        where = {"host": server.host, "port": server.port, "user": server.user, "password": server.password}
        return {**where, "databases": list(databases)}

    def open(self, **more: Any) -> Site:
        """The site, with other settings where they are given."""
        return Site(SiteConfig.model_validate(self.document(**more)))

    def back_up(self) -> None:
        """Everything once, then logs with some commits in them."""
        with self.open() as site:
            for target in (
                Target("mysql", self.shop),
                Target("postgres", self.platform),
                Target("config", "config"),
            ):
                backup_one(site, target, tier="daily")
            base(site, "postgres")
            for number in range(3):
                time.sleep(0.7)
                self.mariadb.sql(f"INSERT INTO keyless VALUES ({number}, 'logged')", self.shop)
                self.postgres.sql(f"INSERT INTO keyless VALUES ({number}, NULL)", self.platform)
            backup_one(site, Target("mysql", self.shop), tier="daily")  # to which logs lead from the first
            ship(site, "mysql")
            ship(site, "postgres")

    def drop(self) -> None:
        """The databases go."""
        self.mariadb.sql(f"DROP DATABASE {self.shop}")
        self.postgres.sql(f"DROP DATABASE {self.platform} WITH (FORCE)")


def boxed(server: DatabaseServer, name: str, root: Path, **more: Any) -> SiteConfig:
    """A site of one server in a container, with one database."""
    kind = "postgres" if server.flavour == "postgres" else "mysql"
    where = {"container": server.container, "docker_host": server.docker_host, "databases": [name]}
    login = {"user": server.user, "password": server.password}
    vault = {"root": str(root / "vault"), "keys": {"current": "main", "keys": {"main": KEY}}}
    return SiteConfig.model_validate({"site": "boxed", "vault": vault, kind: where | login | more})


def sealed_anew(
    site: Site,
    of: Target,
    database: str,
    change: Callable[[bytes], bytes] = lambda data: data,
    *,
    version: str = "",
    **rows: int,
) -> tuple[Entry, Manifest]:
    """A backup of ``database`` with the manifest of another one's, properly signed, and its dump changed; and other
    row counts and another version of the server, where they are given."""
    entry, manifest = site.vault.catalog().find(of.source, of.database)
    data = b"".join(site.vault.read_part(entry, manifest))
    with site.vault.begin(source=of.source, kind=manifest.kind, tier="manual", database=database, ext="sql") as writer:
        writer.data().write(change(data))
        for part in manifest.files[1:]:
            writer.companion(part.role).write(b"".join(site.vault.read_part(entry, manifest, part.role)))
        assert manifest.server is not None
        facts = Facts(
            server=manifest.server.model_copy(update={"version": version or manifest.server.version}),
            dump_format=manifest.dump_format,
            log=manifest.log,
            rows=manifest.rows | rows,
            uncounted=manifest.uncounted,
            schema_sha256=manifest.schema_sha256,
            contents=manifest.contents,
        )
        return writer.publish(facts)


def orders_for(site: SiteConfig, source: str) -> bytes:
    """For ``dying_drill``."""
    document = site.model_dump(mode="json")
    document["vault"]["keys"]["keys"] = {name: key.get_secret_value() for name, key in site.vault.keys.keys.items()}
    return json.dumps({"site": document, "source": source}).encode()


def scratch_left(site: Site) -> list[str]:
    """Journals of scratch places that are on the machine."""
    return [str(path) for path in leftovers.journals(site.vault.state).glob("*")]


def everything(engine: DockerEngine) -> list[str]:
    """All containers, volumes and networks of an engine."""
    client = engine.client()
    return sorted(
        [each.name for each in client.containers.list(all=True)]
        + [each.name for each in client.volumes.list()]
        + [each.name for each in client.networks.list()]
    )
