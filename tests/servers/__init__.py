"""Real servers for the tests: private, on free ports, started once a session, stopped always.

Fixtures (registered in tests/conftest.py; ask for them by name, all session-scoped)::

    mariadb              -> DatabaseServer   MariaDB 10.11 on this host, binlog on, ROW format
    postgres15           -> DatabaseServer   PostgreSQL 15 on this host, wal_level=replica
    mariadb_factory      -> Callable[..., DatabaseServer]   another one: mariadb_factory("--gtid-domain-id=2")
    postgres_factory     -> Callable[..., DatabaseServer]   another one: postgres_factory("wal_level=logical")
    dockerd              -> DockerEngine     a private Docker engine
    mysql9_container     -> DatabaseServer   MySQL >= 8.4, compose project "workset", service "mysql"
    mariadb_container    -> DatabaseServer   MariaDB 10.11, compose project "shop", service "mariadb"
    postgres17_container -> DatabaseServer   PostgreSQL 17, container "workbench-postgres",
                                             compose project "workbench", service "postgres"
    moto_s3              -> S3Server         takes any key; versioning, storage classes, If-None-Match
    rclone_s3            -> S3Server         checks signatures; no conditional put, no versioning

``DatabaseServer`` (frozen)::

    flavour: "mariadb" | "mysql" | "postgres"
    version: str                 # full, as the server says: "10.11.14", "9.7.0", "15.13"
    host: str; port: int         # TCP; for a container its bridge address, reachable from here, not published
    socket: Path | None          # the socket FILE (MariaDB) or socket DIRECTORY (PostgreSQL); None for containers
    user: str; password: str     # the superuser: root or postgres
    container: str               # container name, "" on this host
    project: str; service: str   # compose labels, "" on this host
    docker_host: str             # "unix:///...", "" on this host
    data_directory: Path | None; pid: int     # host servers only; None and 0 for containers

    .sql(text, database=None) -> list[tuple[str | None, ...]]
        Runs any number of statements with a stock client (mariadb, psql, or the container's own
        client by docker exec). Values come back as text, SQL NULL as None. Raises SqlError.
    .connect(database=None) -> pymysql.Connection | psycopg.Connection    # over TCP, autocommit
    .database(prefix="t") -> context manager giving the name of a new empty database, dropped after
    .stop(); .start(); .kill()   # for fault tests: host servers on the same port, containers by the engine

``DockerEngine`` (frozen)::

    host: str                    # "unix:///..."
    .client() -> docker.DockerClient
    .load(recipe) -> str         # image tag; recipe is one of tests.servers.images.RECIPES: "busybox",
                                 # "mysql", "mariadb", "postgres17"
    .service(project, service, recipe, *, name=None, environment=None, command=None, volumes=None)
        -> Container             # as compose would start it: labels, network <project>_default, no ports

``S3Server`` (frozen)::

    endpoint: str                # http://127.0.0.1:PORT
    bucket: str; access_key: str; secret_key: str; region: str
    .client() -> boto3 S3 client
    .new_bucket(prefix="bucket") -> str
    .root: Path | None           # rclone only: the directory whose sub-directories are the buckets

The images have what the official ones have and no more: no ``mysqlbinlog`` and no ``mariadb-binlog``,
no ``ps``; MySQL's also has no ``setsid``, ``tar`` or ``perl``. Their entry points understand
``MYSQL_ROOT_PASSWORD``, ``MARIADB_ROOT_PASSWORD``, ``POSTGRES_PASSWORD`` and the like.

    def test_a_dump_comes_back(mariadb: DatabaseServer) -> None:
        with mariadb.database() as name:
            mariadb.sql("CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (NULL)", name)
            assert mariadb.sql("SELECT a FROM t", name) == [("1",), (None,)]
"""

from __future__ import annotations

from tests.servers.databases import DatabaseServer, SqlError
from tests.servers.docker import DockerEngine
from tests.servers.s3 import S3Server

__all__ = ["DatabaseServer", "DockerEngine", "S3Server", "SqlError"]
