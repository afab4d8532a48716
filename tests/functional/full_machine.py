"""A machine with everything at once: PostgreSQL, MariaDB, an S3 server and n8n in containers, volumes, config files.

The volumes of the servers are in no backup: databases, buckets and n8n come back through their own doors.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pymysql
from botocore.exceptions import BotoCoreError, ClientError

from deployments.embedded import free_port
from tests.functional.bucket_machine import OBJECTS, holds, put
from tests.functional.test_n8n import SECRET, calling, says, webhook
from tests.functional.whole_machine import APP_PASSWORD, PASSWORD, PROJECT, Machine
from tests.servers.docker import Container, DockerEngine
from tests.servers.n8n import N8n, installed
from tests.servers.s3 import S3Server

ORDERS = 2500
_HERE = (Path("/usr"), Path("/lib"), Path("/lib64"))
"""This host's own programs and libraries, which the containers of the S3 server and of n8n are given."""
_BUCKETS = """\
buckets:
  endpoint_url: {endpoint}
  access_key: ${{S3_KEY}}
  secret_key: ${{S3_SECRET}}
  addressing: path
  service: s3
  docker_host: {docker}
  buckets: [{objects}]"""
_MORE = """\
  - {{name: webhook, url: "{n8n}/webhook/call", contains: from the sub-workflow}}
mysql:
  service: shop
  docker_host: {docker}
  password: ${{SHOP_PASSWORD}}
  databases: [shop]
  point_in_time: false
n8n:
  url: {n8n}
  api_key: ${{N8N_API_KEY}}
  service: n8n
  command: {program}
  docker_host: {docker}
"""


