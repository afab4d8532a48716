"""The binary log reader on logs built byte by byte here; the engine's code is not used to build them."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.binlog.events import Reader
from engine.binlog.gtids import holds, is_gtid
from engine.binlog.search import _Stamps
from engine.binlog.stamps import believed
from engine.binlog.statements import changes
from engine.binlog.transactions import Transaction, micros, transactions
from engine.errors import ConfigError, IntegrityError
from engine.logs import LogFile

MAGIC = b"\xfebin"
UUID = bytes(range(16))
UUID_TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f"


class Log:
    """A log under construction. ``starts`` are the positions of its events."""

    def __init__(self, version: str = "10.11.6-MariaDB-log", checksums: bool = True, at: int = 1000) -> None:
        self.data = MAGIC
        self.checksums = True  # the first event always has one
        self.starts: list[int] = []
        body = struct.pack("<H50sIB", 4, version.encode(), at, 19) + bytes(40) + bytes([int(checksums)])
        self.add(15, body, at)
        self.checksums = checksums

    def add(self, kind: int, body: bytes, at: int = 1000, server_id: int = 1, flags: int = 0) -> Log:
        self.starts.append(len(self.data))
        size = 19 + len(body) + (4 if self.checksums else 0)
        event = struct.pack("<IBIIIH", at, kind, server_id, size, len(self.data) + size, flags) + body
        self.data += event + (struct.pack("<I", zlib.crc32(event)) if self.checksums else b"")
        return self

    def gtid(self, number: int, at: int = 1000, flags: int = 0) -> Log:
        """MariaDB's."""
        return self.add(162, struct.pack("<QIB6x", number, 0, flags), at)

    def mysql_gtid(self, number: int, micros: int, anonymous: bool = False) -> Log:
        stamp = struct.pack("<Q", micros)[:7]
        return self.add(
            34 if anonymous else 33, b"\x01" + UUID + struct.pack("<QBQQ", number, 2, 0, 1) + stamp + b"\x10"
        )

    def query(self, text: str, database: str = "shop", at: int = 1000) -> Log:
        name = database.encode()
        return self.add(2, struct.pack("<IIBHH", 7, 0, len(name), 0, 0) + name + b"\0" + text.encode(), at)

    def rows(self, kind: int, table: str, number: int = 77) -> Log:
        name = table.encode()
        self.add(19, struct.pack("<Q", number)[:6] + b"\1\0" + b"\4shop\0" + bytes([len(name)]) + name + b"\0\1\3\0\0")
        return self.add(kind, struct.pack("<Q", number)[:6] + b"\1\0" + b"\2\0\1\1\0" + b"12345")

    def rotate(self) -> Log:
        return self.add(4, struct.pack("<Q", 4) + b"mysql-bin.000002")


def all_of(log: Log, size: int | None = None) -> list[Transaction]:
    return list(transactions(Reader([log.data], "mysql-bin.000001", size)))


def small_log() -> Log:
    log = Log().gtid(1, flags=1).query("CREATE TABLE t (a INT)")
    log.gtid(2).rows(23, "t").add(16, struct.pack("<Q", 5))
    log.gtid(3).rows(25, "t").query("COMMIT")
    return log.rotate()


def test_transactions_come_with_positions_gtids_and_what_they_change() -> None:
    log = small_log()
    found = all_of(log, len(log.data))
    assert [(each.start, each.end) for each in found] == [
        (log.starts[1], log.starts[3]), (log.starts[3], log.starts[7]), (log.starts[7], log.starts[11])
    ]  # fmt: skip
    assert [each.gtid for each in found] == ["0-1-1", "0-1-2", "0-1-3"]
    assert [each.changes[0] for each in found] == [
        ("CREATE", "shop", "t"),
        ("INSERT", "shop", "t"),
        ("DELETE", "shop", "t"),
    ]
    assert found[0].stamp == datetime(1970, 1, 1, 0, 16, 40, tzinfo=UTC) and not found[0].exact


