"""Scratch servers: of the source's kind, with no way in or out, gone afterwards however the run ended."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from engine.errors import BackupError, ConfigError, ToolFailed, UnknownName
from engine.journal import abandoned
from engine.manifest import Server
from engine.mysql.server import MySQLSource
from engine.processes import Command, Runner
from engine.scratch import leftovers
from engine.scratch.mysql import Scratch, Settings, open_scratch
from engine.site import Site
from tests.functional.mysql.dying_scratch import Orders
from tests.functional.mysql.rolling import SMALL, load, logs_from, open_site, rows_of, take_full
from tests.servers.databases import DatabaseServer

pytestmark = pytest.mark.sampled


@pytest.fixture(scope="module", params=["mariadb", "mariadb_container", "mysql9_container"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def site(server: DatabaseServer, tmp_path: Path) -> Iterator[Site]:
    with open_site(server, tmp_path / "vault") as opened:
        opened.vault.check()
        yield opened


@pytest.fixture
def small(server: DatabaseServer) -> Settings:
    """Where this session's own servers live: a directory that the server's user can reach."""
    return settings_for(server)


def settings_for(server: DatabaseServer) -> Settings:
    return replace(SMALL, work_directory=server.data_directory.parent.parent if server.data_directory else None)


def the_server(server: DatabaseServer) -> Server:
    return Server(flavour=server.flavour, version=server.version)


def left_behind(site: Site, server: DatabaseServer) -> list[str]:
    """Everything of this site's scratch servers that is on the machine now."""
    found = [str(path) for path in leftovers.journals(site.vault.state).glob("*")]
    if server.data_directory:
        own = server.data_directory.parent.parent
        found += [str(path) for path in own.glob(f"{leftovers.PREFIX}*")]
        shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.splitlines()
        found += [line for line in shown if f"{own}/{leftovers.PREFIX}" in line]
    if server.container:
        with contextlib.closing(docker.DockerClient(base_url=server.docker_host)) as client:
            found += [str(each.name) for each in client.containers.list(all=True) if leftovers.LABEL in each.labels]
            found += [str(each.name) for each in client.networks.list(filters={"label": leftovers.LABEL})]
            found += [str(each.name) for each in client.volumes.list(filters={"dangling": True})]
    return found


def test_it_is_of_the_sources_flavour_without_binlog_or_events_and_no_account_but_ours(
    server: DatabaseServer, site: Site, small: Settings
) -> None:
    with open_scratch(site, "mysql", the_server(server), small) as scratch:
        assert scratch.flavour == server.flavour
        assert scratch.source.version == tuple(int(part) for part in server.version.split("."))
        settings = rows_of(scratch, "SELECT @@log_bin, @@event_scheduler, @@server_id <> 1")
        assert settings == [(0, "OFF", 1)]
        users = {str(row[0]) for row in rows_of(scratch, "SELECT User FROM mysql.user")}
        assert {user for user in users if user.startswith(leftovers.PREFIX)} == {scratch.config.user}
        assert not users & {"root", "", "mysql"}
        assert scratch.source.all_databases() == []
    assert left_behind(site, server) == []


def test_it_shares_no_temporary_directory_with_other_servers(mariadb: DatabaseServer, tmp_path: Path) -> None:
    """One that starts would remove the others' temporary tables there."""
    with open_site(mariadb, tmp_path / "vault") as site:
        site.vault.check()
        with open_scratch(site, "mysql", the_server(mariadb), settings_for(mariadb)) as scratch:
            assert leftovers.PREFIX in str(rows_of(scratch, "SELECT CONCAT(@@tmpdir, '/')")[0][0])


def test_nothing_leads_out_of_it(server: DatabaseServer, site: Site, small: Settings) -> None:
    with open_scratch(site, "mysql", the_server(server), small) as scratch:
        if not server.container:
            assert rows_of(scratch, "SELECT @@skip_networking") == [(1,)]
            return
        with contextlib.closing(docker.DockerClient(base_url=server.docker_host)) as client:
            container = client.containers.get(scratch.config.container)
            networks = list(container.attrs["NetworkSettings"]["Networks"])
            assert len(networks) == 1
            assert client.networks.get(networks[0]).attrs["Internal"] is True
            assert not container.attrs["HostConfig"]["PortBindings"]
        # Production, on another network of the same engine, cannot be spoken to from there.
        script = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{server.host}/{server.port}' 2>/dev/null; echo $?"
        assert scratch.source.runner.run(Command(("/bin/sh", "-c", script))).text != "0"
        reached = server_runner(site).run(Command(("/bin/sh", "-c", script))).text
        assert reached == "0", "the attempt itself must be able to succeed"


def server_runner(site: Site) -> Runner:
    """Where the source's own tools run."""
    source = site.source("mysql")
    assert isinstance(source, MySQLSource)
    return source.runner


