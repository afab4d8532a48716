"""A backup on a server of another version: texts may differ; names, kinds and columns may not, and it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.backup import capture as back_up
from engine.backup import verify
from engine.config import SiteConfig
from engine.manifest import Manifest
from engine.postgres import columns
from engine.progress import silent
from engine.restore import RestoreRequest, make_plan, run
from engine.site import Site, Target
from engine.source import Selection
from tasks.restore_report import approval_text, result_text
from tests.functional.postgres.kit import ALL, Backup, capture, hard_database, journal, source_for
from tests.servers.databases import DatabaseServer


@pytest.fixture(scope="module")
def hard(postgres15: DatabaseServer) -> Iterator[str]:
    with hard_database(postgres15) as name:
        yield name


@pytest.fixture(scope="module")
def backup(postgres15: DatabaseServer, hard: str) -> Backup:
    return capture(source_for(postgres15), hard)


def a_minor_before(manifest: Manifest, **contents: Any) -> Manifest:
    """As if the server had been updated since."""
    assert manifest.server is not None
    server = manifest.server.model_copy(update={"version": "15.1 (Debian 15.1-1)", "tool_version": "15.1"})
    return manifest.model_copy(update={"server": server, "contents": manifest.contents | contents})


@pytest.mark.parametrize(
    ("change", "said"),
    [  # of each kind
        ("DROP INDEX bronze.people_lower", "INDEX bronze.people_lower is missing"),
        ("CREATE TABLE bronze.planted (n int)", "TABLE bronze.planted is not in the backup"),
        ("DROP VIEW gold.x_view", "VIEW gold.x_view is missing"),
        ("ALTER TABLE bronze.plain_rows DROP COLUMN extra", "bronze.plain_rows has other columns"),
        ("ALTER TABLE bronze.plain_rows ALTER extra TYPE text", "bronze.plain_rows has other columns"),
        ("DROP FUNCTION gold.x_function", "FUNCTION gold.x_function() is missing"),
    ],
)
@pytest.mark.parametrize("recorded", ["each", "one digest of all"])
def test_what_is_missing_new_or_of_other_columns_fails_after_a_minor_update_too(
    change: str, said: str, recorded: str, postgres15: DatabaseServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = source_for(postgres15)
    with postgres15.database() as name:
        postgres15.sql(
            "CREATE SCHEMA bronze; CREATE SCHEMA gold; CREATE TABLE bronze.people (name text); "
            "CREATE INDEX people_lower ON bronze.people (lower(name)); CREATE VIEW gold.x_view AS SELECT 1 AS n; "
            "CREATE TABLE bronze.plain_rows (n int, extra varchar(20)); "
            "CREATE FUNCTION gold.x_function() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            name,
        )
        if recorded != "each":
            monkeypatch.setattr(columns, "MAX_RELATIONS", 1)
        taken = capture(source, name)
        manifest = a_minor_before(taken.manifest, **({} if recorded == "each" else {"schema_parts": {}}))
        side = f"{name}_side"
        with journal(tmp_path) as one:
            source.load_beside(taken.manifest, taken.open, side, ALL, one, silent)
            assert source.compare(manifest, side, ALL).schema_equal is True
            postgres15.sql(change, side)
            compared = source.compare(manifest, side, ALL)
            assert not compared.equal and compared.schema_equal is False
            if recorded == "each":
                assert any(said in problem for problem in compared.problems), compared.problems
            source.drop_side(side, one)


def test_a_text_that_differs_after_a_minor_update_is_excused_and_told(
    postgres15: DatabaseServer, hard: str, backup: Backup, tmp_path: Path
) -> None:
    source, side, manifest = source_for(postgres15), f"{hard}_text", a_minor_before(backup.manifest)
    with journal(tmp_path) as one:
        source.load_beside(backup.manifest, backup.open, side, ALL, one, silent)
        ((function,),) = postgres15.sql("SELECT oid::regprocedure::text FROM pg_proc WHERE proname = 'total'", side)
        quiet = "SET session_replication_role = replica"  # no event trigger writes a row
        postgres15.sql(f"{quiet}; ALTER FUNCTION {function} COST 4711", side)
        compared = source.compare(manifest, side, ALL)
        assert compared.equal and compared.schema_equal is None
        assert compared.unchecked.startswith("the text of definitions was not compared (the backup is of server 15.1")
        assert "names and kinds and columns are those of the backup" in compared.unchecked
        assert not source.compare(backup.manifest, side, ALL).equal  # of the same version nothing is excused
        older = manifest.model_copy(
            update={"contents": {key: value for key, value in manifest.contents.items() if key != "columns"}}
        )
        told = source.compare(older, side, ALL).unchecked
        assert "columns neither, since the backup does not tell them" in told
        part = source.compare(manifest, side, Selection(schemas=("workbench",)))
        assert part.schema_equal is None and part.unchecked
        source.drop_side(side, one)
    assert source.caveat(backup.manifest) == "" and "15.1" in source.caveat(manifest)


def test_a_backup_of_15_comes_back_on_17_and_what_was_not_compared_stands_in_the_first_line(
    postgres15: DatabaseServer, postgres17_container: DatabaseServer, hard: str, tmp_path: Path
) -> None:
    def site_of(server: DatabaseServer) -> Site:
        values: dict[str, Any] = {"user": server.user, "password": server.password, "databases": [hard]}
        if server.container:
            values |= {"service": server.service, "project": server.project, "docker_host": server.docker_host}
        else:
            values |= {"host": server.host, "port": server.port}
        vault = {"root": str(tmp_path), "keys": {"current": "main", "keys": {"main": "fake-key-" * 8}}}
        return Site(SiteConfig.model_validate({"site": "shop", "vault": vault, "postgres": values}))

    with site_of(postgres15) as old:
        entry, _ = back_up(old, Target("postgres", hard), tier="daily", progress=silent)
        verify(old, entry, progress=silent)
    with site_of(postgres17_container) as new:
        plan = make_plan(new, RestoreRequest(hard, into=hard))
        (caveat,) = [note for note in plan.notes if "the text of the same definition" in note]
        assert caveat.startswith("the backup is of server 15.") and "here are server 17." in caveat
        assert caveat in approval_text(plan)
        try:
            result = run(new, plan, approved=True)
            if result.comparison.schema_equal is None:
                assert ", but the text of definitions was not compared" in result_text(plan, result).splitlines()[2]
            else:
                assert result.but == ""
        finally:
            postgres17_container.sql(f'DROP DATABASE IF EXISTS "{hard}" WITH (FORCE)')
