"""Counting rows in a dump's stream: whatever the values say, and wherever the chunks are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import IntegrityError
from engine.mysql.rows import RowCounter, compare_rows

_ESCAPES = {0: b"\\0", 10: b"\\n", 13: b"\\r", 26: b"\\Z", 34: b'\\"', 39: b"\\'", 92: b"\\\\"}
_NASTY = st.lists(
    st.sampled_from(
        ["'", '"', "\\", "\n", "),(", ")", "(", ",", ";", ");\n", "),\n(", "x", "é", "😀", "\0", "`", "--", "/*!", "*/",
         "INSERT INTO `t` VALUES (1),(2);\n", "\n-- Dump completed", "DELIMITER ;;", "UNLOCK TABLES;"]
    ),
    max_size=8,
).map("".join)  # fmt: skip
_VALUE = st.one_of(_NASTY, st.none(), st.integers(-5, 10**9), st.binary(max_size=6), st.just("x" * 300))
_ROWS = st.lists(st.lists(_VALUE, min_size=1, max_size=3), min_size=1, max_size=12)
_NAMES = st.sampled_from(["t", "od`d", "VALUES (", "таблица 表", "a b; -- c", "q'q\"q", "`"])
_TABLES = st.dictionaries(_NAMES, st.tuples(_ROWS, st.booleans()), min_size=1, max_size=4)


def literal(value: object) -> bytes:
    """A value as the dump programs write it with --hex-blob."""
    if value is None:
        return b"NULL"
    if isinstance(value, bytes):
        return b"0x" + value.hex().upper().encode() if value else b"''"
    if isinstance(value, int):
        return str(value).encode()
    return b"'" + b"".join(_ESCAPES.get(byte, bytes([byte])) for byte in str(value).encode()) + b"'"


def dump_of(tables: dict[str, tuple[list[list[object]], bool]], *, row_a_line: bool) -> bytes:
    """A dump of these tables in MariaDB's or in MySQL's style; with a column list where asked."""
    out = [b"-- a dump\n\n/*!40101 SET NAMES utf8mb4 */;\n"]
    for name, (rows, listed) in tables.items():
        quoted = b"`" + name.replace("`", "``").encode() + b"`"
        columns = b" (`a``VALUES (`, `b`)" if listed else b""
        out.append(b"DROP TABLE IF EXISTS " + quoted + b";\nCREATE TABLE " + quoted + b" (\n  `a` int\n)")
        out.append(b"\n/*!50100 PARTITION BY HASH (a)\n(PARTITION p0,\n PARTITION p1) */;\n")
        out.append(b"LOCK TABLES " + quoted + b" WRITE;\n")
        values = [b"(" + b",".join(map(literal, row)) + b")" for row in rows]
        half = len(values) // 2
        for part in (values[:half], values[half:]):
            if part and row_a_line:
                opening = b" VALUES " if listed else b" VALUES\n"  # MariaDB itself puts the first row there
                out.append(b"INSERT INTO " + quoted + columns + opening + b",\n".join(part) + b";\n")
            elif part:
                out.append(b"INSERT INTO " + quoted + columns + b" VALUES " + b",".join(part) + b";\n")
        out.append(b"/*!40000 ALTER TABLE " + quoted + b" ENABLE KEYS */;\nUNLOCK TABLES;\n")
        out.append(b"DELIMITER ;;\n/*!50003 CREATE*/ TRIGGER x BEGIN\nINSERT INTO `ghost` VALUES\n(1),\n(2);\n")
        out.append(b"END */;;\nDELIMITER ;\n")
    out.append(b"/*!50001 VIEW `v` AS select 'a\nINSERT INTO `ghost` VALUES (1);\nb' */;\n")
    out.append(b"-- Dump completed on 2025-01-16\n")
    return b"".join(out)


def count(dump: bytes, sizes: list[int]) -> dict[str, int]:
    counter = RowCounter()
    at = turn = 0
    while at < len(dump):
        size = sizes[turn % len(sizes)]
        counter.feed(dump[at : at + size])
        at, turn = at + size, turn + 1
    return counter.finish()


@settings(max_examples=300, deadline=None)
@given(tables=_TABLES, row_a_line=st.booleans(), sizes=st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_rows_are_counted_whatever_the_values_say_and_wherever_the_chunks_are_cut(
    tables: dict[str, tuple[list[list[object]], bool]], row_a_line: bool, sizes: list[int]
) -> None:
    dump = dump_of(tables, row_a_line=row_a_line)
    assert count(dump, sizes) == {name: len(rows) for name, (rows, _) in tables.items()}


@settings(max_examples=100, deadline=None)
@given(tables=_TABLES, row_a_line=st.booleans(), cut=st.floats(0, 0.999))
def test_a_dump_that_is_cut_off_anywhere_is_refused(
    tables: dict[str, tuple[list[list[object]], bool]], row_a_line: bool, cut: float
) -> None:
    dump = dump_of(tables, row_a_line=row_a_line)
    end = dump.rindex(b"-- Dump completed") + 10
    with pytest.raises(IntegrityError, match="cut off"):
        count(dump[: int(end * cut)], [64 * 1024])


def test_words_after_the_end_marker_make_it_no_end() -> None:
    with pytest.raises(IntegrityError, match="cut off"):
        count(b"-- Dump completed on 2025-01-16\nINSERT INTO `t` VALUES (1);\n", [10])


def test_the_log_position_is_read_in_both_dialects() -> None:
    for line in (
        b"-- CHANGE MASTER TO MASTER_LOG_FILE='mysql-bin.000007', MASTER_LOG_POS=4711;",
        b"-- CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='mysql-bin.000007', SOURCE_LOG_POS=4711;",
    ):
        counter = RowCounter()
        counter.feed(line + b"\n")
        assert (counter.log.binlog_file, counter.log.binlog_position) == ("mysql-bin.000007", 4711)
        assert counter.begun


def test_a_row_far_larger_than_a_chunk_is_not_kept_in_memory() -> None:
    for opening in (b"INSERT INTO `t` VALUES (1,'", b"INSERT INTO `t` VALUES\n(1,'"):
        counter = RowCounter()
        counter.feed(b"CREATE TABLE `t` (\n  `a` int\n);\n" + opening)
        for _ in range(64):
            counter.feed(b"x),(" * 16 * 1024)
            assert len(counter._held) < 1024
        counter.feed(b"');\n-- Dump completed on 2025-01-16\n")
        assert counter.finish() == {"t": 1}


def test_a_difference_names_the_table_and_both_numbers() -> None:
    with pytest.raises(IntegrityError, match="'orders' has 9 rows, its manifest says 10"):
        compare_rows({"orders": 9}, {"orders": 10}, [], what="x", other="its manifest")
    with pytest.raises(IntegrityError, match=r"'orders' is missing \(10 rows expected\)"):
        compare_rows({}, {"orders": 10}, [], what="x", other="its manifest")
    with pytest.raises(IntegrityError, match="'huge' is missing"):
        compare_rows({}, {}, ["huge"], what="x", other="its manifest")