def test_an_error_in_the_middle_leaves_nothing(server: DatabaseServer, site: Site, small: Settings) -> None:
    with pytest.raises(ZeroDivisionError), open_scratch(site, "mysql", the_server(server), small):
        assert left_behind(site, server)
        raise ZeroDivisionError
    assert left_behind(site, server) == []


def test_one_that_cannot_start_says_why_and_leaves_nothing(server: DatabaseServer, site: Site, small: Settings) -> None:
    wrong = replace(small, options=("--innodb-page-size=12345678",))
    with pytest.raises(ToolFailed, match="while"), open_scratch(site, "mysql", the_server(server), wrong):
        pass
    assert left_behind(site, server) == []


def test_a_run_killed_in_the_middle_of_a_replay_is_swept_by_the_next(
    server: DatabaseServer, site: Site, tmp_path: Path
) -> None:
    with load(server) as loaded:
        entry, manifest = take_full(site, loaded.name)
        loaded.insert(300)
        loaded.rotate()
        logs = [(log.name, b"".join(log.open())) for log in logs_from(server, manifest.log.binlog_file)]
        orders = Orders(site.config, entry, manifest, logs, loaded.marks[-1], settings_for(server))
        child = subprocess.Popen([sys.executable, "-m", "tests.functional.mysql.dying_scratch"], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()})  # fmt: skip
        assert child.stdin and child.stdout
        child.stdin.write(pickle.dumps(orders))
        child.stdin.close()
        assert child.stdout.readline() == b"replaying\n"
        child.wait(60)
        assert child.returncode == -signal.SIGKILL
        assert left_behind(site, server), "it died before it had made anything"
        swept = site.sweep()
        assert swept.problems == []
        assert any("scratch" in line for line in swept.done)
        assert left_behind(site, server) == []
        assert len(server.sql(f"SELECT id FROM {loaded.name}.numbered")) == 300, "production is as it was"


def test_a_sweep_leaves_the_scratch_server_of_a_living_run_alone(
    server: DatabaseServer, site: Site, small: Settings
) -> None:
    with open_scratch(site, "mysql", the_server(server), small) as scratch:
        assert site.sweep().done == []
        assert rows_of(scratch, "SELECT 1") == [(1,)]


def test_named_time_zones_are_loaded_when_they_are_needed(server: DatabaseServer, site: Site, small: Settings) -> None:
    with open_scratch(site, "mysql", the_server(server), small) as scratch:
        if not rows_of(scratch, "SELECT 1 FROM mysql.time_zone_name WHERE Name = 'Europe/Berlin'"):
            _load_zones(scratch)
        assert str(rows_of(scratch, "SELECT CONVERT_TZ('2026-07-01 12:00:00', 'UTC', 'Europe/Berlin')")[0][0]).endswith(
            "14:00:00"
        )


def _load_zones(scratch: Scratch) -> None:
    scratch.load_time_zones()


def test_what_fits_nowhere_is_refused_with_what_to_set(mariadb: DatabaseServer, tmp_path: Path) -> None:
    with open_site(mariadb, tmp_path / "vault") as site:
        site.vault.check()
        newer = Server(flavour="mariadb", version="99.1.0-MariaDB")
        with pytest.raises(ConfigError, match="older than the server") as caught, open_scratch(site, "mysql", newer):
            pass
        assert "image" in caught.value.remedy
        other = Server(flavour="mysql", version="9.1")
        with pytest.raises(ConfigError, match="MySQL"), open_scratch(site, "mysql", other):
            pass
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        server = Server(flavour="mariadb", version=mariadb.version)
        with pytest.raises(ConfigError, match="cannot reach") as caught:
            with open_scratch(site, "mysql", server, Settings(work_directory=closed)):
                pass
        assert left_behind(site, mariadb) == []


def test_an_image_that_is_not_on_the_engine_is_never_pulled(mysql9_container: DatabaseServer, tmp_path: Path) -> None:
    with open_site(mysql9_container, tmp_path / "vault") as site:
        site.vault.check()
        absent = replace(SMALL, image="backup-flows/absent:1")
        server = Server(flavour="mysql", version=mysql9_container.version)
        with pytest.raises(UnknownName, match="not on this engine"), open_scratch(site, "mysql", server, absent):
            pass
        assert left_behind(site, mysql9_container) == []


def test_what_cannot_be_removed_now_keeps_its_journal_and_is_told(tmp_path: Path) -> None:
    journal = leftovers.begin(tmp_path, "mysql", "mysql")
    journal.record("container", name=leftovers.new_name(), docker_host=f"unix://{tmp_path}/no.sock")
    journal.release()
    done, problems = leftovers.sweep(tmp_path)
    assert done == [] and len(problems) == 1 and "No Docker engine" in problems[0]
    assert len(list(abandoned(leftovers.journals(tmp_path)))) == 1


def test_a_journal_that_names_a_foreign_directory_removes_nothing(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    journal = leftovers.begin(tmp_path, "mysql", "mysql")
    journal.record("directory", path=str(precious))
    with pytest.raises(BackupError, match="cannot be"):
        leftovers.clear(journal)
    assert precious.is_dir()
