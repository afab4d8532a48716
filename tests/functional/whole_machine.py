"""A whole machine for the tests: a private Docker engine with a compose project, config files, and a bucket elsewhere.

It is built, backed up, and then lost: the engine's data, every file and the vault's local root. What is left is the
bucket and the key.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pymysql

from deployments.embedded import free_port
from tests.functional.config_machine import facts as config_facts
from tests.functional.config_machine import make_tree
from tests.functional.vault_helpers import PASSPHRASE
from tests.functional.volume_machine import facts as volume_facts
from tests.functional.volume_machine import fill
from tests.servers import rundir
from tests.servers.docker import Container, DockerEngine, private_engine
from tests.servers.images import ENTRYPOINTS
from tests.servers.s3 import S3Server

ROOT = Path(__file__).parents[2]
PROJECT = "bench"
PASSWORD = "FAKE-server-password-0123456789"
APP_PASSWORD = "FAKE-app-password-0123456789"
ROWS = 3000
PAGE = "the application answers\n"
OBJECTS = {"a/one": b"1", "Zo\u00eb \U0001f642/two words": b"2" * 70_000, "empty": b""}
_TEXT = """\
site: bench
vault:
  root: {root}/vault
  keys: {{current: main, main: "${{BACKUP_ENCRYPTION_KEY}}"}}
  path: "{{site}}/{{source}}/{{tier}}"
  replicas:
    - name: spaces
      bucket: ${{DO_SPACES_BUCKET}}
      path: "kept/{{yyyy}}/{{mm}}/{{dd}}"
      endpoint_url: {endpoint}
      region: ${{DO_SPACES_REGION}}
      access_key: ${{DO_SPACES_KEY}}
      secret_key: ${{DO_SPACES_SECRET}}
      addressing: path
{server}
volumes:
  volumes: [notebooks, uploads]
  stop_seconds: 1
  docker_host: {docker}
config:
  paths: [{root}/machine/etc, {root}/machine/opt]
  exclude: ["*.log", "{root}/machine/etc/nginx/cache"]
