"""Drills and recoveries of a source in a container, on an engine whose disk is small: nothing is loaded that has no
room, and what it needs is said."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.backup import backup_one
from engine.cluster import ClusterRequest, plan_cluster, restore_cluster
from engine.drill.run import DrillRequest, drill
from engine.drill.verdict import DrillResult
from engine.errors import DiskFull
from engine.point_in_time import bring_back, plan_past
from engine.restore_plan import RestoreRequest
from engine.shipping import base, ship
from engine.site import Site, Target
from tests.functional.drilling import boxed, everything, scratch_left
from tests.servers.databases import DatabaseServer
from tests.servers.docker import DockerEngine


@contextlib.contextmanager
def small_disk_for_volumes(engine: DockerEngine, megabytes: int) -> Iterator[None]:
    """New volumes of that engine stand on a small disk. Those that it has stay where they are."""
    place = Path(engine.client().info()["DockerRootDir"]) / "volumes"
    size = f"size={megabytes}m,mode=0711"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def needed(result: DrillResult | str) -> int:
    words = result if isinstance(result, str) else result.sentence()
    (figure,) = re.findall(r"needs about ([\d,]+) bytes", words)
    return int(figure.replace(",", ""))


def test_a_postgres_in_a_container_is_loaded_only_where_the_engines_disk_has_room(
    postgres17_container: DatabaseServer, dockerd: DockerEngine, tmp_path: Path
) -> None:
    server = postgres17_container
    with server.database("roomy") as name, Site(boxed(server, name, tmp_path)) as site:
        server.sql("CREATE TABLE t (id int PRIMARY KEY)", name)
        backup_one(site, Target("postgres", name), tier="daily")
        base(site, "postgres")
        server.sql("INSERT INTO t VALUES (1)", name)
        ship(site, "postgres")
        before = everything(dockerd)
        with small_disk_for_volumes(dockerd, 110):
            result = drill(site, DrillRequest(point_in_time=False))
            assert result.verdict == "could not verify" and "no throwaway place could be had" in result.sentence()
            assert needed(result) > 256 * 2**20
            with pytest.raises(DiskFull) as full:
                bring_back(site, plan_past(site, RestoreRequest(name, source="postgres"), "latest"))
            assert needed(full.value.message) > 110 * 2**20, "the base and its log"
        image = dockerd.client().containers.get(server.container).image.id
        with small_disk_for_volumes(dockerd, 48):  # enough for the log, which stands there meanwhile, not for the base
            anew = dockerd.client().containers.create(image, name="anew-and-small")
            try:
                with pytest.raises(DiskFull) as full:
                    restore_cluster(site, plan_cluster(site, ClusterRequest(container=anew.name)))
            finally:
                anew.remove(v=True)
            assert needed(full.value.message) > 48 * 2**20
        assert scratch_left(site) == [] and everything(dockerd) == before


def test_a_mysql_in_a_container_is_recovered_only_where_the_full_and_its_logs_have_room(
    mariadb_container: DatabaseServer, dockerd: DockerEngine, tmp_path: Path
) -> None:
    server = mariadb_container
    with server.database("roomy") as name, Site(boxed(server, name, tmp_path)) as site:
        server.sql("CREATE TABLE t (id int PRIMARY KEY, note longtext)", name)
        backup_one(site, Target("mysql", name), tier="daily")
        for number in range(4):
            server.sql(f"INSERT INTO t SELECT {number} * 100 + seq, REPEAT(seq, 300000) FROM seq_1_to_40", name)
        server.sql("DELETE FROM t", name)
        ship(site, "mysql")
        before = everything(dockerd)
        with small_disk_for_volumes(dockerd, 240):
            result = drill(site, DrillRequest())
            (piece,), (past,) = result.pieces(), result.sources[0].checks
            assert piece.verdict == "proven", "the full alone is small"
            assert past.verdict == "could not verify" and needed(past.said) > 60 * 2**20, past
        assert scratch_left(site) == [] and everything(dockerd) == before
