"""The parts of a drill that need no server: digests of rows, queries, verdicts, the moment drawn by lot, JUnit."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.config import DrillConfig, DrillQuery, SiteConfig
from engine.drill.asked import judge
from engine.drill.base import room_needed
from engine.drill.junit import junit
from engine.drill.past import draw
from engine.drill.record import keep, proofs
from engine.drill.rows import CopyRows, InsertRows, RowSet, split_rows
from engine.drill.run import DrillRequest, also_due
from engine.drill.targets import _rto
from engine.drill.verdict import Check, DrillResult, PieceResult, SourceResult, worst
from engine.durations import in_words, seconds_of
from engine.errors import DiskFull, IntegrityError
from engine.queries import refusal
from engine.recovery.window import Anchor, Window
from engine.site import Site, Target

NOON = datetime(2026, 11, 22, 12, 0, 0, 500_000, tzinfo=UTC)


def escaped(text: str) -> bytes:
    """A string as the dump programs write it."""
    for plain, written in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\0", "\\0")):
        text = text.replace(plain, written)
    return b"'" + text.encode() + b"'"


values = st.one_of(
    st.integers().map(lambda n: str(n).encode()),
    st.just(b"NULL"),
    st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("'\\(),;\n"), max_size=12).map(escaped),
)
tables = st.lists(st.lists(values, min_size=1, max_size=4).map(b",".join), min_size=1, max_size=8)


@given(rows=tables, cuts=st.lists(st.integers(1, 40), min_size=1, max_size=5), lines=st.booleans())
def test_rows_are_the_same_in_either_style_however_they_come_and_in_any_order(
    rows: list[bytes], cuts: list[int], lines: bool
) -> None:
    separator, start = (b",\n", b"\n") if lines else (b",", b" ")
    text = b"INSERT INTO `t` VALUES" + start + separator.join(b"(" + row + b")" for row in rows) + b";\n"
    found = InsertRows({"t"})
    at, number = 0, 0
    while at < len(text):
        found.feed(text[at : at + cuts[number % len(cuts)]])
        at, number = at + cuts[number % len(cuts)], number + 1
    expected = RowSet()
    for row in reversed(rows):
        expected.add(row)
    assert found.finish()["t"] == expected


def test_only_wanted_tables_are_hashed_and_a_name_may_hold_a_backtick() -> None:
    found = InsertRows({"odd `one"})
    found.feed(b"INSERT INTO `odd ``one` (`a`) VALUES (1),(2);\nINSERT INTO `other` VALUES\n(1,'),(');\n")
    found.feed(b"INSERT INTO `odd ``one` (`a`) VALUES (3);\n")
    assert {name: rows.rows for name, rows in found.finish().items()} == {"odd `one": 3}
    assert list(split_rows(b"(1,'),('),(2,'\\'),(')")) == [b"1,'),('", b"2,'\\'),('"]
    with pytest.raises(IntegrityError):
        InsertRows({"t"}).feed(b"UPDATE t SET a = 1;\n")


def test_a_copy_block_gives_a_row_a_line_and_not_its_end() -> None:
    one, other = RowSet(), RowSet()
    CopyRows(one).feed(b"1\ta\\nb\n2\t\\N\n\\.\n")
    reader = CopyRows(other)
    for piece in (b"2\t", b"\\N\n1\ta", b"\\nb\n"):
        reader.feed(piece)
    assert one == other and one.rows == 2
    CopyRows(other).feed(b"2\t\\N\n")
    assert one.digest != other.digest


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM workbench.users",
        "select 'INSERT INTO t; DROP TABLE t' -- DELETE FROM t;",
        "WITH a AS (SELECT 1 AS n) SELECT n FROM a;",
        "(SELECT max(id) FROM t) /* into */",
        "SHOW TABLES",
        'SELECT "into" FROM t',
        "SELECT REPLACE(name, 'a', 'b') FROM t",
    ],
)
def test_a_query_that_reads_is_taken(query: str) -> None:
    assert refusal(query) == ""


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM users",
        "",
        "SELECT 1; DROP TABLE users",
        "SELECT * FROM t INTO OUTFILE '/tmp/x'",
        "SELECT * INTO copy FROM t",
        "WITH gone AS (DELETE FROM t RETURNING *) SELECT count(*) FROM gone",
        "SELECT id FROM t FOR UPDATE",
        "SELECT nextval('s')",
        "SELECT 1 /*!50003 INTO @x */",
        "COPY t TO PROGRAM 'sh'",
    ],
)
def test_a_query_that_does_not_only_read_is_refused(query: str) -> None:
    assert refusal(query)
    with pytest.raises(ValidationError, match="drill query"):
        DrillQuery.model_validate({"query": query, "at_least": 1})


def test_a_query_must_expect_something_and_a_target_be_a_span() -> None:
    with pytest.raises(ValidationError, match="expects nothing"):
        DrillQuery.model_validate({"query": "SELECT 1"})
    with pytest.raises(ValidationError, match="drill.rto is no span of time"):
        DrillConfig.model_validate({"rto": "soon"})
    assert seconds_of("90s") == 90 and seconds_of("2 w") == 1_209_600
    assert [in_words(each) for each in (4.21, 200, 3840, 200_000)] == ["4.2 s", "3 min 20 s", "1 h 4 min", "2 days 7 h"]


@pytest.mark.parametrize(
    ("expects", "rows", "wrong"),
    [
        ({"at_least": 10, "at_most": 20}, [(15,)], ""),
        ({"at_least": 10}, [(9,)], "at least 10"),
        ({"at_most": 20}, [("20.5",)], "at most 20"),
        ({"equals": "live"}, [(b"live",)], ""),
        ({"equals": "live"}, [("dead",)], "'live'"),
        ({"at_least": 1}, [("many",)], "no number"),
        ({"at_least": 1}, [(None,)], "no number"),
        ({"at_least": 1}, [("nan",)], "expected"),
        ({"at_least": 1}, [], "0 rows"),
        ({"at_least": 1}, [(1,), (2,)], "2 rows"),
    ],
)
def test_an_answer_is_held_against_what_is_expected(
    expects: dict[str, Any], rows: list[tuple[Any, ...]], wrong: str
) -> None:
    problem, _ = judge(DrillQuery.model_validate({"query": "SELECT 1", **expects}), rows)
    assert bool(problem) == bool(wrong) and wrong in problem


def test_what_nobody_could_verify_is_never_proven() -> None:
    assert worst([]) == "could not verify"
    assert worst(["proven", "could not verify"]) == "could not verify"
    assert worst(["could not verify", "failed", "proven"]) == "failed"
    assert SourceResult("mysql", "mysql").verdict == PieceResult("a", "b").verdict == "could not verify"


def test_where_there_is_no_room_the_message_says_how_much_is_needed() -> None:
    with pytest.raises(DiskFull, match="needs about 2,000 bytes in /var/tmp; 500 are free") as refused:
        room_needed("A drill of mysql", 2000, 500, "/var/tmp")
    assert "free 1,500 bytes" in refused.value.remedy
    room_needed("A drill of mysql", 2000, 2000, "/var/tmp")


def window(earliest: datetime, seconds: float) -> Window:
    return Window(Anchor("f", "", 1, 4, earliest), (), earliest, earliest + timedelta(seconds=seconds), "")


@given(seed=st.integers(1, 10_000), lengths=st.lists(st.sampled_from([0.0, 0.2, 1.0, 7.5, 86_400.0]), min_size=1))
def test_the_moment_drawn_lies_in_a_window_and_the_seed_draws_it_again(seed: int, lengths: list[float]) -> None:
    windows = [window(NOON + timedelta(days=2 * number), length) for number, length in enumerate(lengths)]
    drawn = [draw(random.Random(seed), windows) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert any(each.holds(drawn[0]) for each in windows)


def result() -> DrillResult:
    piece = PieceResult("mysql", "shop", "shop_20261122_120000.sql.gz.enc", restore_seconds=3.0)
    piece.checks.append(Check("opens", "restore", "proven", "restored"))
    piece.checks.append(Check("volume", "row counts", "failed", "other rows", ("table orders: 9 rows, not 10\x01",)))
    source = SourceResult("mysql", "mysql", pieces=[piece], restore_seconds=4.0, rpo_seconds=60.0)
    source.checks.append(Check("point in time", "recovery", "could not verify", "no server"))
    return DrillResult("shop", "20261122_120000-00000000", 7, False, {}, NOON, NOON, "1h", "30s", [source])


def test_the_sentence_names_what_failed_first_and_the_missed_rpo_is_known() -> None:
    made = result()
    assert made.sentence().startswith("drill of shop failed: mysql/shop: row counts: other rows: table orders: 9 rows")
    assert [each.source for each in made.rpo_missed] == ["mysql"]
    assert made.as_dict()["verdict"] == "failed"


def test_the_monthly_drill_tries_the_older_backups_of_the_site_in_turn_and_nothing_a_person_did_not_name() -> None:
    config = DrillConfig.model_validate({"also": ["oldest", "cold"]})
    months = [datetime(2026, month, 1, 5, tzinfo=UTC) for month in (11, 12)] + [datetime(2027, 1, 1, 5, tzinfo=UTC)]
    due = [also_due(config, DrillRequest(thorough=True), each) for each in months]
    assert [each and each.backup for each in due] in (["oldest", "cold", "oldest"], ["cold", "oldest", "cold"])
    assert all(each is not None and each.thorough and not each.point_in_time for each in due)
    assert also_due(DrillConfig.model_validate({}), DrillRequest(), NOON) is None
    for asked in (DrillRequest(source="mysql"), DrillRequest(database="shop"), DrillRequest(backup="before x")):
        assert also_due(config, asked, NOON) is None
    with pytest.raises(ValidationError):
        DrillConfig.model_validate({"also": ["newest"]})


def test_only_what_can_be_read_without_a_place_may_be_left_unrestored() -> None:
    n8n = {"name": "flows", "url": "http://127.0.0.1:1", "api_key": "FAKE"}
    body = {"site": "shop", "vault": {"root": "/v", "keys": {"keys": {"main": "fake" * 10}}}, "n8n": n8n, "mysql": {}}
    made = SiteConfig.model_validate({**body, "drill": {"not_restored": ["flows"]}})
    assert made.drill.not_restored == ["flows"]
    for name in ("mysql", "flow"):
        with pytest.raises(ValidationError, match=f"drill.not_restored: {name} is no source of buckets and no n8n"):
            SiteConfig.model_validate({**body, "drill": {"not_restored": [name]}})


def test_the_time_target_is_held_against_what_is_to_be_restored_and_names_the_rest() -> None:
    made = result()
    made.pieces()[0].checks.pop()
    read = PieceResult("images", "images", only_read="every stored layer against its digest")
    read.checks.append(Check("content", "every layer's digest", "proven", "read"))
    made.sources.append(SourceResult("images", "images", pieces=[read]))
    (target,) = _rto("RTO", "everything", "1h", made.sources)
    assert target.said.startswith("4.0 s for everything but images/images (only read), the target is 1h")
    assert target.verdict == "proven"
    read.checks.append(Check("opens", "restore", "could not verify", "only read"))
    (target,) = _rto("RTO", "everything", "1h", made.sources)
    assert target.verdict == "could not verify" and "not everything could be restored" in target.said


def test_sites_that_share_a_folder_keep_their_records_apart(tmp_path: Path) -> None:
    def site(name: str) -> Site:
        vault = {"root": str(tmp_path), "path": "backups/{directory}", "keys": {"keys": {"main": f"fake-{name}" * 10}}}
        return Site(SiteConfig.model_validate({"site": name, "vault": vault, "mysql": {"databases": ["shop"]}}))

    for name in ("shop", "shop-two"):
        made = replace(result(), site=name)
        made.sources[0].checks.clear()
        made.pieces()[0].checks.pop()
        with site(name) as opened:
            assert keep(opened, made) == f"backups/drills/{name}-{made.id}.json"
    for name in ("shop", "shop-two"):
        with site(name) as opened:
            found = proofs(opened.vault)
            assert found.problems == [] and set(found.newest) == {Target("mysql", "shop")}
            assert list(opened.vault.catalog().entries()) == [], "a record is no backup"


def test_junit_shows_failed_as_a_failure_and_unverified_as_an_error() -> None:
    root = xml.fromstring(junit(result()))
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None and "table orders: 9 rows" in (failure.text or "")