@given(st.integers(1, 40), st.booleans())
def test_chunks_of_any_size_read_the_same(size: int, checksums: bool) -> None:
    log = Log(checksums=checksums).gtid(2).rows(30, "t").add(16, bytes(8)).rotate()
    chunks = [log.data[at : at + size] for at in range(0, len(log.data), size)]
    reader = Reader(chunks, "x", len(log.data))
    assert [event.start for event in reader] == log.starts
    assert reader.closed and reader.next_name == "mysql-bin.000002" and reader.end == len(log.data)


def test_every_flipped_bit_is_found_and_its_event_named() -> None:
    log = small_log()
    ends = [*log.starts[1:], len(log.data)]
    for at in range(len(log.data)):
        for bit in range(8):
            if (at, bit) == (4 + 17, 0):  # says that the log is being written; the checksum is made without it
                continue
            data = bytearray(log.data)
            data[at] ^= 1 << bit
            with pytest.raises(IntegrityError) as told:
                list(transactions(Reader([bytes(data)], "mysql-bin.000001", len(data))))
            start = max((each for each, end in zip(log.starts, ends, strict=True) if each <= at < end), default=0)
            assert "mysql-bin.000001" in told.value.message
            # a wrong size reads on into what follows; the position named is still the event's own
            assert f"position {start}" in told.value.message, (at, bit, told.value.message)


def test_an_end_anywhere_is_found() -> None:
    log = small_log()
    for end in range(len(log.data)):
        with pytest.raises(IntegrityError):
            list(transactions(Reader([log.data[:end]], "x", len(log.data))))


def test_a_missing_event_is_found_at_its_place() -> None:
    log = small_log()
    for number in range(1, len(log.starts) - 1):
        start, end = log.starts[number], log.starts[number + 1]
        with pytest.raises(IntegrityError, match=f"position {start}: .* events are missing or altered"):
            all_of(_cut(log, start, end))


def _cut(log: Log, start: int, end: int) -> Log:
    shorter = Log()
    shorter.data = log.data[:start] + log.data[end:]
    return shorter


def test_a_log_that_ends_inside_a_transaction_is_damaged_unless_its_mariadb_died() -> None:
    begun = Log().gtid(1).rows(23, "t")
    assert all_of(begun) == []  # rolled back when the server came up again
    with pytest.raises(IntegrityError, match="inside the transaction that begins at position"):
        all_of(begun.rotate())
    with pytest.raises(IntegrityError, match="inside the transaction"):
        all_of(Log("8.4.0").mysql_gtid(1, 5).query("BEGIN"))


def test_mysql_commit_times_are_exact_to_the_microsecond() -> None:
    log = Log("9.1.0").mysql_gtid(7, 1_700_000_000_123_456).query("BEGIN").rows(30, "t").add(16, bytes(8))
    log.mysql_gtid(8, 1_700_000_000_123_457, anonymous=True).query("DROP TABLE shop.users")
    one, two = all_of(log)
    assert one.stamp == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC) and one.exact
    assert (one.gtid, two.gtid) == (f"{UUID_TEXT}:7", "")
    assert two.changes == (("DROP", "shop", "users"),)


def test_savepoints_do_not_end_a_transaction() -> None:
    log = Log("9.1.0").mysql_gtid(1, 5).query("BEGIN").query("SAVEPOINT `s`").query("ROLLBACK TO `s`")
    log.query("INSERT INTO t VALUES (1)").query("COMMIT")
    assert [each.end for each in all_of(log)] == [len(log.data)]


def test_an_encrypted_log_is_refused_in_words() -> None:
    with pytest.raises(IntegrityError, match="encrypted by its server"):
        list(Reader([b"\xfdbin" + bytes(600)], "binlog.000001"))
    with pytest.raises(IntegrityError, match="encrypted by its server"):
        all_of(Log().add(164, bytes(17)))


