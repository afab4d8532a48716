"""Every flow for a MySQL server in a container: tools inside it, no published port, no binlog tool there."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.integration.installation import Installation, Site
from tests.servers.databases import DatabaseServer

SERVERS = ("mysql9_container", "mariadb_container")
Servers = dict[str, DatabaseServer]


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> Servers:
    """The servers in containers, by the names of their sources."""
    found = [request.getfixturevalue(each) for each in SERVERS]
    return {server.flavour: server for server in found}


@pytest.fixture(params=[each.partition("_")[0].rstrip("9") for each in SERVERS])
def server(request: pytest.FixtureRequest, servers: Servers) -> DatabaseServer:
    return servers[request.param]


@pytest.fixture(scope="module")
def boxed(prefect: Installation, servers: Servers) -> Site:
    """A site whose sources are these containers, found by their compose labels; nothing says host or port."""
    site = prefect.site("boxed")
    tell: list[dict[str, Any]] = [
        {
            "name": flavour,
            "service": server.service,
            "project": server.project,
            "docker_host": server.docker_host,
            "user": server.user,
            "password": f"${{ITEST_{flavour.upper()}}}",
            "databases": [site.shop],
        }
        for flavour, server in servers.items()
    ]
    site.document = {**site.document, "mysql": tell}
    del site.document["postgres"]
    for flavour, server in servers.items():
        site.env[f"ITEST_{flavour.upper()}"] = server.password
        server.sql(
            f"""
            CREATE DATABASE {site.shop};
            USE {site.shop};
            CREATE TABLE customers (id INT PRIMARY KEY, name VARCHAR(50) NOT NULL);
            CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, customer INT NOT NULL, note VARCHAR(80),
              FOREIGN KEY (customer) REFERENCES customers (id));
            INSERT INTO customers VALUES (1, 'Zoë 🙂'), (2, 'O''Neill');
            INSERT INTO orders (customer, note) VALUES (1, NULL), (2, '),('), (1, '{flavour}');
            INSERT INTO orders (customer, note) SELECT a.customer, b.note FROM orders a JOIN orders b JOIN orders c;
            CREATE TRIGGER stamped BEFORE INSERT ON orders FOR EACH ROW SET NEW.note = COALESCE(NEW.note, 'new');
            """
        )
    site.write()
    done = prefect.apply(site)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


@pytest.fixture
def backed_up(prefect: Installation, boxed: Site) -> Site:
    """With a full of each database, whichever test ran before."""
    if not boxed.files():
        run = prefect.run(f"daily-full/{boxed.name}")
        assert run.state == "COMPLETED", run.message
    return boxed


def _orders(server: DatabaseServer, database: str) -> list[tuple[str | None, ...]]:
    return server.sql("SELECT * FROM orders ORDER BY id", database)


@pytest.mark.sampled
def test_the_container_is_as_poor_as_a_real_one(server: DatabaseServer) -> None:
    import docker

    client = docker.DockerClient(base_url=server.docker_host)
    container = client.containers.get(server.container)
    assert not any(container.attrs["NetworkSettings"]["Ports"].values())
    found = container.exec_run(["sh", "-c", "command -v mysqlbinlog || command -v mariadb-binlog"])
    assert found.exit_code != 0


@pytest.mark.sampled
@pytest.mark.parametrize("flow", ["hourly-db", "daily-full", "manual-backup"])
def test_each_backup_flow_works(prefect: Installation, boxed: Site, flow: str) -> None:
    run = prefect.run(f"{flow}/{boxed.name}")
    assert run.state == "COMPLETED", run.message
    assert "2 databases backed up and verified" in run.first_line


@pytest.mark.sampled
def test_a_lost_table_comes_back_in_place_with_its_trigger(
    prefect: Installation, backed_up: Site, server: DatabaseServer
) -> None:
    before = _orders(server, backed_up.shop)
    server.sql("DROP TABLE orders", backed_up.shop)
    run = prefect.run(
        f"restore-database/{backed_up.name}", source=server.flavour, database=backed_up.shop, into=backed_up.shop,
        confirm=backed_up.shop,
    )  # fmt: skip
    assert run.state == "COMPLETED", run.message
    assert _orders(server, backed_up.shop) == before
    server.sql("INSERT INTO orders (customer) VALUES (1)", backed_up.shop)
    assert server.sql("SELECT note FROM orders ORDER BY id DESC LIMIT 1", backed_up.shop) == [("new",)]


def test_tables_dropped_since_come_back_to_the_second_before(
    prefect: Installation, backed_up: Site, servers: Servers
) -> None:
    """Logs fetched from the containers, replayed in scratch containers of the same images."""
    for server in servers.values():
        server.sql("INSERT INTO orders (customer, note) VALUES (1, 'in no full')", backed_up.shop)
    wanted = {flavour: _orders(server, backed_up.shop) for flavour, server in servers.items()}
    time.sleep(1.1)
    moment = datetime.now(UTC).replace(microsecond=0)
    time.sleep(1.1)
    for server in servers.values():
        server.sql("DROP TABLE orders", backed_up.shop)
    shipped = prefect.run(f"binlog-ship/{backed_up.name}")
    assert shipped.state == "COMPLETED", shipped.message
    for flavour, server in servers.items():
        run = prefect.run(
            f"restore-database/{backed_up.name}", source=flavour, database=backed_up.shop, into=backed_up.shop,
            confirm=backed_up.shop, point_in_time=moment.isoformat(),
        )  # fmt: skip
        assert run.state == "COMPLETED", run.message
        assert _orders(server, backed_up.shop) == wanted[flavour]
