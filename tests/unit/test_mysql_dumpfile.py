"""Splitting the text of a dump: whatever its chunks, bodies and data, each piece goes where it belongs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import IntegrityError, RestoreRefused
from engine.mysql.dumpfile import DumpFacts, DumpReader, Piece, Section
from engine.mysql.statements import (
    alter_database,
    bare_trigger,
    created_kind,
    event_with_status,
    is_session_only,
    names_another_schema,
)

HEAD = b"""/*M!999999\\- enable the sandbox mode */
-- MariaDB dump 10.19  Distrib 10.11.14-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: localhost    Database: prod
-- ------------------------------------------------------
/*!40101 SET NAMES utf8mb4 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
"""
FOOT = b"""/*!40014 SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;

-- Dump completed on 2025-01-16  2:00:00
"""
TABLE = b"""
--
-- Table structure for table `t`
--

DROP TABLE IF EXISTS `t`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
CREATE TABLE `t` (
  `a` int(11) DEFAULT NULL COMMENT 'it''s; -- not the end;',
  `b;` text DEFAULT NULL
) ENGINE=InnoDB;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `t`
--

LOCK TABLES `t` WRITE;
INSERT INTO `t` VALUES
(1,'-- Dumping routines for database \\'x\\'\\n/*!50003 SET @saved_cs_client'),
(2,'x;');
INSERT INTO `t` VALUES (3,'DELIMITER ;;'),(4,NULL);
UNLOCK TABLES;
"""
CODE = b"""ALTER DATABASE `prod` CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci ;
/*!50003 SET @saved_cs_client      = @@character_set_client */ ;
DELIMITER ;;
/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER ti AFTER INSERT ON t FOR EACH ROW BEGIN
-- Dumping routines for database 'prod'
INSERT INTO t VALUES
(1,'two
lines;;
and a headline:
-- Table structure for table `u`
');
/* DELIMITER ;
   END ;; */
END */;;
DELIMITER ;
ALTER DATABASE `prod` CHARACTER SET latin1 COLLATE latin1_swedish_ci ;

--
-- Temporary table structure for view `v`
--

SET @saved_cs_client     = @@character_set_client;
/*!50001 CREATE VIEW `v` AS SELECT
 1 AS `a`*/;

--
-- Dumping events for database 'prod'
--
DELIMITER ;;
/*!50106 CREATE*/ /*!50117 DEFINER=`root`@`localhost`*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY ON COMPLETION \
NOT PRESERVE ENABLE DO SELECT 1 */ ;;
DELIMITER ;

--
-- Dumping routines for database 'prod'
--
/*!50003 SET sql_mode              = 'ANSI,NO_BACKSLASH_ESCAPES' */ ;
DELIMITER ;;
CREATE DEFINER=`root`@`localhost` PROCEDURE `p`()
BEGIN
-- Final view structure for view `v`
SELECT 'a backslash \\';
END ;;
DELIMITER ;
/*!50003 SET sql_mode              = @saved_sql_mode */ ;

--
-- Final view structure for view `v`
--

/*!50001 CREATE ALGORITHM=UNDEFINED */
/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */
/*!50001 VIEW `v` AS select `t`.`a` AS `a` from `t` */;
"""
DUMP = HEAD + TABLE + CODE + FOOT


def read(dump: bytes, size: int = 1 << 20) -> tuple[list[Piece], DumpFacts]:
    """All pieces, with stretches of rows of one table put together."""
    reader = DumpReader(dump[at : at + size] for at in range(0, len(dump), size))
    pieces: list[Piece] = []
    for piece in reader.pieces():
        if piece.raw and pieces and pieces[-1].raw and pieces[-1].name == piece.name:
            pieces[-1] = Piece(piece.section, piece.name, pieces[-1].data + piece.data, raw=True)
        else:
            pieces.append(piece)
    return pieces, reader.facts


def made(pieces: list[Piece], section: Section) -> list[tuple[str, str | None]]:
    found = [(piece.name, created_kind(piece.data)) for piece in pieces if piece.section is section]
    return [(name, kind) for name, kind in found if kind]


def test_every_object_lands_in_its_section_and_bodies_fool_nobody() -> None:
    pieces, facts = read(DUMP)
    assert made(pieces, Section.TRIGGERS) == [("t", "trigger")]
    assert made(pieces, Section.EVENTS) == [("", "event")]
    assert made(pieces, Section.ROUTINES) == [("", "procedure")]
    assert made(pieces, Section.VIEWS) == [("v", "view")]
    assert made(pieces, Section.PLACEHOLDER) == [("v", "view")]
    rows = [piece for piece in pieces if piece.raw]
    assert len(rows) == 1
    assert rows[0].data.count(b"INSERT INTO") == 2
    assert facts.tables == ["t"]
    assert facts.databases == ["prod"]
    assert facts.completed
    assert facts.sandbox_line.startswith(b"/*M!999999")
    assert all(piece.section in (Section.HEADER, Section.FOOTER) for piece in pieces[:2] + pieces[-1:])


@given(st.integers(min_value=1, max_value=200))
def test_where_the_chunks_are_cut_changes_nothing(size: int) -> None:
    assert read(DUMP, size)[0] == read(DUMP)[0]


@given(st.lists(st.text(), min_size=1, max_size=20), st.booleans())
def test_row_data_passes_through_unchanged_whatever_it_says(values: list[str], line_a_row: bool) -> None:
    escaped = [
        value.encode().replace(b"\\", b"\\\\").replace(b"'", b"\\'").replace(b"\n", b"\\n").replace(b"\0", b"\\0")
        for value in values
    ]
    rows = [b"('" + value + b"')" for value in escaped]
    insert = b"INSERT INTO `t` VALUES" + (b"\n" + b",\n".join(rows) if line_a_row else b" " + b",".join(rows)) + b";\n"
    dump = HEAD + b"--\n-- Dumping data for table `t`\n--\n\n" + insert + CODE + FOOT
    pieces, _ = read(dump, 97)
    assert [piece.data for piece in pieces if piece.raw] == [insert]
    assert made(pieces, Section.TRIGGERS) == [("t", "trigger")]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.97])
def test_a_dump_that_is_cut_short_is_refused(share: float) -> None:
    with pytest.raises(IntegrityError):
        read(DUMP[: int(len(DUMP) * share)])


def test_a_dump_of_several_databases_is_refused_by_name() -> None:
    several = HEAD + b"--\n-- Current Database: `prod`\n--\nUSE `prod`;\n" + TABLE
    several += b"--\n-- Current Database: `other`\n--\nCREATE DATABASE `other`;\nUSE `other`;\n" + TABLE + FOOT
    with pytest.raises(RestoreRefused, match=r"several databases \(prod, other\)"):
        read(several)


def test_create_database_and_use_of_the_one_database_are_dropped() -> None:
    dump = HEAD + b"CREATE DATABASE /*!32312 IF NOT EXISTS*/ `prod` /*!40100 DEFAULT CHARACTER SET latin1 */;\n\n"
    pieces, facts = read(dump + b"USE `prod`;\n" + TABLE + FOOT)
    assert not [piece for piece in pieces if b"DATABASE" in piece.data or piece.data.startswith(b"USE")]
    assert b"latin1" in facts.create_database


def test_a_table_name_with_a_newline_is_read_from_its_statements() -> None:
    text = TABLE.replace(b"-- Table structure for table `t`", b"-- Table structure for table `t\n-- u`")
    text = (
        text.replace(b"TABLE `t`", b"TABLE `t\nu`")
        .replace(b"EXISTS `t`", b"EXISTS `t\nu`")
        .replace(b"for table `t`", b"for table `t\n-- u`")
    )
    pieces, _ = read(HEAD + text + FOOT)
    assert {piece.name for piece in pieces if piece.section is Section.ROWS} == {"t\nu"}


def test_statements_that_act_on_the_whole_server_are_told_from_session_settings() -> None:
    server_wide = [
        b"SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ 'a:1-5,\nb:1'",
        b"SET @@SESSION.SQL_LOG_BIN= 0",
        b"SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN",
        b"SET GLOBAL gtid_slave_pos='0-1-2'",
        b"CHANGE MASTER TO MASTER_LOG_FILE='mysql-bin.000001', MASTER_LOG_POS=4",
        b"SET PASSWORD = 'x'",
        b"STOP SLAVE",
        b"DROP DATABASE `prod`",
    ]
    assert [each for each in server_wide if is_session_only(each)] == []
    assert is_session_only(b"/*!40101 SET NAMES utf8mb4 */")
    assert is_session_only(b"SET character_set_client = @saved_cs_client")
    assert is_session_only(b"/*!50003 DROP PROCEDURE IF EXISTS `p` */")


@pytest.mark.parametrize(
    ("head", "bare"),
    [
        (b"TRIGGER ti AFTER INSERT ON t FOR EACH ROW", b"TRIGGER ti AFTER INSERT ON t FOR EACH ROW"),
        (b"TRIGGER prod.ti AFTER INSERT ON prod.t FOR EACH ROW", b"TRIGGER ti AFTER INSERT ON t FOR EACH ROW"),
        (b"trigger `prod` . ti before update\non `prod`.`t` for each row",
         b"trigger ti before update\non `t` for each row"),
        (b"TRIGGER /* why */ prod.ti /* x */ AFTER DELETE ON t FOR EACH ROW",
         b"TRIGGER /* why */ ti /* x */ AFTER DELETE ON t FOR EACH ROW"),
    ],
)  # fmt: skip
def test_a_trigger_loses_the_schema_in_its_head_but_not_in_its_body(head: bytes, bare: bytes) -> None:
    statement = b"CREATE DEFINER=`root`@`localhost` " + head + b" INSERT INTO prod.audit VALUES (1)"
    name, table, changed = bare_trigger(statement)
    assert (name, table) == ("ti", "t")
    assert changed == b"CREATE DEFINER=`root`@`localhost` " + bare + b" INSERT INTO prod.audit VALUES (1)"


def test_an_event_is_disabled_by_its_own_status_only() -> None:
    text = (
        b"/*!50106 CREATE*/ /*!50106 EVENT `ON COMPLETION PRESERVE ENABLE DO` ON SCHEDULE EVERY 1 SECOND "
        b"ON COMPLETION NOT PRESERVE ENABLE COMMENT 'ON COMPLETION PRESERVE ENABLE DO' DO SELECT 'ENABLE' */"
    )
    name, status, changed = event_with_status(text, b"DISABLE")
    assert (name, status) == ("ON COMPLETION PRESERVE ENABLE DO", "ENABLE")
    assert changed == text.replace(b"NOT PRESERVE ENABLE", b"NOT PRESERVE DISABLE")
    with pytest.raises(RestoreRefused):
        event_with_status(b"CREATE EVENT e ON SCHEDULE EVERY 1 SECOND DO SELECT 1", b"DISABLE")


def test_objects_that_name_a_schema_in_their_head_are_noticed() -> None:
    assert names_another_schema(b"CREATE DEFINER=`a`@`b` PROCEDURE `prod`.`p`() SELECT 1")
    assert not names_another_schema(b"CREATE DEFINER=`a`@`b` PROCEDURE `p`() INSERT INTO `prod`.`t` VALUES (1)")


def test_alter_database_is_read_with_odd_names() -> None:
    found = alter_database(b"ALTER DATABASE `pr``od` CHARACTER SET latin1 COLLATE latin1_swedish_ci ")
    assert found is not None
    assert (found.database, found.settings) == ("pr`od", b"CHARACTER SET latin1 COLLATE latin1_swedish_ci")


@pytest.mark.parametrize("row", [b"(1,'abc def ghi jkl mno pqr stu vwx yz',NULL,12345.678)"])
def test_rows_are_passed_on_without_being_held(row: bytes) -> None:
    line = b"INSERT INTO `t` VALUES\n" + row + (b",\n" + row) * 20_000 + b";\n"
    largest = 0

    def chunks() -> Iterator[bytes]:
        yield HEAD + b"--\n-- Dumping data for table `t`\n--\n"
        for _ in range(60):
            yield from (line[at : at + 65536] for at in range(0, len(line), 65536))
        yield FOOT

    begun = time.perf_counter()
    total = 0
    for piece in DumpReader(chunks()).pieces():
        largest = max(largest, len(piece.data))
        total += len(piece.data)
    seconds = time.perf_counter() - begun
    assert total > 60 * len(line)
    assert largest < 200_000
    print(f"{total / seconds / 1e6:.0f} MB/s")


def test_names_in_double_quotes_are_read_as_servers_write_them_under_ansi_quotes() -> None:
    name, table, bare = bare_trigger(
        b'CREATE DEFINER="a TRIGGER b"@"%" trigger "prod"."tr ""1" before insert on "prod"."t 1" for each row set @x=1'
    )
    assert (name, table) == ('tr "1', "t 1")
    assert bare == b'CREATE DEFINER="a TRIGGER b"@"%" trigger "tr ""1" before insert on "t 1" for each row set @x=1'
    event = b'CREATE DEFINER="an EVENT x"@"%" EVENT "e 1" ON SCHEDULE EVERY 1 DAY ON COMPLETION NOT PRESERVE '
    asleep = event + b"DISABLE DO SELECT 1"
    assert event_with_status(event + b"ENABLE DO SELECT 1", b"DISABLE") == ("e 1", "ENABLE", asleep)
    assert names_another_schema(b'CREATE DEFINER="r"@"%" PROCEDURE "prod"."p 1"() SELECT 1')
    assert not names_another_schema(b'CREATE DEFINER="r"@"%" PROCEDURE "p 1"() SELECT "prod"."t"."a"')


def test_a_backslash_ends_a_name_under_ansi_quotes_and_a_body_that_sets_a_mode_changes_none() -> None:
    dump = HEAD + (
        b"-- Dumping routines for database 'prod'\n"
        b"/*!50003 SET sql_mode              = 'REAL_AS_FLOAT,ANSI_QUOTES' */ ;\nDELIMITER ;;\n"
        b'CREATE PROCEDURE "p \\"()\nSELECT 1 AS "\\";;\nDELIMITER ;\n'
        b"/*!50003 SET sql_mode              = '' */ ;\nDELIMITER ;;\n"
        b"CREATE PROCEDURE q()\nSET sql_mode = 'NO_BACKSLASH_ESCAPES';;\n"
        b"CREATE PROCEDURE r()\nSELECT '\\';;\n';;\nDELIMITER ;\n"
    ) + FOOT  # fmt: skip
    made = [piece.data for piece in DumpReader([dump]).pieces() if created_kind(piece.data) == "procedure"]
    assert made == [
        b'CREATE PROCEDURE "p \\"()\nSELECT 1 AS "\\"',
        b"CREATE PROCEDURE q()\nSET sql_mode = 'NO_BACKSLASH_ESCAPES'",
        b"CREATE PROCEDURE r()\nSELECT '\\';;\n'",
    ]
