"""Where throwaway servers come from: what the site file can say of it, and what a drill says where there is none."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.backup import backup_one
from engine.config import SiteConfig
from engine.drill.run import DrillRequest, begin, drill, drill_source, finish
from engine.point_in_time import plan_past, recovered
from engine.restore_plan import RestoreRequest
from engine.shipping import base, ship
from engine.site import Site, Target
from tests.functional.drilling import KEY, Machine, everything, scratch_left, sealed_anew
from tests.servers.databases import DatabaseServer
from tests.servers.docker import DockerEngine

HUGE = 10**16
"""Bytes."""


@pytest.fixture(scope="module")
def document(
    tmp_path_factory: pytest.TempPathFactory, mariadb: DatabaseServer, postgres15: DatabaseServer
) -> Iterator[dict[str, Any]]:
    """Two servers on this host, a database of each backed up, with logs."""
    root = tmp_path_factory.mktemp("scratch")
    with mariadb.database("made") as ours, postgres15.database("made") as theirs:
        made = {
            "site": "made",
            "vault": {"root": str(root / "vault"), "keys": {"current": "main", "keys": {"main": KEY}}},
            "mysql": Machine.server(mariadb, ours),
            "postgres": Machine.server(postgres15, theirs),
        }
        with Site(SiteConfig.model_validate(made)) as site:
            for kind, server, name in (("mysql", mariadb, ours), ("postgres", postgres15, theirs)):
                server.sql("CREATE TABLE t (id int PRIMARY KEY)", name)
                server.sql("INSERT INTO t VALUES (1), (2)", name)
                backup_one(site, Target(kind, name), tier="daily")
            base(site, "postgres")
            for kind, server, name in (("mysql", mariadb, ours), ("postgres", postgres15, theirs)):
                server.sql("INSERT INTO t VALUES (3)", name)
                ship(site, kind)
        yield made


def with_settings(document: dict[str, Any], **settings: Any) -> Site:
    """Both servers with these settings."""
    changed = {kind: {**document[kind], **settings} for kind in ("mysql", "postgres")}
    return Site(SiteConfig.model_validate({**document, **changed}))


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_servers_on_this_host_stand_in_the_directory_that_the_site_names(document: dict[str, Any], kind: str) -> None:
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    place.chmod(0o755)
    try:
        with with_settings(document, scratch_directory=str(place / "away")) as site:
            result = drill(site, DrillRequest(source=kind, point_in_time=False))
            assert result.verdict == "could not verify" and f"no directory {place}/away" in result.sentence()
        with with_settings(document, scratch_directory=str(place)) as site:
            result = drill(site, DrillRequest(source=kind))
            assert result.verdict == "proven", result.trouble()
            begun = begin(site, DrillRequest(source=kind, point_in_time=False))
            (piece,) = begun.pieces[kind]
            entry, manifest = piece.copies[0]
            parts = [part.model_copy(update={"plain_size": HUGE}) for part in manifest.files]
            piece.copies = [(entry, manifest.model_copy(update={"files": parts}))]
            words = finish(site, begun, [drill_source(site, begun, kind)]).sentence()
            assert "needs about" in words and f"in {place}" in words
            assert list(place.iterdir()) == [] and scratch_left(site) == []
    finally:
        shutil.rmtree(place)
    with pytest.raises(ValueError, match="scratch_directory below is not an absolute path"):
        with_settings(document, scratch_directory="below")


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_an_image_that_is_not_there_or_of_another_kind_proves_nothing_and_the_setting_is_named(
    document: dict[str, Any], dockerd: DockerEngine, kind: str
) -> None:
    other = dockerd.load("mysql" if kind == "mysql" else "postgres17")
    before = everything(dockerd)
    for image, said in (
        ("backup-flows/absent:1", "the image is not on this engine"),
        (other, "is MySQL, not MariaDB" if kind == "mysql" else "is not of version 15"),
    ):
        with with_settings(document, docker_host=dockerd.host, scratch_image=image) as site:
            result = drill(site, DrillRequest(source=kind, point_in_time=False))
            assert result.verdict == "could not verify" and said in result.sentence()
            assert "scratch_image" in result.sentence() and scratch_left(site) == []
    assert everything(dockerd) == before


def test_a_server_whose_container_is_gone_is_drilled_and_recovered_in_the_image_that_the_site_names(
    document: dict[str, Any], dockerd: DockerEngine
) -> None:
    image, before = dockerd.load("mariadb"), everything(dockerd)
    gone = {"container": "not-there", "docker_host": dockerd.host}
    with with_settings(document, **gone) as site:
        words = drill(site, DrillRequest(source="mysql", point_in_time=False)).sentence()
        assert "its image is not known" in words and "scratch_image of mysql in the site file" in words
    with with_settings(document, **gone, scratch_image=image) as site:
        result = drill(site, DrillRequest(source="mysql"))
        assert result.verdict == "proven" and result.sources[0].place.startswith("a container")
        assert scratch_left(site) == [] and everything(dockerd) == before


def test_a_dump_that_loads_on_another_series_of_the_server_is_not_proven_for_its_own(document: dict[str, Any]) -> None:
    (name,) = document["mysql"]["databases"]
    with Site(SiteConfig.model_validate(document)) as site:
        (own,) = drill(site, DrillRequest(source="mysql", point_in_time=False)).pieces()
        (same,) = (check for check in own.checks if check.what == "server version")
        assert own.verdict == "proven" and same.said.startswith("restored on 10.11.")
        sealed, _ = sealed_anew(site, Target("mysql", name), name, version="10.6.12-MariaDB")
        result = drill(site, DrillRequest(source="mysql", point_in_time=False))
        (piece,) = result.pieces()
        (other,) = (check for check in piece.checks if check.verdict != "proven")
        assert piece.file == sealed.file and result.verdict == "could not verify"
        assert other.said.startswith("restored on 10.11.") and "taken from 10.6.12," in other.said
        assert "scratch_image of mysql" in other.said
        plan = plan_past(site, RestoreRequest(name, source="mysql"), "latest")
        with recovered(site, plan) as past:
            assert any("taken from 10.6.12: another series" in note for note in past.notes) == (
                plan.manifest.file == sealed.file
            )
        for key in (sealed.manifest_key, sealed.key):
            site.vault.store("local").delete(key)
