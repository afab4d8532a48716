"""Binary logs of MySQL and MariaDB: fetched, read, shipped and searched."""

from engine.binlog.events import Event, Format, Reader
from engine.binlog.fetch import fetch
from engine.binlog.transactions import Transaction, transactions

__all__ = ["Event", "Format", "Reader", "Transaction", "fetch", "transactions"]
