"""Restore drills on real servers: what is whole is proven, and whatever was tampered with is named."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from engine.backup import backup_one
from engine.config import DrillConfig, MySQLConfig, SiteConfig
from engine.drill.config_files import ConfigFilesDrill
from engine.drill.kinds import drill_class
from engine.drill.mysql import ask
from engine.drill.record import keep, proofs
from engine.drill.run import DrillRequest, begin, drill, drill_source, finish
from engine.drill.verdict import Check, DrillResult, PieceResult
from engine.errors import BackupError, ToolMissing
from engine.mysql.connection import query
from engine.mysql.server import MySQLSource
from engine.prune.contents import claims_of
from engine.scratch import leftovers, postgres_place
from engine.shipping import base, ship
from engine.site import Site, Target
from engine.status import status
from tests.functional.drilling import KEY, Machine, boxed, everything, orders_for, scratch_left, sealed_anew
from tests.servers import preloaded
from tests.servers.databases import DatabaseServer
from tests.servers.docker import DockerEngine

ROOT = Path(__file__).parents[2]
HUGE = 10**16
"""Bytes."""
QUERIES = {
    "mysql": [{"query": "SELECT n FROM totals", "at_least": 700, "at_most": 700}],
    "postgres": [{"name": "events", "query": "SELECT max(body) LIKE 'event 99%' FROM bronze.events", "equals": "true"}],
}


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, mariadb: DatabaseServer, postgres15: DatabaseServer
) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("drilled"), mariadb, postgres15)
    made.back_up()
    yield made
    made.drop()


def pieces(result: DrillResult) -> dict[str, PieceResult]:
    return {piece.database: piece for piece in result.pieces()}


def marks(site: Site, piece: PieceResult) -> set[str]:
    entry, _ = site.vault.catalog().find(piece.source, piece.database, piece.file)
    return {str(mark["kind"]) for mark in site.vault.marks(entry)}


def test_a_drill_proves_every_source_any_second_too_and_leaves_a_signed_record(machine: Machine) -> None:
    document = machine.document(drill={"rto": "1h", "rpo": "15m", "queries": QUERIES})
    path, xml = machine.root / "drilled.yaml", machine.root / "drill.xml"
    path.write_text(yaml.safe_dump(document))
    told = backups("drill", "-f", str(path), "--junit", str(xml), "--seed", "7", "--thorough")
    found = told["drill"]
    assert found["verdict"] == "proven" and found["seed"] == 7, told
    looked = {source["source"]: source for source in found["sources"]}
    assert list(looked) == ["mysql", "postgres", "config"]
    for source in ("mysql", "postgres"):
        (piece,) = looked[source]["databases"]
        rungs = [check["rung"] for check in piece["checks"]]
        assert set(rungs) == {"opens", "structure", "volume", "content", "meaning"}, rungs
        assert any("recovery to a second" in check["what"] for check in looked[source]["checks"])
        assert looked[source]["rto_seconds"] >= looked[source]["point_in_time_seconds"] > 0
        assert 0 <= looked[source]["rpo_seconds"] < 900
    assert {check["what"] for check in looked["mysql"]["databases"][0]["checks"]} >= {"CHECK TABLE", "row by row"}
    (led,) = (check for check in looked["mysql"]["checks"] if check["what"] == "from one full to the next")
    assert "lead right to" in led["said"] and "706 rows of all tables are the same" in led["said"]
    whats = {check["what"] for check in [*looked["postgres"]["checks"], *looked["postgres"]["databases"][0]["checks"]]}
    assert whats >= {"pg_amcheck", "pg_verifybackup"}
    assert 'failures="0"' in xml.read_text() and machine.shop in xml.read_text()

    with machine.open() as site:
        assert scratch_left(site) == []
        drills = proofs(site.vault)
        assert drills.problems == [] and len(drills.newest) == 3
        rows = {row.target.database: row for row in status(site).rows}
        assert all(row.proven is not None and row.proven.drill == found["id"] for row in rows.values())
        entry, _ = site.vault.catalog().find("mysql", machine.shop)
        assert claims_of(site.vault, entry).claim == "good", "retention goes by the verification as before"
        assert "proven" in {mark["kind"] for mark in site.vault.marks(entry)}
    listed = backups("list", "-f", str(path))["backups"]
    proven = {each["file"] for each in listed if each["proven_at"]}
    assert proven == {source["databases"][0]["file"] for source in found["sources"]} and len(listed) == 5
    record = machine.vault / told["record"]
    record.chmod(0o600)
    record.write_bytes(record.read_bytes().replace(b'"seed": 7', b'"seed": 8'))
    with machine.open() as site:
        assert not proofs(site.vault).newest and "fails its signature" in status(site).problems[0]
    record.unlink()


def backups(*arguments: str, code: int = 0) -> dict[str, Any]:
    """The command line, as a script runs it."""
    done = preloaded.backups(*arguments, "--json", env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == code, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


ROW = {"mysql": b"(700,", "postgres": b"700\tevent 700"}
TABLE = {
    "mysql": (b"DROP TABLE IF EXISTS `keyless`;", b"\n--\n-- Table structure for table `odd"),
    "postgres": (b"--\n-- Name: keyless; Type: TABLE;", b"--\n-- Name: notes; Type: TABLE;"),
}
TOUCH = {
    "mysql": ("DELETE FROM {0}.keyless LIMIT 1", "UPDATE {0}.orders SET amount = 0 WHERE id = 7"),
    "postgres": ("DELETE FROM public.notes", "UPDATE bronze.events SET ratio = 0 WHERE id = 7"),
}
HURT = {"mysql": ("keyless", "orders"), "postgres": ("public.notes", "bronze.events")}


def without_row(kind: str, data: bytes) -> bytes:
    lines = data.split(b"\n")
    (at,) = [number for number, line in enumerate(lines) if line.startswith(ROW[kind])]
    if lines[at].endswith(b";"):
        lines[at - 1] = lines[at - 1].removesuffix(b",") + b";"
    del lines[at]
    return b"\n".join(lines)


def without_table(kind: str, data: bytes) -> bytes:
    start, end = TABLE[kind]
    cut = data[: data.index(start)] + data[data.index(end) :]
    if kind == "postgres":  # its rows as well
        at = cut.index(b"COPY public.keyless")
        cut = cut[:at] + cut[cut.index(b"\\.\n", at) + 3 :]
        cut = cut.replace(b"ALTER TABLE public.keyless OWNER TO postgres;\n", b"")
    return cut


ENDLESS = {"mysql": "SELECT count(*) FROM keyless, (SELECT SLEEP(600)) AS endless", "postgres": "SELECT pg_sleep(600)"}


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_what_is_missing_or_changed_is_named_whether_in_the_dump_or_in_the_copy(
    machine: Machine, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, whole = (machine.mariadb, machine.shop) if kind == "mysql" else (machine.postgres, machine.platform)
    names = ["lost_row", "lost_table", "touched", "altered", "whole"]
    keyless = 6 if kind == "mysql" else 3  # rows
    queries = [
        {"query": "SELECT count(*) FROM keyless", "database": "whole", "at_most": keyless},
        {"query": "SELECT count(*) FROM keyless", "database": "touched", "at_least": keyless + 1},
        {"query": "SELECT nothing FROM nowhere", "database": "altered", "at_least": 1},
        {"query": ENDLESS[kind], "database": "lost_row", "at_least": 0, "timeout_seconds": 0.5},
    ]
    if kind == "postgres":
        queries.append({"query": "SELECT scribble()", "database": "altered", "at_least": 0})
    drill_class_of = drill_class(machine.open().config.source(kind))
    original: Any = drill_class_of.restore

    def tampering(self: Any, place: Any, piece: Any, *copy: Any) -> Any:
        notes = original(self, place, piece, *copy)
        if piece.database in ("touched", "altered"):
            statement = TOUCH[kind][names.index(piece.database) - 2].format(piece.database)
            if kind == "mysql":
                query(place.source.session, statement)
            else:
                from engine.drill.postgres_looks import There

                with There(place.config, "x", 15).connector.open(piece.database) as inside:
                    inside.execute(statement)
        return notes

    monkeypatch.setattr(drill_class_of, "restore", tampering)
    settings = {kind: machine.server(server, *names), "drill": {"queries": {kind: queries}, "sample": 50}}
    with machine.open(**settings) as site:
        of = Target(kind, whole)
        sealed_anew(site, of, "lost_row", lambda data: without_row(kind, data))
        sealed_anew(site, of, "lost_table", lambda data: without_table(kind, data))
        for name in names[2:]:
            sealed_anew(site, of, name)
        result = drill(site, DrillRequest(source=kind, point_in_time=False))
        found = pieces(result)
        assert result.verdict == "failed" and scratch_left(site) == []

        def failed(database: str, rung: str) -> str:
            return "; ".join(c.words for c in found[database].checks if c.rung == rung and c.verdict == "failed")

        orders = "orders" if kind == "mysql" else "bronze.events"
        assert f"table {orders}: 699 rows, the manifest says 700" in failed("lost_row", "volume")
        assert f"table {orders}: 699 rows in the dump, the manifest says 700" in failed("lost_row", "volume")
        assert "keyless" in failed("lost_table", "structure") and "keyless is not in the dump" in failed(
            "lost_table", "volume"
        )
        assert f"table {HURT[kind][0]}:" in failed("touched", "volume")
        assert not failed("altered", "volume") and f"table {HURT[kind][1]}:" in failed("altered", "content")
        assert f"expected at least {keyless + 1}" in failed("touched", "meaning")
        assert "nowhere" in failed("altered", "meaning")
        assert "it could not be answered" in failed("lost_row", "meaning")
        if kind == "postgres":
            assert "read-only transaction" in failed("altered", "meaning")
        assert found["whole"].verdict == "proven", found["whole"].checks
        assert marks(site, found["whole"]) >= {"proven"}
        assert marks(site, found["touched"]) == {"drill-failed"}
        assert marks(site, found["lost_row"]) == {"drill-failed", "broken"}


def test_one_changed_file_is_named_and_a_missed_target_fails_what_is_otherwise_proven(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine.open(mysql=[], postgres=[]) as site:
        request = DrillRequest()
        begun = begin(site, request)
        sources = [drill_source(site, begun, "config")]
        site.config.drill = DrillConfig.model_validate({"rto": "1h"})
        assert finish(site, begun, sources).verdict == "proven"
        site.config.drill = DrillConfig.model_validate({"rto": "1s"})
        sources[0].restore_seconds = 1.01  # what it took is less on most machines
        late = finish(site, begun, sources)
        assert late.verdict == "failed" and "the target is 1s: config took" in late.sentence()

        original = ConfigFilesDrill.restore

        def tampering(self: Any, place: Any, *rest: Any) -> Any:
            notes = original(self, place, *rest)
            conf = next(place.path.rglob("app.conf"))
            times = conf.stat()
            conf.write_text("listen 81;\n")
            os.utime(conf, ns=(times.st_atime_ns, times.st_mtime_ns))
            next(place.path.rglob(".env")).unlink()
            return notes

        monkeypatch.setattr(ConfigFilesDrill, "restore", tampering)
        result = drill(site, request)
        words = result.sentence()
        assert result.verdict == "failed" and f"{machine.files}/nginx/app.conf: content" in words
        assert f"{machine.files}/.env" in words and "1 files, the listing names 2" in words
        assert scratch_left(site) == []


@pytest.mark.sampled
def test_where_no_scratch_server_can_be_had_nothing_is_proven_and_the_rest_is(machine: Machine) -> None:
    gone = {"container": "not-there", "docker_host": f"unix://{machine.root}/no.sock"}
    settings = {
        "mysql": {**gone, "databases": [machine.shop]},
        "postgres": {**gone, "databases": [machine.platform]},
    }
    with machine.open(**settings) as site:
        result = drill(site, DrillRequest())
        found = pieces(result)
        assert result.verdict == "could not verify"
        for name in (machine.shop, machine.platform):
            assert found[name].verdict == "could not verify"
            assert "no throwaway place could be had" in found[name].checks[-1].said
        assert found["config"].verdict == "proven" and scratch_left(site) == []
        key = keep(site, result)
        assert set(proofs(site.vault).newest) == {Target("config", "config")}
        site.vault.store("local").delete(key)


@pytest.mark.sampled
@pytest.mark.parametrize("source", ["mysql", "postgres", "config"])
def test_where_there_is_no_room_nothing_is_restored_and_the_drill_says_how_much_it_needs(
    machine: Machine, source: str
) -> None:
    with machine.open() as site:
        begun = begin(site, DrillRequest(source=source))
        (piece,) = begun.pieces[source]
        entry, manifest = piece.copies[0]
        before = [mark["kind"] for mark in site.vault.marks(entry)]
        parts = [part.model_copy(update={"plain_size": HUGE}) for part in manifest.files]
        piece.copies = [(entry, manifest.model_copy(update={"files": parts}))]
        result = finish(site, begun, [drill_source(site, begun, source)])
        words = result.sentence()
        assert result.verdict == "could not verify" and "no throwaway place could be had" in words
        needed = int(re.search(r"needs about ([\d,]+) bytes", words)[1].replace(",", ""))  # type: ignore[index]
        assert needed >= HUGE and scratch_left(site) == []
        assert [mark["kind"] for mark in site.vault.marks(entry)] == before, "nothing was learnt of the backup"


@pytest.mark.sampled
def test_the_database_postgres_is_looked_at_like_any_other_when_the_server_is_recovered(
    postgres15: DatabaseServer, tmp_path: Path
) -> None:
    vault = {"root": str(tmp_path / "vault"), "keys": {"current": "main", "keys": {"main": KEY}}}
    body = {"site": "own", "vault": vault, "postgres": Machine.server(postgres15, "postgres")}
    postgres15.sql("CREATE TABLE in_postgres AS SELECT n FROM generate_series(1, 20) n", "postgres")
    try:
        with Site(SiteConfig.model_validate(body)) as site:
            backup_one(site, Target("postgres", "postgres"), tier="daily")
            base(site, "postgres")
            postgres15.sql("INSERT INTO in_postgres VALUES (21)", "postgres")
            ship(site, "postgres")
            result = drill(site, DrillRequest())
            assert result.verdict == "proven", result.trouble()
            said = [check.said for check in result.sources[0].checks]
            assert "tables and indexes of postgres are sound" in said, said
            (recovered,) = (each for each in said if "all readable" in each)
            assert " 0 tables" not in recovered and " 0 rows" not in recovered
    finally:
        postgres15.sql("DROP TABLE in_postgres", "postgres")
        postgres15.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name ~ '_own_'")


@pytest.mark.sampled
def test_a_recovered_database_without_a_table_is_not_proven_where_its_backups_have_some(
    postgres15: DatabaseServer, tmp_path: Path
) -> None:
    vault = {"root": str(tmp_path / "vault"), "keys": {"current": "main", "keys": {"main": KEY}}}
    with postgres15.database("emptied") as emptied, postgres15.database("filled") as filled:
        body = {"site": "bare", "vault": vault, "postgres": Machine.server(postgres15, emptied, filled)}
        with Site(SiteConfig.model_validate(body)) as site:
            postgres15.sql("CREATE TABLE t AS SELECT 1 AS n", emptied)
            backup_one(site, Target("postgres", emptied), tier="daily")
            postgres15.sql("DROP TABLE t", emptied)
            base(site, "postgres")
            postgres15.sql("CREATE SCHEMA later", filled)
            ship(site, "postgres")
            postgres15.sql("CREATE TABLE t AS SELECT 1 AS n", filled)
            backup_one(site, Target("postgres", filled), tier="daily")

            def recovered(database: str) -> Check:
                checks = drill(site, DrillRequest(database=database)).sources[0].checks
                (found,) = (each for each in checks if "has no table there" in each.said)
                return found

            late = recovered(filled)
            assert late.verdict == "could not verify" and "nothing of it could be looked at (next: " in late.said
            lost = recovered(emptied)
            assert lost.verdict == "failed" and lost.said.endswith("has 1 table, and was taken before that")
    postgres15.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name ~ '_bare_'")


@pytest.mark.parametrize("server", ["mysql9_container", "mariadb"])
def test_a_query_is_stopped_by_the_server_also_where_it_may_take_less_than_half_a_second(
    request: pytest.FixtureRequest, server: str
) -> None:
    there: DatabaseServer = request.getfixturevalue(server)
    config = MySQLConfig(host=there.host, port=there.port, user=there.user, password=SecretStr(there.password))
    with there.database("slow") as name, contextlib.closing(MySQLSource(config, site="slow")) as source:
        limit = "max_statement_time * 1000" if server == "mariadb" else "max_execution_time"
        for seconds, milliseconds in ((0.4, 400), (0.5, 500), (1.5, 1500), (0.0001, 1)):
            ((found,),) = ask(source, name, f"SELECT @@{limit}", seconds)
            assert round(found) == milliseconds
        endless = " CROSS JOIN ".join(f"information_schema.columns t{number}" for number in range(5))
        with pytest.raises(BackupError):
            ask(source, name, f"SELECT count(*) FROM {endless}", 0.4)


@pytest.mark.sampled
def test_what_nobody_foresaw_keeps_no_other_backup_or_source_from_its_drill(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, *_: Any) -> Any:
        raise OSError(5, "Input/output error of a disk")

    def undone(self: Any, place: Any, piece: Any) -> Any:
        yield from ()
        raise ZeroDivisionError

    with machine.open() as site:
        for where, what in (("place", broken), ("restore", broken), ("prove", undone), ("rpo", broken)):
            with monkeypatch.context() as patched:
                patched.setattr(drill_class(site.config.source("mysql")), where, what)
                result = drill(site, DrillRequest(point_in_time=False))
            mysql, *others = result.sources
            assert [each.verdict for each in others] == ["proven", "proven"], (where, result.trouble())
            told = [check.said for check in mysql.pieces[0].checks if check.verdict == "could not verify"]
            if where == "rpo":
                told = mysql.notes
            assert "failed in a way that nobody foresaw: " in told[0], (where, told)
            assert ("OSError" if what is broken else "ZeroDivisionError") in told[0]
            assert marks(site, mysql.pieces[0]).isdisjoint({"drill-failed", "broken"}), "nothing was learnt of it"
            assert where == "rpo" or result.verdict == "could not verify"
            assert scratch_left(site) == []
            key = keep(site, result)
            site.vault.store("local").delete(key)


@pytest.mark.sampled
def test_where_a_check_of_the_engine_itself_is_not_installed_the_drill_is_not_proven(
    machine: Machine, servers_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = postgres_place.find_program

    def lacking(runner: Any, name: str, *where: Any) -> str:
        if name == "pg_verifybackup":  # else it would be found elsewhere on this machine
            raise ToolMissing("pg_verifybackup is not on this host.", remedy="install postgresql-15 there")
        return original(runner, name, *where)

    monkeypatch.setattr(postgres_place, "find_program", lacking)
    tools = servers_directory / "without-checks"  # the server's user gets there
    tools.mkdir()
    tools.chmod(0o755)
    for each in Path("/usr/lib/postgresql/15/bin").iterdir():
        if each.name != "pg_amcheck":
            (tools / each.name).symlink_to(each)
    server = machine.server(machine.postgres, machine.platform) | {"tools_path": str(tools)}
    with machine.open(postgres=server) as site:
        result = drill(site, DrillRequest(source="postgres"))
        assert result.verdict == "could not verify", result.trouble()
        told = {check.what: check.said for _, check in result.trouble()}
        assert told.keys() == {"pg_amcheck", "pg_verifybackup"}, told
        assert all("it was not run: " in said and "(next: install postgresql" in said for said in told.values()), told


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_a_source_whose_logs_never_came_is_not_proven_unless_it_is_to_have_none(
    machine: Machine, kind: str, tmp_path: Path
) -> None:
    server, name = (machine.mariadb, machine.shop) if kind == "mysql" else (machine.postgres, machine.platform)
    section = machine.server(server, name)
    body = machine.document() | {each: [] for each in ("mysql", "postgres", "config")}
    body |= {"vault": body["vault"] | {"root": str(tmp_path / "vault")}, kind: section}
    with Site(SiteConfig.model_validate(body)) as site:
        backup_one(site, Target(kind, name), tier="daily")
        result = drill(site, DrillRequest())
        assert result.verdict == "could not verify" and result.pieces()[0].verdict == "proven"
        (check,) = result.sources[0].checks
        about = f"mysql/{name}" if kind == "mysql" else "postgres"
        assert check.said.startswith(f"no logs of {about} are kept (next: ship them: backups ship --source {kind}")
    with Site(SiteConfig.model_validate(body | {kind: section | {"point_in_time": False}})) as site:
        result = drill(site, DrillRequest())
        assert result.verdict == "proven" and result.sources[0].checks == []


@pytest.mark.sampled
def test_a_dump_that_lies_and_says_so_itself_is_found_out_by_the_logs_of_the_full_before_it(machine: Machine) -> None:
    with machine.open() as site:
        of = Target("mysql", machine.shop)
        lying, _ = sealed_anew(site, of, machine.shop, lambda data: without_row("mysql", data), orders=699)
        result = drill(site, DrillRequest(source="mysql", thorough=True))
        (piece,) = result.pieces()
        for key in (lying.manifest_key, lying.key):
            site.vault.store("local").delete(key)
        assert piece.file == lying.file and piece.verdict == "proven", "by itself it is consistent"
        (check,) = (each for each in result.sources[0].checks if each.verdict != "proven")
        assert check.what == "from one full to the next"
        assert f"table orders: 700 rows, 699 in {lying.file}" in check.problems


@pytest.mark.soak(sample=False)
@pytest.mark.parametrize("server", ["mysql9_container", "mariadb_container", "postgres17_container"])
def test_a_source_in_a_container_is_drilled_in_containers_of_its_image(
    request: pytest.FixtureRequest, dockerd: DockerEngine, server: str, tmp_path: Path
) -> None:
    there: DatabaseServer = request.getfixturevalue(server)
    kind = "postgres" if there.flavour == "postgres" else "mysql"
    with there.database("boxed") as name:
        there.sql("CREATE TABLE t (id int PRIMARY KEY, d double precision, note varchar(40))", name)
        there.sql("INSERT INTO t VALUES (1, 0.1, 'it''s'), (2, 1e-9, '),('), (3, NULL, NULL)", name)
        with Site(boxed(there, name, tmp_path, **({"format": "custom"} if kind == "postgres" else {}))) as site:
            backup_one(site, Target(kind, name), tier="daily")
            if kind == "postgres":
                base(site, kind)
            there.sql("INSERT INTO t VALUES (4, 4, 'logged')", name)
            ship(site, kind)
            before = everything(dockerd)
            result = drill(site, DrillRequest(thorough=True))
            assert result.verdict == "proven", result.trouble()
            assert result.sources[0].past_seconds and "container" in result.sources[0].place
            assert scratch_left(site) == [] and everything(dockerd) == before


@pytest.mark.sampled
@pytest.mark.parametrize("server", ["mariadb_container", "postgres17_container"])
def test_a_drill_in_a_container_killed_in_the_middle_leaves_nothing_on_the_engine_after_the_next_sweep(
    request: pytest.FixtureRequest, dockerd: DockerEngine, server: str, tmp_path: Path
) -> None:
    there: DatabaseServer = request.getfixturevalue(server)
    kind = "postgres" if there.flavour == "postgres" else "mysql"
    with there.database("boxed") as name:
        there.sql("CREATE TABLE t (id int PRIMARY KEY)", name)
        config = boxed(there, name, tmp_path)
        with Site(config) as site:
            backup_one(site, Target(kind, name), tier="daily")
        before = everything(dockerd)
        killed = dying(orders_for(config, kind))
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        made = set(everything(dockerd)) - set(before)
        assert any(each.startswith(leftovers.PREFIX) for each in made), "the container"
        assert any(not each.startswith(leftovers.PREFIX) for each in made), "its volume"
        with Site(config) as site:
            journals = [Path(each) for each in scratch_left(site) if each.endswith(".jsonl")]
            steps = [json.loads(line) for journal in journals for line in journal.read_text().splitlines()]
            directories = [Path(step["path"]) for step in steps if step["step"] == "directory"]
            assert len(journals) == 1 and any(each.is_dir() for each in directories)
            swept = site.sweep()
            assert swept.problems == [] and any("removed container" in each for each in swept.done)
            assert scratch_left(site) == [] and not any(each.exists() for each in directories)
        assert everything(dockerd) == before


def dying(orders: bytes) -> subprocess.CompletedProcess[bytes]:
    """A drill of that source in a process of its own, killed when its backups are back."""
    return subprocess.run(
        [sys.executable, "-m", "tests.functional.dying_drill"], input=orders, capture_output=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip


def test_a_backup_that_is_not_there_fails(machine: Machine) -> None:
    with machine.open(mysql=machine.server(machine.mariadb, "never"), postgres=[], config=[]) as site:
        result = drill(site, DrillRequest(source="mysql"))
        assert result.verdict == "failed" and "no backup of mysql/never" in result.sentence()
        site.config.drill = DrillConfig.model_validate({"rto": "1h"})
        (late,) = finish(site, begin(site, DrillRequest(source="mysql")), result.sources).checks
        assert late.verdict == "could not verify" and "not measured" in late.said


@pytest.mark.sampled
@pytest.mark.parametrize("source", ["mysql", "postgres", "config"])
def test_a_drill_killed_in_the_middle_leaves_nothing_after_the_next_sweep(machine: Machine, source: str) -> None:
    done = dying(json.dumps({"site": machine.document(), "source": source}).encode())
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    with machine.open() as site:
        (journal,) = [Path(each) for each in scratch_left(site) if each.endswith(".jsonl")]
        steps = [json.loads(line) for line in journal.read_text().splitlines()]
        directories = [Path(step["path"]) for step in steps if step["step"] == "directory"]
        assert directories and all(each.is_dir() for each in directories)
        swept = site.sweep()
        assert swept.problems == [] and swept.done
        assert scratch_left(site) == [] and not any(each.exists() for each in directories)
        running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert not [each for each in directories if f"{each}/" in running]
