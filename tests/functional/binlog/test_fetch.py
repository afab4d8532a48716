"""A log fetched over the ordinary connection is the server's own file, to the byte; what is in it is what the
server says, and what its own program reads."""

from __future__ import annotations

import random
import re
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from engine.binlog import Reader, fetch, transactions
from engine.errors import IntegrityError, MissingGrant, ToolFailed
from engine.mysql.connection import open_connection
from engine.mysql.server import MySQLSource
from tests.functional.binlog import kit
from tests.servers import DatabaseServer

pytestmark = pytest.mark.sampled

FORMATS = ("ROW", "MIXED", "STATEMENT")


@pytest.fixture(scope="module", params=["mariadb", "mysql"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue({"mariadb": "mariadb", "mysql": "mysql9_container"}[request.param])
    return found


def fetched(server: DatabaseServer, name: str) -> bytes:
    return b"".join(fetch(kit.connect(server), name, server.flavour))


def loaded(server: DatabaseServer, settings: str, load: str = kit.LOAD) -> str:
    """The name of a closed log that holds the load alone."""
    with server.database("binlog") as database:
        kit.rotate(server)
        server.sql(f"{settings} {load}", database)
        return kit.rotate(server)


@pytest.mark.parametrize("logged", FORMATS)
def test_a_fetched_log_is_the_servers_own_file_and_its_transactions_are_where_the_server_says(
    server: DatabaseServer, logged: str
) -> None:
    settings = f"SET SESSION binlog_format = {logged};"
    if server.flavour == "mysql":
        settings += "SET SESSION binlog_transaction_compression = ON;"
    name = loaded(server, settings)
    data = fetched(server, name)
    assert data == kit.own_bytes(server, name)
    assert len(data) == dict(kit.logs(server))[name]
    reader = Reader([data], name, len(data))
    found = list(transactions(reader))
    shown = server.sql(f"SHOW BINLOG EVENTS IN '{name}'")
    assert [each.start for each in found] == [int(row[1] or 0) for row in shown if row[2] in ("Gtid", "Anonymous_Gtid")]
    assert [each.end for each in found[:-1]] == [each.start for each in found[1:]]
    assert reader.closed
    kinds = {(change.kind, change.table) for each in found for change in each.changes}
    assert {("INSERT", "i"), ("UPDATE", "i"), ("DELETE", "i"), ("DROP", "d"), ("TRUNCATE", "d"), ("ALTER", "d"),
            ("RENAME", "c"), ("CREATE", "m")} <= kinds  # fmt: skip


def test_gtids_and_times_are_those_that_mariadbs_own_program_reads(mariadb: DatabaseServer, tmp_path: Path) -> None:
    name = loaded(mariadb, "")
    data = fetched(mariadb, name)
    (tmp_path / name).write_bytes(data)
    argv = ["mariadb-binlog", "--no-defaults", "--base64-output=decode-rows", str(tmp_path / name)]
    text = subprocess.run(argv, check=True, capture_output=True, env={"TZ": "UTC", "PATH": "/usr/bin"}).stdout.decode()
    lines = re.findall(r"^# at (\d+)\n#(\d{6}\s+[\d:]+) server id \d+  end_log_pos \d+ .*?GTID (\S+)", text, re.M)
    found = list(transactions(Reader([data], name, len(data))))
    assert [(int(at), gtid) for at, _, gtid in lines] == [(each.start, each.gtid) for each in found]
    assert [" ".join(when.split()) for _, when, _ in lines] == [
        f"{each.stamp:%y%m%d} {each.stamp.hour}:{each.stamp:%M:%S}" for each in found
    ]
    assert "010909 1:46:40" in {f"{each.stamp:%y%m%d} {each.stamp.hour}:{each.stamp:%M:%S}" for each in found}


def test_gtids_are_those_that_mysql_has_executed_and_no_client_can_set_their_times(
    mysql9_container: DatabaseServer,
) -> None:
    server = mysql9_container
    name = loaded(server, "SET gtid_next = 'AUTOMATIC:shop';", "CREATE TABLE t (a INT); SET timestamp = 1000000000; "
                  "INSERT INTO t VALUES (1); SET gtid_next = 'AUTOMATIC'; INSERT INTO t VALUES (2);")  # fmt: skip
    before, now = (float(str(each)) for each in server.sql("SELECT UNIX_TIMESTAMP(SYSDATE(6)) - 60, "
                                                           "UNIX_TIMESTAMP(SYSDATE(6))")[0])  # fmt: skip
    reader = Reader([fetched(server, name)], name)
    found = list(transactions(reader))
    for each in found:
        assert server.sql(f"SELECT GTID_SUBSET('{each.gtid}', @@gtid_executed)") == [("1",)]
        assert server.sql(f"SELECT GTID_SUBSET('{each.gtid}', '{reader.gtids_before}')") == [("0",)]
        assert before < each.stamp.timestamp() < now
    assert sum(":shop:" in each.gtid for each in found) == 2
    following = Reader([fetched(server, kit.rotate(server))], "next")
    list(following)
    union = ",".join([reader.gtids_before, *(each.gtid for each in found)])
    assert server.sql(f"SELECT GTID_SUBTRACT('{following.gtids_before}', '{union}') REGEXP '^[^,]*:[0-9]+$' OR "
                      f"GTID_SUBSET('{following.gtids_before}', '{union}')") == [("1",)]  # fmt: skip


def test_logs_without_checksums_are_the_servers_own_too_whatever_it_writes_now(server: DatabaseServer) -> None:
    try:
        first = kit.rotate(server)
        server.sql("SET GLOBAL binlog_checksum = NONE")
        without = loaded(server, "")
        assert fetched(server, first) == kit.own_bytes(server, first)
        assert fetched(server, without) == kit.own_bytes(server, without)
        reader = Reader([fetched(server, without)], without)
        assert len(list(transactions(reader))) > 15 and reader.format and not reader.format.checksums
    finally:
        server.sql("SET GLOBAL binlog_checksum = CRC32")
    assert fetched(server, without) == kit.own_bytes(server, without)


def test_an_event_of_more_than_a_packet_comes_whole(server: DatabaseServer) -> None:
    load = "CREATE TABLE l (b LONGBLOB); INSERT INTO l VALUES (REPEAT('q', 17000000)), (REPEAT('r', 16777190));"
    kept = server.sql("SELECT @@global.max_allowed_packet")[0][0]
    server.sql("SET GLOBAL max_allowed_packet = 1073741824")
    try:
        name = loaded(server, "", load)
    finally:
        server.sql(f"SET GLOBAL max_allowed_packet = {kept}")
    data = fetched(server, name)
    assert len(data) > 33_000_000 and data == kit.own_bytes(server, name)
    assert len(list(transactions(Reader([data], name, len(data))))) == 2


def test_a_flipped_bit_or_a_cut_in_a_real_log_is_found(server: DatabaseServer) -> None:
    data = fetched(server, loaded(server, ""))
    starts = [event.start for event in Reader([data])]
    rng = random.Random(42)
    for _ in range(60):
        at = rng.choice([n for n in (rng.randrange(len(data)) for _ in range(4)) if n != 4 + 17])
        broken = bytearray(data)
        broken[at] ^= 1 << rng.randrange(8)
        with pytest.raises(IntegrityError, match="the log is damaged at position"):
            list(transactions(Reader([bytes(broken)], "the log", len(data))))
        with pytest.raises(IntegrityError):
            list(transactions(Reader([data[:at]], "the log", len(data))))
        lost = rng.randrange(1, len(starts) - 1)
        with pytest.raises(IntegrityError, match=f"position {starts[lost]}"):
            list(transactions(Reader([data[: starts[lost]] + data[starts[lost + 1] :]], "the log")))


def test_a_log_that_is_not_there_and_a_missing_grant_are_told(server: DatabaseServer) -> None:
    with pytest.raises(ToolFailed, match="Could not find first log file name"):
        fetched(server, "nosuch.000001")
    server.sql("CREATE USER 'lacks'@'%' IDENTIFIED BY 'fake-secret-lacks'")
    try:
        settings = kit.config(server, user="lacks", password="fake-secret-lacks")
        connection = open_connection(settings, MySQLSource(settings, site="shop").address)
        with pytest.raises(MissingGrant, match="REPLICATION SLAVE"):
            b"".join(fetch(connection, kit.logs(server)[0][0], server.flavour))
    finally:
        server.sql("DROP USER 'lacks'@'%'")


def test_a_fetch_given_up_leaves_nothing_behind(server: DatabaseServer) -> None:
    name = kit.rotate(server)
    connection = kit.connect(server)
    with closing(fetch(connection, name, server.flavour)) as chunks:
        next(chunks)
    assert not connection.open


def test_events_that_mariadb_has_compressed_are_read(mariadb: DatabaseServer) -> None:
    load = "CREATE TABLE t (a INT, b TEXT); INSERT INTO t VALUES (1, REPEAT('x', 5000)); DELETE FROM t;"
    mariadb.sql("SET GLOBAL log_bin_compress = ON, GLOBAL log_bin_compress_min_len = 10")
    try:
        names = [loaded(mariadb, f"SET SESSION binlog_format = {each};", load) for each in ("ROW", "STATEMENT")]
    finally:
        mariadb.sql("SET GLOBAL log_bin_compress = OFF, GLOBAL log_bin_compress_min_len = DEFAULT")
    for name in names:
        data = fetched(mariadb, name)
        assert data == kit.own_bytes(mariadb, name)
        kinds = {event.kind for event in Reader([data])}
        assert 165 in kinds
        found = [
            change.kind for each in transactions(Reader([data], name)) for change in each.changes if change.table == "t"
        ]
        assert found == ["CREATE", "INSERT", "DELETE"]


def test_transactions_without_gtids_are_told_apart_and_timed_all_the_same(mysql9_container: DatabaseServer) -> None:
    server = mysql9_container
    steps = ("ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF")
    try:
        for step in steps:
            server.sql(f"SET GLOBAL gtid_mode = {step}")
        name = loaded(server, "")
        data = fetched(server, name)
        assert data == kit.own_bytes(server, name)
    finally:
        for step in (*reversed(steps[:-1]), "ON"):
            server.sql(f"SET GLOBAL gtid_mode = {step}")
    with pytest.raises(ToolFailed, match="GTID_MODE = ON"):  # what was not shipped before, the server keeps back
        fetched(server, name)
    found = list(transactions(Reader([data], name)))
    shown = server.sql(f"SHOW BINLOG EVENTS IN '{name}'")
    assert [each.start for each in found] == [int(row[1] or 0) for row in shown if row[2] == "Anonymous_Gtid"]
    assert len(found) > 15 and all(each.exact and not each.gtid for each in found)
