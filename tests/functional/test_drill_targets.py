"""The times of drills on a real server, held against targets: what was not measured is never held to be in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.backup import backup_one
from engine.config import DrillConfig, SiteConfig
from engine.drill.run import DrillRequest, begin, drill_source, finish
from engine.drill.verdict import Check, DrillResult
from engine.shipping import ship
from engine.site import Site, Target
from tests.functional.drilling import KEY, Machine
from tests.servers.databases import DatabaseServer


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory, mariadb: DatabaseServer) -> Iterator[dict[str, Any]]:
    """A server with two databases and logs of both, and a file."""
    root = tmp_path_factory.mktemp("targets")
    (root / "app.conf").write_text("listen 80;\n")
    with mariadb.database("one") as one, mariadb.database("two") as two:
        made = {
            "site": "targets",
            "vault": {"root": str(root / "vault"), "keys": {"current": "main", "keys": {"main": KEY}}},
            "mysql": Machine.server(mariadb, one, two),
            "config": {"paths": [str(root / "app.conf")]},
        }
        with Site(SiteConfig.model_validate(made)) as site:
            for name in (one, two):
                mariadb.sql("CREATE TABLE t (id int PRIMARY KEY)", name)
                mariadb.sql("INSERT INTO t SELECT seq FROM seq_1_to_1000", name)
                backup_one(site, Target("mysql", name), tier="daily")
                mariadb.sql("INSERT INTO t VALUES (0)", name)
            backup_one(site, Target("config", "config"), tier="daily")
            ship(site, "mysql")
        yield made


def targets(result: DrillResult) -> dict[str, Check]:
    return {check.what: check for check in result.checks if check.rung == "target"}


def test_one_database_of_several_through_the_logs_is_no_measure_of_the_whole_server(document: dict[str, Any]) -> None:
    with Site(SiteConfig.model_validate(document)) as site:
        request = DrillRequest()
        begun = begin(site, request)
        sources = [drill_source(site, begun, name) for name in begun.sources]
        server = sources[0]
        assert server.past_seconds and server.past_estimate and server.past_estimate > 1.3 * server.past_seconds
        assert any("one of 2 databases was recovered" in note for note in server.notes)

        def held(seconds: float) -> Check:
            site.config.drill = DrillConfig.model_validate({"rto": f"{seconds:.0f}s"})
            result = finish(site, begun, sources)
            assert result.verdict == targets(result)["RTO"].verdict
            return targets(result)["RTO"]

        for each in sources:  # a target is whole seconds, and a machine may be quick
            each.restore_seconds *= 100
        server.past_seconds, server.past_estimate = server.past_seconds * 100, server.past_estimate * 100
        measured, likely = sum(each.measured_seconds for each in sources), sum(each.rto_seconds for each in sources)
        between = held((measured + likely) / 2)
        assert between.verdict == "could not verify" and "in part estimated" in between.said
        assert held(likely + 2).verdict == "proven" and "about " in held(likely + 2).said
        assert held(measured / 2).verdict == "failed"

        begun = begin(site, DrillRequest(source="mysql", thorough=True))
        server = drill_source(site, begun, "mysql")
        assert server.past_estimate is None and (server.past_seconds or 0) > 0


def test_a_drill_of_a_part_is_not_held_against_the_target_of_the_whole_site(document: dict[str, Any]) -> None:
    drilled = {**document, "drill": {"rto": "1h", "targets": {"config": {"rto": "2h"}}}}
    with Site(SiteConfig.model_validate(drilled)) as site:
        begun = begin(site, DrillRequest(source="config"))
        result = finish(site, begun, [drill_source(site, begun, "config")])
        assert list(targets(result)) == ["RTO of config"] and result.verdict == "proven" and result.rto == ""
        assert result.notes == ["RTO: only config was drilled; the target of 1h is for the whole site"]
        assert result.as_dict()["rto_target"] is None and result.as_dict()["sources"][0]["rto_target"] == "2h"
        site.config.drill = DrillConfig.model_validate({"targets": {"config": {"rto": "1s"}}})
        result.sources[0].restore_seconds = 1.5  # what it took is less on most machines
        late = finish(site, begun, result.sources)
        assert late.verdict == "failed" and "1.5 s for config, the target is 1s" in late.sentence()
        (name,) = (each for each in site.config.mysql[0].databases if each.startswith("one"))
        begun = begin(site, DrillRequest(source="mysql", database=name, point_in_time=False))
        site.config.drill = DrillConfig.model_validate({"targets": {"mysql": {"rto": "1s"}}})
        result = finish(site, begun, [drill_source(site, begun, "mysql")])
        assert result.verdict == "proven" and not targets(result) and f"only {name} was drilled" in result.notes[0]


def test_a_missed_rpo_fails_and_one_that_nobody_knows_is_not_proven(document: dict[str, Any], tmp_path: Path) -> None:
    time.sleep(1.1)
    with Site(SiteConfig.model_validate({**document, "drill": {"rpo": "1s"}})) as site:
        request = DrillRequest(point_in_time=False)
        begun = begin(site, request)
        sources = [drill_source(site, begun, name) for name in begun.sources]
        missed = finish(site, begun, sources)
        assert missed.verdict == "failed" and [each.source for each in missed.rpo_missed] == ["mysql"]
        assert list(targets(missed)) == ["RPO of mysql"], "files have no target"
        assert "RPO of mysql" in missed.sentence() and "the target is 1s" in missed.sentence()
        site.config.drill = DrillConfig.model_validate({"rpo": "1s", "targets": {"mysql": {"rpo": "1d"}}})
        kept = finish(site, begun, sources)
        assert kept.verdict == "proven" and targets(kept)["RPO of mysql"].verdict == "proven"
        site.config.drill = DrillConfig.model_validate({"targets": {"config": {"rpo": "1s"}}})
        assert finish(site, begun, sources).verdict == "failed", "it was asked for"

    empty = document["vault"] | {"root": str(tmp_path / "empty")}
    with Site(SiteConfig.model_validate({**document, "vault": empty, "drill": {"rpo": "1h"}})) as site:
        begun = begin(site, DrillRequest(source="mysql"))
        result = finish(site, begun, [drill_source(site, begun, "mysql")])
        assert targets(result)["RPO of mysql"].verdict == "could not verify"
        site.config.mysql[0].point_in_time = False
        assert not targets(finish(site, begun, result.sources))


def test_a_target_of_a_source_that_is_not_there_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"drill.targets.crm names no source of the site; there are: mysql, config"):
        SiteConfig.model_validate({**document, "drill": {"targets": {"crm": {"rto": "1h"}}}})
    with pytest.raises(ValueError, match=r"drill.targets: rpo is no span of time"):
        SiteConfig.model_validate({**document, "drill": {"targets": {"mysql": {"rpo": "soon"}}}})