def test_statements_about_accounts_show_no_passwords() -> None:
    for text in (
        "CREATE USER a IDENTIFIED BY 'fake-secret'",
        "set password for a = 'fake-secret'",
        "GRANT ALL ON *.* TO a IDENTIFIED BY 'fake-secret'",
        "ALTER USER a IDENTIFIED BY 'fake-secret'",
        "/*! ALTER USER a IDENTIFIED BY 'fake-secret' */",
    ):
        (found,) = all_of(Log().gtid(1, flags=1).query(text))
        assert "fake-secret" not in repr(found), text


def test_a_large_event_is_checked_without_being_held() -> None:
    body = struct.pack("<Q", 77)[:6] + bytes(2) + bytes(17 << 20)
    log = Log().gtid(1).rows(23, "t").add(23, body).add(16, bytes(8))

    def chunks(data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), 1 << 16):
            yield data[at : at + (1 << 16)]

    events = list(Reader(chunks(log.data), "x"))
    assert max(len(event.body) for event in events) < 1 << 17
    broken = bytearray(log.data)
    broken[-40] ^= 1
    with pytest.raises(IntegrityError, match="wrong checksum"):
        list(Reader(chunks(bytes(broken)), "x"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DROP TABLE `users` /* generated by server */", "DROP app.users"),
        ("DROP TABLE IF EXISTS a, other.`b``c`", "DROP app.a, DROP other.b`c"),
        ("/* x */ drop\ttemporary table t", "DROP app.t"),
        ("DROP DATABASE IF EXISTS `prod`", "DROP prod.*"),
        ("TRUNCATE users", "TRUNCATE app.users"),
        ("TRUNCATE TABLE prod.users", "TRUNCATE prod.users"),
        ("ALTER TABLE users DROP COLUMN x", "ALTER app.users"),
        ("CREATE UNIQUE INDEX i ON prod.users (a)", "ALTER prod.users"),
        ("RENAME TABLE a TO b, x.c TO x.d", "RENAME app.a, RENAME x.c"),
        ("DELETE FROM users WHERE name = 'from orders'", "DELETE app.users"),
        ("DELETE LOW_PRIORITY u FROM users u JOIN orders o ON 1", "DELETE app.u, DELETE app.users, DELETE app.orders"),
        ("UPDATE a JOIN prod.b ON a.x=b.x SET a.y=1", "UPDATE app.a, UPDATE prod.b"),
        ("INSERT INTO prod.users (a) VALUES ('DELETE FROM x')", "INSERT prod.users"),
        ("REPLACE users VALUES (1)", "INSERT app.users"),
        ("/*!40000 ALTER TABLE `t` DISABLE KEYS */", "ALTER app.t"),
        ("LOAD DATA LOCAL INFILE 'x' INTO TABLE `t` FIELDS", "INSERT app.t"),
        ("CREATE TABLE IF NOT EXISTS prod.x LIKE y", "CREATE prod.x"),
        ("-- DROP TABLE no\nUPDATE t SET a=1", "UPDATE app.t"),
        ("SET STATEMENT max_statement_time=60 FOR TRUNCATE TABLE t", "TRUNCATE app.t"),
        ("set /* x */ statement a=1, b='wait FOR it', c=\"FOR\" for DROP TABLE IF EXISTS prod.t", "DROP prod.t"),
        ("SET STATEMENT a=(SELECT 1 FROM x FOR UPDATE) FOR ALTER TABLE t ADD b INT", "ALTER app.t"),
        ("SET STATEMENT a=1 FOR SET STATEMENT b=2 FOR DELETE FROM t WHERE a=1", "DELETE app.t"),
        ("SET STATEMENT a=1", " app."),
        ("SET PASSWORD FOR x = 'DROP TABLE t'", "SET app."),
    ],
)  # fmt: skip
def test_tables_are_found_in_statements(text: str, expected: str) -> None:
    found = changes(text.encode(), "app")
    assert ", ".join(f"{each.kind} {each.database}.{each.table}" for each in found) == expected


@given(st.binary(max_size=300))
def test_no_statement_is_too_odd_to_be_looked_at(text: bytes) -> None:
    changes(b"DROP TABLE " + text, "app")
    changes(text, "app")


