"""The servers that all other tests lean on start, answer, and are what their names say."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError
from docker.models.containers import Container

from tests.servers import DatabaseServer, DockerEngine, S3Server, SqlError

SERVERS = {
    "mariadb": ("mariadb", "10.11."),
    "postgres15": ("postgres", "15."),
    "mysql9_container": ("mysql", ""),
    "mariadb_container": ("mariadb", "10.11."),
    "postgres17_container": ("postgres", "17."),
}


@pytest.fixture(params=list(SERVERS))
def named(request: pytest.FixtureRequest) -> tuple[str, DatabaseServer]:
    return request.param, request.getfixturevalue(request.param)


def test_every_server_is_of_the_version_its_name_says(named: tuple[str, DatabaseServer]) -> None:
    name, server = named
    flavour, version = SERVERS[name]
    assert server.flavour == flavour
    assert server.version.startswith(version)


def test_the_mysql_container_runs_mysql_8_4_or_newer(mysql9_container: DatabaseServer) -> None:
    major, minor = mysql9_container.version.split(".")[:2]
    assert (int(major), int(minor)) >= (8, 4)
    assert "MariaDB" not in (mysql9_container.sql("SELECT VERSION()")[0][0] or "")


def test_values_come_back_from_the_stock_client_as_they_are(named: tuple[str, DatabaseServer]) -> None:
    _, server = named
    with server.database() as name:
        server.sql("CREATE TABLE t (a INT, b TEXT)", name)
        with server.connect(name) as connection:
            connection.cursor().execute("INSERT INTO t VALUES (1, %s), (2, NULL)", ("tab\t, line\n, \\n, 'é 🐘'",))
        assert server.sql("SELECT a, b FROM t ORDER BY a", name) == [("1", "tab\t, line\n, \\n, 'é 🐘'"), ("2", None)]


def test_a_refused_statement_says_why(named: tuple[str, DatabaseServer]) -> None:
    _, server = named
    with pytest.raises(SqlError, match=r"(?i)no_such_table"):
        server.sql("SELECT * FROM no_such_table", "postgres" if server.flavour == "postgres" else "mysql")


def test_a_wrong_password_is_refused_over_tcp(named: tuple[str, DatabaseServer]) -> None:
    _, server = named
    wrong = DatabaseServer(server.flavour, server.host, server.port, server.user, "fake-wrong", server.control)
    with pytest.raises(Exception, match=r"(?i)denied|authentication failed"):
        wrong.connect()


@pytest.mark.parametrize("name", ["mariadb", "mysql9_container"])
def test_the_binlog_is_on_with_whole_rows(name: str, request: pytest.FixtureRequest) -> None:
    server: DatabaseServer = request.getfixturevalue(name)
    assert server.sql("SELECT @@log_bin, @@binlog_format") == [("1", "ROW")]


@pytest.mark.parametrize("factory", ["mariadb_factory", "postgres_factory"])
def test_a_killed_server_comes_back_with_its_data(factory: str, request: pytest.FixtureRequest) -> None:
    make: Callable[..., DatabaseServer] = request.getfixturevalue(factory)
    server = make()
    with server.database() as name:
        server.sql("CREATE TABLE t (a INT); INSERT INTO t VALUES (7)", name)
        server.kill()
        assert server.pid == 0
        server.start()
        assert server.sql("SELECT a FROM t", name) == [("7",)]
    server.stop()


@pytest.mark.parametrize("name", ["mysql9_container", "mariadb_container"])
def test_database_images_lack_what_the_official_ones_lack(
    name: str, dockerd: DockerEngine, request: pytest.FixtureRequest
) -> None:
    server: DatabaseServer = request.getfixturevalue(name)
    container = dockerd.client().containers.get(server.container)
    script = "for name in mysqlbinlog mariadb-binlog ps mysqldump; do command -v $name; done"
    assert container.exec_run(["sh", "-c", script]).output.decode().split() == ["/usr/bin/mysqldump"]


def test_services_are_found_by_their_compose_labels_and_publish_no_port(
    dockerd: DockerEngine, mysql9_container: DatabaseServer
) -> None:
    labels = ["com.docker.compose.project=workset", "com.docker.compose.service=mysql"]
    found: list[Container] = dockerd.client().containers.list(filters={"label": labels})
    assert [container.name for container in found] == [mysql9_container.container]
    assert not any(found[0].attrs["NetworkSettings"]["Ports"].values())


def test_a_container_on_the_default_network_is_reached_from_this_host(dockerd: DockerEngine) -> None:
    container = dockerd.client().containers.run(
        dockerd.load("busybox"), ["httpd", "-f", "-p", "8080", "-h", "/etc"], detach=True
    )
    try:
        done = subprocess.run(
            ["curl", "-sS", "--retry", "5", "--retry-connrefused", f"http://{dockerd.address(container)}:8080/group"],
            capture_output=True,
            text=True,
        )
        assert done.stdout.startswith("root:x:0"), done.stderr
    finally:
        container.remove(force=True)


@pytest.mark.parametrize("name", ["moto_s3", "rclone_s3"])
def test_an_object_comes_back_from_s3(name: str, request: pytest.FixtureRequest) -> None:
    server: S3Server = request.getfixturevalue(name)
    bucket = server.new_bucket()
    server.client().put_object(Bucket=bucket, Key="a/b", Body=b"bytes")
    assert server.client().get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"bytes"


def test_rclone_refuses_a_wrong_secret(rclone_s3: S3Server) -> None:
    wrong = S3Server(rclone_s3.endpoint, rclone_s3.bucket, rclone_s3.access_key, "fake-wrong-secret")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        wrong.client().list_objects_v2(Bucket=wrong.bucket)
