"""Functions that lean on search_path: warned of before a dump, explained where a load meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import RestoreRefused
from engine.progress import silent
from tests.functional.postgres.kit import ALL, capture, journal, source_for
from tests.servers.databases import DatabaseServer

INNER = "CREATE FUNCTION s() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 5'; "
OUTER = "CREATE FUNCTION f2() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT s()'; "
PL = "CREATE FUNCTION f2() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN s(); END'; "
USES = {
    "generated column": "CREATE TABLE g (a int, b int GENERATED ALWAYS AS (f2()) STORED); INSERT INTO g VALUES (1)",
    "check": "CREATE TABLE g (a int CHECK (a < f2())); INSERT INTO g VALUES (1)",
    "check of a domain": "CREATE DOMAIN d AS int CHECK (VALUE < f2()); CREATE TABLE g (a d); INSERT INTO g VALUES (1)",
    "index": "CREATE TABLE g (a int); INSERT INTO g VALUES (1); CREATE INDEX ON g ((a + f2()))",
    "condition of an index": "CREATE TABLE g (a int); INSERT INTO g VALUES (1); CREATE INDEX ON g (a) WHERE a < f2()",
    "materialized view": "CREATE MATERIALIZED VIEW g AS SELECT f2() AS a",
}


@pytest.mark.sampled
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("outer", [OUTER, PL], ids=["sql", "plpgsql"])
def test_such_a_function_is_named_before_the_dump_and_at_the_restore(
    postgres15: DatabaseServer, tmp_path: Path, use: str, outer: str
) -> None:
    source = source_for(postgres15)
    with postgres15.database("path") as name:
        postgres15.sql(INNER + outer + USES[use], name)
        (warning,) = source.preflight(name).warnings
        assert "f2()" in warning and "ALTER FUNCTION public.f2() SET search_path" in warning
        backup = capture(source, name)
        with journal(tmp_path) as one:
            with pytest.raises(RestoreRefused, match=r"function s\(\) does not exist") as error:
                source.load_beside(backup.manifest, backup.open, f"{name}_side", ALL, one, silent)
            source.recover(one)
        assert "production was not touched" in error.value.kept
        assert "ALTER FUNCTION" in error.value.remedy and "SET search_path" in error.value.remedy
        postgres15.sql("ALTER FUNCTION f2() SET search_path = public", name)
        assert source.preflight(name).warnings == []
        backup = capture(source, name)
        with journal(tmp_path) as one:
            source.load_beside(backup.manifest, backup.open, f"{name}_side", ALL, one, silent)
            assert source.compare(backup.manifest, f"{name}_side", ALL).problems == []
            source.drop_side(f"{name}_side", one)


def test_a_load_in_the_custom_format_explains_it_too(postgres15: DatabaseServer, tmp_path: Path) -> None:
    source = source_for(postgres15, format="custom")
    with postgres15.database("path") as name:
        postgres15.sql(INNER + OUTER + USES["generated column"], name)
        backup = capture(source, name)
        with journal(tmp_path) as one:
            with pytest.raises(RestoreRefused, match=r"function s\(\) does not exist") as error:
                source.load_beside(backup.manifest, backup.open, f"{name}_side", ALL, one, silent)
            source.recover(one)
        assert "SET search_path" in error.value.remedy and "production was not touched" in error.value.kept


def test_the_way_by_hand_that_the_remedy_gives_works(postgres15: DatabaseServer, tmp_path: Path) -> None:
    source = source_for(postgres15)
    with postgres15.database("path") as name, postgres15.database("hand") as by_hand:
        postgres15.sql(INNER + OUTER + USES["generated column"], name)
        dump = capture(source, name).parts["data"].decode()
        line = "SELECT pg_catalog.set_config('search_path', '', false);"
        assert dump.count(line) == 1
        dump = dump.replace(line, "SET search_path = public;")
        copy, rows = "COPY public.g (a) FROM stdin;\n1\n\\.\n", "INSERT INTO public.g VALUES (1);\n"
        assert copy in dump
        plain = "\n".join(each for each in dump.replace(copy, rows).splitlines() if not each.startswith("\\"))
        postgres15.sql(plain, by_hand)
        assert postgres15.sql("SELECT b FROM public.g", by_hand) == [("5",)]


@pytest.mark.parametrize(
    "harmless",
    [
        INNER + OUTER.replace("SELECT s()", "SELECT public.s()") + USES["index"],
        INNER + OUTER.replace("SELECT s()", "SELECT length(''x'')") + USES["index"],
        INNER + OUTER,
        INNER + OUTER + "CREATE TABLE g (a int DEFAULT f2()); CREATE VIEW v AS SELECT f2()",
    ],
    ids=["qualified", "built-in", "unused", "called by nothing that loads"],
)
def test_functions_that_load_are_not_warned_of(postgres15: DatabaseServer, harmless: str) -> None:
    with postgres15.database("path") as name:
        postgres15.sql(harmless, name)
        assert source_for(postgres15).preflight(name).warnings == []


def test_a_check_that_looks_at_rows_that_come_later_is_explained(postgres15: DatabaseServer, tmp_path: Path) -> None:
    source = source_for(postgres15)
    with postgres15.database("path") as name:
        postgres15.sql(
            "CREATE TABLE z1 (a int); CREATE TABLE a1 (b int); INSERT INTO a1 VALUES (1); INSERT INTO z1 VALUES (1); "
            "CREATE FUNCTION cnt(int) RETURNS boolean LANGUAGE sql AS "
            "'SELECT EXISTS (SELECT 1 FROM public.z1 WHERE a = $1)'; ALTER TABLE a1 ADD CHECK (cnt(b))",
            name,
        )
        backup = capture(source, name)
        with journal(tmp_path) as one:
            with pytest.raises(RestoreRefused, match="rows of another table") as error:
                source.load_beside(backup.manifest, backup.open, f"{name}_side", ALL, one, silent)
            source.recover(one)
        assert "NOT VALID" in error.value.remedy and error.value.kept
