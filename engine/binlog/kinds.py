"""The kinds of binary log events, by the numbers that MySQL and MariaDB give them."""

from __future__ import annotations

QUERY = 2
STOP = 3
ROTATE = 4
FORMAT_DESCRIPTION = 15
XID = 16
EXECUTE_LOAD_QUERY = 18
TABLE_MAP = 19
INCIDENT = 26
HEARTBEATS = frozenset({27, 41})
MYSQL_GTID = 33
MYSQL_ANONYMOUS_GTID = 34
PREVIOUS_GTIDS = 35
XA_PREPARE = 38
TRANSACTION_PAYLOAD = 40
MYSQL_GTID_TAGGED = 42
MARIADB_ANNOTATE_ROWS = 160
MARIADB_BINLOG_CHECKPOINT = 161
MARIADB_GTID = 162
MARIADB_GTID_LIST = 163
MARIADB_START_ENCRYPTION = 164
MARIADB_QUERY_COMPRESSED = 165

ROWS = {
    20: "INSERT", 21: "UPDATE", 22: "DELETE",
    23: "INSERT", 24: "UPDATE", 25: "DELETE",
    30: "INSERT", 31: "UPDATE", 32: "DELETE", 39: "UPDATE",
    166: "INSERT", 167: "UPDATE", 168: "DELETE",
    169: "INSERT", 170: "UPDATE", 171: "DELETE",
}  # fmt: skip
"""Events of changed rows, in all their versions, and what was done to the rows."""

BEGINS = frozenset({MYSQL_GTID, MYSQL_ANONYMOUS_GTID, MYSQL_GTID_TAGGED, MARIADB_GTID})
"""Events that begin a transaction."""

HEADERS = frozenset(
    {FORMAT_DESCRIPTION, PREVIOUS_GTIDS, MARIADB_GTID_LIST, MARIADB_BINLOG_CHECKPOINT, MARIADB_START_ENCRYPTION}
)
"""What a server writes into a log by itself: a log of these alone has seen no change."""
HEADER_WORDS = frozenset({"Format_desc", "Previous_gtids", "Gtid_list", "Binlog_checkpoint", "Start_encryption"})
"""The same, as SHOW BINLOG EVENTS calls them."""

IN_USE = 0x0001
"""Flag of a format description: the log is being written, or its server died."""
ARTIFICIAL = 0x0020
"""Flag of an event made up for a replica; it stands in no file."""
IGNORABLE = 0x0080
"""Flag of an event that may be passed over."""