@dataclass
class FullMachine(Machine):
    """``Machine`` and MariaDB, an S3 server of its own, n8n.

    Attributes:
        objects: The S3 server, which has the application's bucket.
    """

    volumes: tuple[str, ...] = ("notebooks", "uploads", "data", "shop", "s3", "n8n")
    n8n: N8n = field(default_factory=lambda: N8n(Path("/n8n-home")))
    objects: S3Server = field(
        default_factory=lambda: S3Server(f"http://127.0.0.1:{free_port()}", "vault", "FAKE-key-of-s3", "FAKE-secret-s3")
    )

    def secrets(self) -> dict[str, str]:
        return {
            **super().secrets(), "SHOP_PASSWORD": PASSWORD, "N8N_API_KEY": self.n8n.api_key,
            "S3_KEY": self.objects.access_key, "S3_SECRET": self.objects.secret_key,
        }  # fmt: skip

    def buckets_section(self) -> str:
        return _BUCKETS.format(endpoint=self.objects.endpoint, docker=self.docker, objects=self.truth["objects of"])

    def more_sections(self) -> str:
        return _MORE.format(n8n=self.n8n.url, docker=self.docker, program=installed() / ".bin/n8n")

    def _start_postgres(self, engine: DockerEngine) -> None:
        """In an image that has all it needs, as the official one: a drill makes a scratch server of it."""
        engine.service(
            PROJECT, "db", "postgres17", environment={"POSTGRES_PASSWORD": PASSWORD},
            command=["-c", "shared_buffers=32MB", "-c", "fsync=off"],
            volumes={f"{PROJECT}_data": {"bind": "/var/lib/postgresql/data", "mode": "rw"}},
        )  # fmt: skip

    def _start(self, engine: DockerEngine) -> None:
        super()._start(engine)
        engine.service(
            PROJECT, "shop", "mariadb", environment={"MARIADB_ROOT_PASSWORD": PASSWORD},
            command=["--log-bin=mysql-bin", "--server-id=1", "--innodb-buffer-pool-size=32M"],
            volumes={f"{PROJECT}_shop": {"bind": "/var/lib/mysql", "mode": "rw"}},
        )  # fmt: skip
        python = [str(Path(sys.executable).resolve()), "-m", "moto.server", "-H", "0.0.0.0", "-p", "5000"]
        packages = next(each for each in sys.path if each.endswith("site-packages"))
        self._serve(
            engine, "s3", self.objects.endpoint, 5000, python, {"PYTHONPATH": packages},
            (Path(sys.prefix), Path(sys.base_prefix)),
        )  # fmt: skip
        modules = installed()
        environment = {**self.n8n.environment, "N8N_ENCRYPTION_KEY": self.n8n.key, "N8N_SECURE_COOKIE": "false"}
        self._serve(engine, "n8n", self.n8n.url, 5678, [str(modules / ".bin/n8n"), "start"], environment, (modules,))
        _until(lambda: httpx.get(f"{self.n8n.url}/healthz/readiness", timeout=10).status_code == 200)
        _until(lambda: self.objects.client().list_buckets()["Buckets"] is not None)
        _until(lambda: self.shop(engine, "SELECT 1"))

    def _serve(
        self, engine: DockerEngine, service: str, url: str, inside: int, command: list[str],
        environment: dict[str, str], mounted: tuple[Path, ...],
    ) -> None:  # fmt: skip
        """A server that is published on loopback, with a volume of its own, as compose would start it."""
        binds = {str(path): {"bind": str(path), "mode": "ro"} for path in (*_HERE, *mounted)}
        binds[f"{PROJECT}_{service}"] = {"bind": f"/{service}-home", "mode": "rw"}
        labels = {"com.docker.compose.project": PROJECT, "com.docker.compose.oneoff": "False"}
        engine.client().containers.run(
            "backup-flows/busybox:1", command, name=f"{PROJECT}-{service}-1", environment=environment,
            labels={**labels, "com.docker.compose.service": service}, network=f"{PROJECT}_default", detach=True,
            ports={f"{inside}/tcp": ("127.0.0.1", int(url.rpartition(":")[2]))}, volumes=binds,
        )  # fmt: skip

    def make_data(self, engine: DockerEngine) -> None:
        super().make_data(engine)
        self.shop(
            engine, "CREATE DATABASE shop", f"CREATE USER web@'%' IDENTIFIED BY '{APP_PASSWORD}'",
            "CREATE TABLE shop.orders (id int PRIMARY KEY, note varchar(40)) ENGINE=InnoDB",
            f"INSERT INTO shop.orders SELECT seq, CONCAT('order ', seq) FROM shop.seq_1_to_{ORDERS}",
            "CREATE VIEW shop.some AS SELECT id FROM shop.orders WHERE id < 10", "GRANT SELECT ON shop.* TO web@'%'",
        )  # fmt: skip
        self._make_workflows()

    def _make_workflows(self) -> None:
        n8n = self.n8n
        n8n.api_key = n8n.new_api_key(
            ["workflow:list", "workflow:read", "workflow:create", "workflow:activate", "tag:list", "tag:create",
             "workflowTags:update", "credential:create"]
        )  # fmt: skip
        sub, caller = calling(n8n)
        idle = n8n.api("POST", "/workflows", webhook("idle", "idle", [says("never")]))["id"]
        tag = n8n.api("POST", "/tags", {"name": "production"})["id"]
        for each in (caller, idle):
            n8n.api("PUT", f"/workflows/{each}/tags", [{"id": tag}])
        for kind, data in (("httpHeaderAuth", {"name": "X-Token", "value": SECRET}),
                           ("httpBasicAuth", {"user": "me", "password": SECRET})):  # fmt: skip
            n8n.api("POST", "/credentials", {"name": kind, "type": kind, "data": data})
        for each in (sub, caller):
            n8n.api("POST", f"/workflows/{each}/activate")

    def shop(
        self, engine: DockerEngine, *statements: str, user: str = "root", password: str = PASSWORD
    ) -> list[tuple[Any, ...]]:
        """What MariaDB answers to the last of these."""
        host = engine.address(engine.client().containers.get(f"{PROJECT}-shop-1"))
        session = pymysql.connect(host=host, user=user, password=password, autocommit=True)
        with contextlib.closing(session), session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def put_objects(self) -> None:
        bucket, client = self.truth["objects of"], self.objects.client()
        client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        rules = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://shop.example.org"]}]
        client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
        policy = {"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*",
        }]}  # fmt: skip
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
        put(self.objects, bucket, OBJECTS)

    def look_at_objects(self) -> Any:
        bucket, client = self.truth["objects of"], self.objects.client()
        return {
            "objects": holds(self.objects, bucket),
            "versioning": client.get_bucket_versioning(Bucket=bucket)["Status"],
            "cors": client.get_bucket_cors(Bucket=bucket)["CORSRules"],
            "policy": json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"]),
        }

    def lose_objects(self) -> None:
        """They go with the engine."""

    def look(self, engine: DockerEngine) -> dict[str, Any]:
        """All that the machine is, n8n as its own command tells it, credentials opened."""
        web = {"user": "web", "password": APP_PASSWORD}
        workflows = self._exported(engine, "workflow")
        own = ("id", "name", "nodes", "connections", "settings", "active")
        return {
            **super().look(engine),
            "orders": self.shop(engine, "SELECT id, note FROM shop.orders ORDER BY id", **web),
            "view": self.shop(engine, "SELECT count(*) FROM shop.some", **web),
            "workflows": sorted(
                ({name: each[name] for name in own} | {"tags": [tag["name"] for tag in each.get("tags") or []]}
                 for each in workflows), key=lambda each: str(each["name"]),
            ),
            "credentials": sorted(
                [each[name] for name in ("id", "name", "type", "data")]
                for each in self._exported(engine, "credentials", "--decrypted")
            ),
            "webhook": self.n8n.webhook("call").json(),
        }  # fmt: skip

    def _exported(self, engine: DockerEngine, what: str, *options: str) -> list[dict[str, Any]]:
        """By n8n's own command in its container."""
        script = '"$0" "export:$1" --all --output=/tmp/export $2 >/dev/null && cat /tmp/export && rm /tmp/export'
        container: Container = engine.client().containers.get(f"{PROJECT}-n8n-1")
        done = container.exec_run(["sh", "-c", script, str(installed() / ".bin/n8n"), what, *options])
        assert done.exit_code == 0, done.output
        found: list[dict[str, Any]] = json.loads(done.output)
        return found


def _until(answers: Any) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + 300
    while True:
        with contextlib.suppress(httpx.HTTPError, BotoCoreError, ClientError, pymysql.MySQLError, StopIteration):
            if answers():
                return
        assert time.monotonic() < deadline, "it never answered"
        time.sleep(0.3)