def test_a_time_set_ahead_is_not_believed_and_a_long_statement_does_not_shake_the_others() -> None:
    assert believed([1, 2, 9, 3, 4], 0, 10) == [True, True, False, True, True]
    assert believed([1, 2, 9, 3, 4], 0, 5) == [True, True, False, True, True]
    assert believed([100, 101, 130, 105, 131, 132], 90, 200) == [True] * 6  # two readings keep as many
    assert believed([5, 6, 2_000_000_000, 7], 0, None) == [True, True, True, True]  # nothing speaks for either


@pytest.mark.parametrize(("honest", "refused"), [(2, False), (3, True), (12, True), (20, False)])
def test_where_nearly_as_many_stamps_tell_another_time_a_moment_is_refused(honest: int, refused: bool) -> None:
    """Six transactions of an import stamp themselves an hour back, among so many that tell the server's time."""
    begun = datetime(2026, 1, 16, 1, tzinfo=UTC)
    log = LogFile(
        name="mysql-bin.000007",
        number=7,
        chain="x",
        end=9000,
        created_at=begun,
        covers_until=begun + timedelta(hours=2),
    )
    rows = _Stamps()
    rows.exact = False
    times = [*(timedelta(minutes=70 + n) for n in range(honest)), *(timedelta(minutes=10, seconds=n) for n in range(6))]
    times.append(timedelta(minutes=100))
    for number, each in enumerate(times):
        rows.starts.append(400 + 100 * number)
        rows.micros.append(micros(begun + each))
    rows.judge(log, None)
    until = begun + timedelta(minutes=60)
    at = rows.first_after(micros(until))
    if not refused:
        rows.refuse_two_readings(log.name, until, at)
        return
    with pytest.raises(ConfigError, match=f"{min(honest, 6)} of its transactions disagree") as told:
        rows.refuse_two_readings(log.name, until, at)
    assert f"mysql-bin.000007:400 or mysql-bin.000007:{400 + 100 * (len(times) - 1)}" in told.value.remedy


@given(st.lists(st.integers(0, 50), max_size=60))
def test_what_is_believed_is_in_a_longest_row_in_order(stamps: list[int]) -> None:
    found = believed(stamps, None, None)
    best = _longest(stamps)
    for number, good in enumerate(found):
        through = _longest([s for s in stamps[:number] if s <= stamps[number]]) + 1
        through += _longest([s for s in stamps[number + 1 :] if s >= stamps[number]])
        assert good == (through == best)


def _longest(stamps: list[int]) -> int:
    best: list[int] = []
    for number, each in enumerate(stamps):
        best.append(1 + max((best[other] for other in range(number) if stamps[other] <= each), default=0))
    return max(best, default=0)


def test_gtid_sets_hold_what_they_say() -> None:
    mysql = f"{UUID_TEXT}:1-5:9,{UUID_TEXT}:tag:2"
    assert holds(mysql, f"{UUID_TEXT}:5") and holds(mysql, f"{UUID_TEXT}:9") and holds(mysql, f"{UUID_TEXT}:tag:2")
    assert not holds(mysql, f"{UUID_TEXT}:6") and not holds(mysql, f"{UUID_TEXT}:tag:1")
    assert holds(f"{UUID_TEXT}:1-5:tag:2-3", f"{UUID_TEXT}:tag:3") and not holds(f"{UUID_TEXT}:tag:2", f"{UUID_TEXT}:2")
    assert holds("0-1-5,0-2-9", "0-1-4") and not holds("0-1-5,0-2-9", "0-1-6") and not holds("", "0-1-1")
    assert is_gtid("0-1-5") and is_gtid(f"{UUID_TEXT}:3") and not is_gtid("mysql-bin.000001") and not is_gtid("")


def test_noise_is_refused_without_a_crash() -> None:
    rng = random.Random(20260101)
    for _ in range(300):
        with pytest.raises(IntegrityError):
            list(transactions(Reader([MAGIC + rng.randbytes(rng.randint(1, 400))], "x")))
