"""The pytest fixtures; what each gives is in the package's docstring."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deployments import embedded
from tests.servers import rundir, s3
from tests.servers.databases import DatabaseServer, Flavour
from tests.servers.docker import Container, DockerEngine, private_engine
from tests.servers.s3 import S3Server

PASSWORD = "fake-root-password-0123456789"

Factory = Callable[..., DatabaseServer]


@pytest.fixture(scope="session")
def servers_directory() -> Iterator[Path]:
    """Where this session's servers live. Short, and open to the users they run as."""
    with rundir.session_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def mariadb_factory(servers_directory: Path) -> Iterator[Factory]:
    with contextlib.ExitStack() as stack:
        yield lambda *options: _on_this_host(embedded.MariaDB, "mariadb", servers_directory, (*_LAZY, *options), stack)


@pytest.fixture(scope="session")
def postgres_factory(servers_directory: Path) -> Iterator[Factory]:
    with contextlib.ExitStack() as stack:
        # A crash of the machine is not what is tested here.
        yield lambda *options: _on_this_host(
            embedded.PostgreSQL, "postgres", servers_directory, ("fsync=off", *options), stack
        )


@pytest.fixture(scope="session")
def mariadb(mariadb_factory: Factory) -> DatabaseServer:
    return mariadb_factory()


@pytest.fixture(scope="session")
def postgres15(postgres_factory: Factory) -> DatabaseServer:
    return postgres_factory()


@pytest.fixture(scope="session")
def dockerd(servers_directory: Path) -> Iterator[DockerEngine]:
    with private_engine(servers_directory / "docker") as engine:
        yield engine


@pytest.fixture(scope="session")
def mysql9_container(dockerd: DockerEngine) -> DatabaseServer:
    lean = ["--log-bin=binlog", "--server-id=1", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"]
    lean += ["--performance-schema=OFF", "--mysqlx=OFF", "--innodb-redo-log-capacity=8M"]
    container = dockerd.service(
        "workset", "mysql", "mysql", environment={"MYSQL_ROOT_PASSWORD": PASSWORD}, command=[*lean, *_LAZY, _POOL]
    )
    return server_in("mysql", dockerd, container, 3306, "root")


@pytest.fixture(scope="session")
def mariadb_container(dockerd: DockerEngine) -> DatabaseServer:
    options = ["--log-bin=mysql-bin", "--server-id=1", "--binlog-format=ROW", *_LAZY, _POOL]
    container = dockerd.service(
        "shop", "mariadb", "mariadb", environment={"MARIADB_ROOT_PASSWORD": PASSWORD}, command=options
    )
    return server_in("mariadb", dockerd, container, 3306, "root")


@pytest.fixture(scope="session")
def postgres17_container(dockerd: DockerEngine) -> DatabaseServer:
    container = dockerd.service(
        "workbench",
        "postgres",
        "postgres17",
        name="workbench-postgres",
        environment={"POSTGRES_PASSWORD": PASSWORD},
        command=["-c", "shared_buffers=32MB", "-c", "fsync=off"],
    )
    return server_in("postgres", dockerd, container, 5432, "postgres")


@pytest.fixture(scope="session")
def moto_s3(servers_directory: Path) -> Iterator[S3Server]:
    with s3.moto(servers_directory / "moto") as server:
        yield server


@pytest.fixture(scope="session")
def rclone_s3(servers_directory: Path) -> Iterator[S3Server]:
    with s3.rclone(servers_directory / "rclone") as server:
        yield server


_LAZY = ("--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0", "--innodb-doublewrite=0")
"""What was committed outlives the server's process, not the machine: a crash of that is not what is tested here."""
_POOL = "--innodb-buffer-pool-size=32M"


def _on_this_host(
    kind: type[embedded.MariaDB] | type[embedded.PostgreSQL],
    flavour: Flavour,
    directory: Path,
    options: tuple[str, ...],
    stack: contextlib.ExitStack,
) -> DatabaseServer:
    number = len(list(directory.glob(f"{flavour}[0-9]*")))
    server = kind(
        directory / f"{flavour}{number}", password=PASSWORD, options=options, template=directory / f"{flavour}.template"
    )
    stack.enter_context(server)
    return DatabaseServer(
        flavour=flavour,
        host=server.host,
        port=server.port,
        user=server.user,
        password=PASSWORD,
        control=server,
        socket=server.socket,
        data_directory=server.data,
    )


@dataclass(frozen=True)
class _ContainerControl:
    container: Container

    def start(self) -> None:
        self.container.start()

    def stop(self) -> None:
        self.container.stop(timeout=30)

    def kill(self) -> None:
        self.container.kill()
        self.container.wait()


def server_in(flavour: Flavour, engine: DockerEngine, container: Container, port: int, user: str) -> DatabaseServer:
    labels = container.labels
    server = DatabaseServer(
        flavour=flavour,
        host=engine.address(container),
        port=port,
        user=user,
        password=PASSWORD,
        control=_ContainerControl(container),
        container=str(container.name),
        project=labels["com.docker.compose.project"],
        service=labels["com.docker.compose.service"],
        docker_host=engine.host,
    )
    try:
        server.wait_until_ready()
    except AssertionError as error:
        raise AssertionError(f"{error}\n{container.logs(tail=20).decode(errors='replace')}") from error
    return server
