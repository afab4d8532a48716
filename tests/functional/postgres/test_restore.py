"""Restoring beside production reaches nothing else; a part can be had; harm is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import CredentialsRefused, MissingGrant, RestoreRefused, ToolFailed
from engine.manifest import Manifest
from engine.progress import silent
from engine.source import Selection
from tests.functional.postgres.kit import (
    ALL,
    Backup,
    capture,
    drop_like,
    fingerprint,
    hard_database,
    journal,
    properties,
    source_for,
    unused,
)
from tests.servers.databases import DatabaseServer


@pytest.fixture(scope="module")
def hard(postgres15: DatabaseServer) -> Iterator[str]:
    with hard_database(postgres15) as name:
        yield name


@pytest.fixture(scope="module")
def backup(postgres15: DatabaseServer, hard: str) -> Backup:
    return capture(source_for(postgres15), hard)


def test_a_side_database_is_closed_to_everybody_else(
    postgres15: DatabaseServer, hard: str, backup: Backup, tmp_path: Path
) -> None:
    source = source_for(postgres15)
    postgres15.sql("DROP ROLE IF EXISTS curious; CREATE ROLE curious LOGIN PASSWORD 'fake-curious-password'")
    with journal(tmp_path) as one:
        notes = source.load_beside(backup.manifest, backup.open, f"{hard}_closed", ALL, one, silent)
        assert not any("may connect" in note for note in notes)  # of a copy that takes production's place
        told = source.finish_side(backup.manifest, backup.open, f"{hard}_closed", ALL, one, silent)
        assert "may connect to" in told[0] and f"{hard}_closed" in told[0]
        other = source_for(postgres15, user="curious", password="fake-curious-password")
        with pytest.raises(MissingGrant, match="may not connect"):
            other.preflight(f"{hard}_closed")
        source.drop_side(f"{hard}_closed", one)
    postgres15.sql("DROP ROLE curious")


def test_an_existing_database_is_never_written_into(
    postgres15: DatabaseServer, hard: str, backup: Backup, tmp_path: Path
) -> None:
    before = fingerprint(postgres15, hard)
    with journal(tmp_path) as one:
        with pytest.raises(RestoreRefused, match="exists already"):
            source_for(postgres15).load_beside(backup.manifest, backup.open, hard, ALL, one, silent)
        with pytest.raises(RestoreRefused, match="not a side database"):
            source_for(postgres15).drop_side(hard, one)
        source_for(postgres15).recover(one)
    assert fingerprint(postgres15, hard) == before


@pytest.mark.parametrize("form", ["plain", "custom"])
def test_some_tables_come_back_without_the_rows_of_others(
    postgres15: DatabaseServer, hard: str, form: str, tmp_path: Path
) -> None:
    source, side = source_for(postgres15, format=form), f"{hard}_some_{form}"
    backup = capture(source, hard)
    some = Selection(tables=("silver.events", "bronze.people"))
    with journal(tmp_path) as one:
        notes = source.load_beside(backup.manifest, backup.open, side, some, one, silent)
        compared = source.compare(backup.manifest, side, some)
        assert compared.problems == []
        assert set(compared.found) == {
            "bronze.people",
            "silver.events 2024 click",
            "silver.events_2024_rest",
            "silver.events_other",
        }
        rows = source.state(side, count=True).rows
        assert rows["workbench.everything"] == rows["bronze.teams"] == 0 and rows["bronze.people"] == 500
        assert any("Foreign key left out" in note for note in notes)
        source.drop_side(side, one)


def test_a_schema_comes_back_with_its_own_definitions_equal(
    postgres15: DatabaseServer, hard: str, backup: Backup, tmp_path: Path
) -> None:
    source, side, silver = source_for(postgres15), f"{hard}_silver", Selection(schemas=("silv*",))
    with journal(tmp_path) as one:
        source.load_beside(backup.manifest, backup.open, side, silver, one, silent)
        compared = source.compare(backup.manifest, side, silver)
        assert compared.problems == [] and compared.schema_equal and sum(compared.found.values()) == 6003
        source.drop_side(side, one)


def test_a_selection_that_matches_nothing_is_refused(
    postgres15: DatabaseServer, hard: str, backup: Backup, tmp_path: Path
) -> None:
    with journal(tmp_path) as one, pytest.raises(RestoreRefused, match="matches no table"):
        source_for(postgres15).load_beside(
            backup.manifest, backup.open, f"{hard}_none", Selection(tables=("x.y",)), one, silent
        )


def test_roles_that_are_missing_are_made_without_login_and_named(postgres15: DatabaseServer, tmp_path: Path) -> None:
    source = source_for(postgres15)
    postgres15.sql(
        "DROP ROLE IF EXISTS gone_owner; CREATE ROLE gone_owner LOGIN; "
        "DROP ROLE IF EXISTS gone_reader; CREATE ROLE gone_reader LOGIN"
    )
    with postgres15.database() as name:
        postgres15.sql(
            "CREATE TABLE t (n int); ALTER TABLE t OWNER TO gone_owner; GRANT SELECT ON t TO gone_reader", name
        )
        backup = capture(source, name)
        postgres15.sql("DROP OWNED BY gone_owner, gone_reader; DROP ROLE gone_owner, gone_reader", name)
        with journal(tmp_path) as one:
            notes = source.load_beside(backup.manifest, backup.open, f"{name}_side", ALL, one, silent)
            assert any("gone_owner, gone_reader" in note for note in notes)
            assert source.compare(backup.manifest, f"{name}_side", ALL).equal
            assert postgres15.sql("SELECT rolcanlogin FROM pg_roles WHERE rolname LIKE 'gone_%'") == [("f",), ("f",)]
            source.recover(one)
        assert postgres15.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'gone_%'") == []
        assert not source.state(f"{name}_side").exists


def adopted(backup: Backup, data: bytes) -> Backup:
    """The backup as a file that another tool made: its manifest knows nothing."""
    bare = backup.manifest.model_copy(
        update={"rows": {}, "contents": {}, "schema_sha256": "", "server": None, "adopted": True}
    )
    return replace(backup, manifest=Manifest.model_validate(bare.model_dump()), parts={"data": data})


def test_a_dump_that_would_alter_production_itself_cannot(
    postgres15: DatabaseServer, hard: str, tmp_path: Path
) -> None:
    source, side = source_for(postgres15), f"{hard}_adopted"
    dump = subprocess.run(
        [
            "/usr/lib/postgresql/15/bin/pg_dump",
            "--create",
            "-h",
            postgres15.host,
            "-p",
            str(postgres15.port),
            "-U",
            postgres15.user,
            hard,
        ],
        capture_output=True,
        check=True,
        env={"PGPASSWORD": postgres15.password},
    ).stdout
    assert f"\\connect {hard}".encode() in dump and b"ALTER DATABASE" in dump
    dump = dump.replace(b"'7MB'", b"'9MB'")  # so that a leak would show
    backup = adopted(capture(source, hard), dump)
    before = fingerprint(postgres15, hard), properties(postgres15, hard)
    with journal(tmp_path) as one:
        notes = source.load_beside(backup.manifest, backup.open, side, ALL, one, silent)
        assert any("about the database itself were left out" in note for note in notes)
        assert (fingerprint(postgres15, hard), properties(postgres15, hard)) == before
        assert fingerprint(postgres15, side) == before[0]
        source.drop_side(side, one)


@pytest.mark.parametrize(
    "line, words",
    [
        (b"\\connect first\n\\connect second\n", "several databases"),
        (b"\\! touch /tmp/backup-flows-was-here\n", "pg_dump never writes"),
    ],
)
def test_a_dump_with_commands_for_psql_is_refused(
    postgres15: DatabaseServer, hard: str, backup: Backup, tmp_path: Path, line: bytes, words: str
) -> None:
    source = source_for(postgres15)
    harmful = replace(backup, parts={"data": line + backup.parts["data"]})
    with journal(tmp_path) as one:
        with pytest.raises(RestoreRefused, match=words):
            source.load_beside(backup.manifest, harmful.open, f"{hard}_harm", ALL, one, silent)
        source.recover(one)
    assert not source.state(f"{hard}_harm").exists and not Path("/tmp/backup-flows-was-here").exists()


def test_an_error_in_the_dump_stops_the_load_with_psqls_words(
    postgres15: DatabaseServer, hard: str, backup: Backup, tmp_path: Path
) -> None:
    source = source_for(postgres15)
    broken = backup.altered(b"CREATE SCHEMA gold;", b"CREATE SCHEMA audit;")
    with journal(tmp_path) as one:
        with pytest.raises(ToolFailed, match=r'schema "audit" already exists'):
            source.load_beside(backup.manifest, broken.open, f"{hard}_broken", ALL, one, silent)
        source.recover(one)
    assert not source.state(f"{hard}_broken").exists


def test_what_differs_from_the_backup_is_named(
    postgres15: DatabaseServer, hard: str, backup: Backup, tmp_path: Path
) -> None:
    source, side = source_for(postgres15), f"{hard}_differs"
    with journal(tmp_path) as one:
        source.load_beside(backup.manifest, backup.open, side, ALL, one, silent)
        postgres15.sql(
            "DELETE FROM ONLY silver.animals; DROP TABLE workbench.empty; "
            "REVOKE SELECT ON bronze.teams FROM app_reader;"
            "SELECT setval('workbench.unused', 9); SELECT lo_unlink(max(oid)) FROM pg_largeobject_metadata",
            side,
        )
        text = "\n".join(source.compare(backup.manifest, side, ALL).problems)
        for words in (
            "table silver.animals has 0 rows, the backup 1",
            "table workbench.empty is missing",
            "sequence workbench.unused stands at 9",
            "1 large objects, in the backup 2",
            "ACL bronze.TABLE teams is",
            "TABLE workbench.empty is missing",
        ):
            assert words in text
        source.drop_side(side, one)


def test_schemas_are_exchanged_in_one_transaction_and_the_previous_ones_kept(
    postgres15: DatabaseServer, tmp_path: Path
) -> None:
    source = source_for(postgres15)
    with hard_database(postgres15) as name:
        backup = capture(source, name)
        before = fingerprint(postgres15, name)
        postgres15.sql("DROP PUBLICATION changes", name)  # it would stay with the previous table
        postgres15.sql("DELETE FROM bronze.people WHERE id > 400; TRUNCATE silver.dogs", name)
        schemas = Selection(schemas=("silver", "gold", "bronze"))
        with journal(tmp_path) as one:
            source.load_beside(backup.manifest, backup.open, f"{name}_side", schemas, one, silent)
            assert source.compare(backup.manifest, f"{name}_side", schemas).problems == []
            with pytest.raises(RestoreRefused, match="lean on it"):
                source.swap(
                    backup.manifest,
                    backup.open,
                    f"{name}_side",
                    name,
                    f"{name}_before_x",
                    Selection(schemas=("bronze",)),
                    one,
                    silent,
                )
            with pytest.raises(RestoreRefused, match="Single tables"):
                source.swap(
                    backup.manifest,
                    backup.open,
                    f"{name}_side",
                    name,
                    f"{name}_before_x",
                    Selection(tables=("bronze.people",)),
                    one,
                    silent,
                )
            report = source.swap(
                backup.manifest, backup.open, f"{name}_side", name, f"{name}_before_x", schemas, one, silent
            )
        assert report.kept_as == "bronze_before_x, gold_before_x, silver_before_x"
        after = fingerprint(postgres15, name)
        for table, rows in before.items():
            if table.startswith(("silver.", "gold.", "bronze.")):
                assert after[table] == rows, table
        assert postgres15.sql("SELECT count(*) FROM bronze_before_x.people", name) == [("400",)]
        assert postgres15.sql("INSERT INTO bronze.people (team, name) VALUES (1, 'new') RETURNING id", name) == [
            ("501",)
        ]
        assert postgres15.sql("SELECT what FROM audit.log ORDER BY id DESC LIMIT 1", name) == [("INSERT on 'people'",)]
        assert not source.state(f"{name}_side").exists


def test_an_event_trigger_does_not_fire_while_loading(postgres15: DatabaseServer, tmp_path: Path) -> None:
    source, name = source_for(postgres15), unused("fires")
    postgres15.sql(f"CREATE DATABASE {name}")
    try:
        postgres15.sql(
            """CREATE TABLE seen (tag text); CREATE FUNCTION see() RETURNS event_trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO public.seen VALUES (TG_TAG); END $$; CREATE MATERIALIZED VIEW m AS SELECT 1 AS one;
            CREATE EVENT TRIGGER see ON ddl_command_end EXECUTE FUNCTION see()""",
            name,
        )
        for form in ("plain", "custom"):
            source = source_for(postgres15, format=form)
            backup = capture(source, name)
            with journal(tmp_path) as one:
                source.load_beside(backup.manifest, backup.open, f"{name}_{form}", ALL, one, silent)
                assert postgres15.sql("SELECT * FROM seen", f"{name}_{form}") == []
    finally:
        drop_like(postgres15, f"{name}%")


def test_a_user_who_may_not_create_databases_is_told_so(
    postgres15: DatabaseServer, hard: str, backup: Backup, tmp_path: Path
) -> None:
    postgres15.sql("DROP ROLE IF EXISTS no_maker; CREATE ROLE no_maker LOGIN PASSWORD 'fake-maker-password'")
    source = source_for(postgres15, user="no_maker", password="fake-maker-password")
    with journal(tmp_path) as one, pytest.raises(MissingGrant, match='ALTER ROLE "no_maker" CREATEDB'):
        source.load_beside(backup.manifest, backup.open, f"{hard}_no", ALL, one, silent)
    with pytest.raises(CredentialsRefused):
        source_for(postgres15, user="no_maker", password="fake-wrong-password").server()
    postgres15.sql("DROP ROLE no_maker")