images:
  docker_host: {docker}
{buckets}
health:
  - {{name: app, url: "http://127.0.0.1:{port}/page", contains: answers}}
{more}"""
_BUCKETS = """\
buckets:
  endpoint_url: {endpoint}
  access_key: ${{DO_SPACES_KEY}}
  secret_key: ${{DO_SPACES_SECRET}}
  addressing: path
  tags: false
  buckets: [{objects}]"""
_SERVER = """\
{kind}:
  service: db
  docker_host: {docker}
  password: ${{DB_PASSWORD}}
  databases: [app]
  point_in_time: {logs}"""


@dataclass
class Machine:
    """The machine, and what it was.

    Attributes:
        kind: ``postgres`` or ``mysql`` (a MariaDB).
        truth: What stock tools said of it before it was lost.
    """

    root: Path
    home: Path
    bucket: S3Server
    kind: str = "postgres"
    logs: bool = False
    truth: dict[str, Any] = field(default_factory=dict)
    port: int = 0
    volumes: tuple[str, ...] = ("notebooks", "uploads", "data")

    @property
    def tree(self) -> Path:
        return self.root / "machine"

    @property
    def docker(self) -> str:
        return f"unix://{self.home}/docker.sock"

    @property
    def file(self) -> Path:
        return self.root / "bench.yaml"

    @property
    def state(self) -> Path:
        return self.root / "vault/.backup-flows/bench/restore-site.json"

    def build(self, engine: DockerEngine) -> None:
        """Files, volumes, containers and data."""
        self.port = free_port()
        make_tree(self.tree)
        client = engine.client()
        labels = {"com.docker.compose.project": PROJECT}
        for name in self.volumes:
            client.volumes.create(f"{PROJECT}_{name}", labels={**labels, "com.docker.compose.volume": name})
        fill(self.volume(engine, "notebooks"))
        (self.volume(engine, "uploads") / "page").write_text(PAGE)
        self._start(engine)
        self.wait_for_server(engine)
        self.make_data(engine)
        self.put_objects()
        (self.tree / "opt/app/.env").write_text("".join(f"{name}={value}\n" for name, value in self.secrets().items()))
        server = _SERVER.format(kind=self.kind, docker=self.docker, logs=str(self.logs).lower())
        self.file.write_text(
            _TEXT.format(
                root=self.root,
                endpoint=self.bucket.endpoint,
                docker=self.docker,
                port=self.port,
                server=server,
                buckets=self.buckets_section(),
                more=self.more_sections(),
            )
        )

    def secrets(self) -> dict[str, str]:
        """What the site file refers to and the application's own ``.env`` has."""
        return {"DB_PASSWORD": PASSWORD}

    def buckets_section(self) -> str:
        return _BUCKETS.format(endpoint=self.bucket.endpoint, objects=self.truth["objects of"])

    def more_sections(self) -> str:
        """Of the site file, after the health checks."""
        return ""

    def put_objects(self) -> None:
        """Into the application's bucket."""
        for key, content in OBJECTS.items():
            self.bucket.client().put_object(
                Bucket=self.truth["objects of"], Key=key, Body=content, ContentType="text/x-test"
            )

    def look_at_objects(self) -> Any:
        return {each["Key"]: self._object(each["Key"]) for each in self._objects()}

    def lose_objects(self) -> None:
        for each in self._objects():
            self.bucket.client().delete_object(Bucket=self.truth["objects of"], Key=each["Key"])
        self.bucket.client().delete_bucket(Bucket=self.truth["objects of"])

    def volume(self, engine: DockerEngine, name: str) -> Path:
        return Path(engine.client().volumes.get(f"{PROJECT}_{name}").attrs["Mountpoint"])

    def _start(self, engine: DockerEngine) -> None:
        client = engine.client()
        engine.load("busybox")
        if self.kind == "postgres":
            self._start_postgres(engine)
        else:
            command = ["--log-bin=mysql-bin", "--server-id=1", "--binlog-format=ROW", "--innodb-buffer-pool-size=32M"]
            engine.service(
                PROJECT, "db", "mariadb", environment={"MARIADB_ROOT_PASSWORD": PASSWORD}, command=command,
                volumes={f"{PROJECT}_data": {"bind": "/var/lib/mysql", "mode": "rw"}},
            )  # fmt: skip
        context = io.BytesIO(b"FROM backup-flows/busybox:1\nRUN echo built here > /made\n")
        client.images.build(fileobj=context, tag=f"{PROJECT}/app:1", rm=True)
        labels = {"com.docker.compose.project": PROJECT, "com.docker.compose.oneoff": "False"}
        client.containers.run(
            f"{PROJECT}/app:1", ["httpd", "-f", "-p", f"127.0.0.1:{self.port}", "-h", "/data"],
            name=f"{PROJECT}-app-1", labels={**labels, "com.docker.compose.service": "app"}, network_mode="host",
            volumes={f"{PROJECT}_uploads": {"bind": "/data", "mode": "rw"}}, detach=True,
            restart_policy={"Name": "unless-stopped"},
        )  # fmt: skip
        client.containers.create(
            f"{PROJECT}/app:1", ["true"], name=f"{PROJECT}-job-1", network=f"{PROJECT}_default",
            labels={**labels, "com.docker.compose.service": "job"},
        )  # fmt: skip

    def _start_postgres(self, engine: DockerEngine) -> None:
        _postgres(engine)

    def server(self, engine: DockerEngine) -> Container:
        return engine.client().containers.get(f"{PROJECT}-db-1")

    def connect(self, engine: DockerEngine, user: str = "", password: str = PASSWORD, database: str = "app") -> Any:
        """A session by the stock driver, as the administrator or somebody else."""
        host = engine.address(self.server(engine))
        if self.kind == "postgres":
            return psycopg.connect(
                host=host, user=user or "postgres", password=password, dbname=database, autocommit=True
            )
        return pymysql.connect(
            host=host, user=user or "root", password=password, database=database or None, autocommit=True
        )

    def wait_for_server(self, engine: DockerEngine) -> None:
        deadline = time.monotonic() + 180
        while True:
            try:
                self.connect(engine, database="postgres" if self.kind == "postgres" else "").close()
                return
            except (psycopg.Error, pymysql.MySQLError, StopIteration):
                container = self.server(engine)
                assert container.status == "running" and time.monotonic() < deadline, container.logs(tail=20)
                time.sleep(0.2)

    def sql(self, engine: DockerEngine, *statements: str, database: str = "app") -> list[tuple[Any, ...]]:
        with contextlib.closing(self.connect(engine, database=database)) as session, session.cursor() as cursor:
            rows: list[tuple[Any, ...]] = []
            for statement in statements:
                cursor.execute(statement)
                rows = list(cursor.fetchall()) if cursor.description else []
            return rows

    def make_data(self, engine: DockerEngine) -> None:
        if self.kind == "postgres":
            self.sql(
                engine, "CREATE DATABASE app", f"CREATE ROLE web LOGIN PASSWORD '{APP_PASSWORD}'", database="postgres"
            )
            self.sql(
                engine, "CREATE SCHEMA bronze", "CREATE TABLE bronze.users (id int PRIMARY KEY, name text)",
                f"INSERT INTO bronze.users SELECT n, 'user ' || n FROM generate_series(1, {ROWS}) n",
                "GRANT USAGE ON SCHEMA bronze TO web", "GRANT SELECT ON bronze.users TO web",
            )  # fmt: skip
            return
        self.sql(engine, "CREATE DATABASE app", f"CREATE USER web@'%' IDENTIFIED BY '{APP_PASSWORD}'", database="")
        self.sql(
            engine, "CREATE TABLE users (id int PRIMARY KEY, name varchar(40)) ENGINE=InnoDB",
            f"INSERT INTO users SELECT seq, CONCAT('user ', seq) FROM seq_1_to_{ROWS}",
            "GRANT SELECT ON app.users TO web@'%'",
        )  # fmt: skip

    def look(self, engine: DockerEngine) -> dict[str, Any]:
        """All that the machine is, as stock tools and drivers tell it."""
        table = "bronze.users" if self.kind == "postgres" else "users"
        with contextlib.closing(self.connect(engine, "web", APP_PASSWORD)) as session, session.cursor() as cursor:
            cursor.execute(f"SELECT id, name FROM {table} ORDER BY id")
            rows = list(cursor.fetchall())
        inside = {
            str(each.name): {
                "image": each.attrs["Image"], "labels": each.labels, "status": each.status,
                "command": each.attrs["Config"]["Cmd"], "environment": sorted(each.attrs["Config"]["Env"]),
                "restart": each.attrs["HostConfig"]["RestartPolicy"]["Name"],
                "mounts": sorted((at.get("Name") or at["Source"], at["Destination"]) for at in each.attrs["Mounts"]),
            }
            for each in engine.client().containers.list(all=True)
        }  # fmt: skip
        return {
            "notebooks": [each for each in volume_facts(self.volume(engine, "notebooks")) if "\ts\t" not in each],
            "uploads": volume_facts(self.volume(engine, "uploads")),
            "labels": {each.name: each.attrs["Labels"] for each in engine.client().volumes.list()},
            "files": config_facts(self.tree),
            "rows as the application reads them": rows,
            "containers": inside,
            "objects": self.look_at_objects(),
        }

    def _objects(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.bucket.client().list_objects_v2(Bucket=self.truth["objects of"])["Contents"]
        return found

    def _object(self, key: str) -> tuple[bytes, str]:
        got = self.bucket.client().get_object(Bucket=self.truth["objects of"], Key=key)
        return got["Body"].read(), got["ContentType"]

    def environment(self, *, lost: bool, **more: str) -> dict[str, str]:
        """That of the machine; or what a person has on the day it is lost: endpoint, credentials, key."""
        bucket = self.bucket
        given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TZ": "UTC", "BACKUP_ENCRYPTION_KEY": PASSPHRASE}
        prefix = "BACKUPS" if lost else "DO_SPACES"
        names = ("BUCKET", "REGION", "ACCESS_KEY", "SECRET_KEY") if lost else ("BUCKET", "REGION", "KEY", "SECRET")
        values = (self.truth["bucket"], bucket.region, bucket.access_key, bucket.secret_key)
        given |= {f"{prefix}_{name}": value for name, value in zip(names, values, strict=True)}
        given |= {"BACKUPS_ENDPOINT": bucket.endpoint} if lost else self.secrets()
        return given | more

    def start(self, *arguments: str, lost: bool = True, **env: str) -> subprocess.Popen[str]:
        where = self.root / "person"
        where.mkdir(exist_ok=True)
        more = ["--addressing", "path"] if lost and arguments[0] in ("restore-site", "recover-site-file") else []
        return subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", *arguments, *more, "--json"], cwd=where, text=True,
            env=self.environment(lost=lost, **env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def backups(self, *arguments: str, lost: bool = True, code: int = 0, **env: str) -> dict[str, Any]:
        """Run the program as a person would; what it prints."""
        process = self.start(*arguments, lost=lost, **env)
        out, err = process.communicate()
        assert process.returncode == code, (out, err)
        document: dict[str, Any] = json.loads(out)
        return document

    def lose(self) -> None:
        """Everything that stands on this host: engine, files, vault, site file; and the bucket of the application."""
        self.lose_objects()
        rundir.unmount_below(self.home)
        shutil.rmtree(self.home)
        shutil.rmtree(self.tree)
        shutil.rmtree(self.root / "vault")
        self.file.unlink()


def _postgres(engine: DockerEngine) -> None:
    """The service db with this host's own PostgreSQL, which is bound into a container: its image stays small."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    lines = [
        "FROM backup-flows/busybox:1", "COPY entrypoint.sh /entrypoint.sh", "RUN ln -s /usr/bin/bash /bin/bash",
        "ENV PGDATA=/data/of-postgres LANG=C.UTF-8",
        f"ENV PATH={programs}:/usr/bin:/bin", 'ENTRYPOINT ["/usr/bin/bash", "/entrypoint.sh"]', 'CMD ["postgres"]',
    ]  # fmt: skip
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        files = {"Dockerfile": "\n".join(lines).encode(), "entrypoint.sh": (ENTRYPOINTS / "postgres.sh").read_bytes()}
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    context.seek(0)
    client = engine.client()
    client.images.build(fileobj=context, custom_context=True, tag=f"{PROJECT}/db:1", rm=True)
    labels = {"com.docker.compose.project": PROJECT}
    client.networks.create(f"{PROJECT}_default", labels={**labels, "com.docker.compose.network": "default"})
    binds = {"/usr": "/usr", "/usr/lib": "/lib", "/usr/lib64": "/lib64", "/etc/passwd": "/etc/passwd"}
    binds["/etc/group"] = "/etc/group"
    mounted = {source: {"bind": target, "mode": "ro"} for source, target in binds.items()}
    client.containers.run(
        f"{PROJECT}/db:1", ["-c", "shared_buffers=32MB", "-c", "fsync=off", "-c", "unix_socket_directories=/tmp"],
        name=f"{PROJECT}-db-1", environment={"POSTGRES_PASSWORD": PASSWORD}, network=f"{PROJECT}_default",
        labels={**labels, "com.docker.compose.service": "db", "com.docker.compose.oneoff": "False"}, detach=True,
        volumes={**mounted, f"{PROJECT}_data": {"bind": "/data", "mode": "rw"}},
    )  # fmt: skip


@contextlib.contextmanager
def lost_machine(
    root: Path, home: Path, bucket: S3Server, kind: str = "postgres", *, logs: bool = False, before_loss: Any = None
) -> Iterator[tuple[Machine, DockerEngine]]:
    """A machine that was backed up and lost, and a fresh engine where the old one was.

    Args:
        before_loss: Called with machine and engine after the backup.
    """
    machine = Machine(root, home, bucket, kind, logs)
    machine.truth["bucket"] = bucket.new_bucket()
    machine.truth["objects of"] = bucket.new_bucket()
    with private_engine(home) as engine:
        machine.build(engine)
        machine.truth["point"] = machine.backups("backup", "-f", str(machine.file), "--tier", "daily", lost=False)[
            "recovery_point"
        ]
        machine.truth |= machine.look(engine)
        if before_loss is not None:
            before_loss(machine, engine)
    machine.lose()
    with private_engine(home) as fresh:
        yield machine, fresh
