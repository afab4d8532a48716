"""Databases that a restore has put another in the place of. No log can be replayed across that.

Written down before the exchange, in the vault's state directory. Once the log in which it happened is shipped, its
signed manifest says so (``LogFile.swapped``): windows of that database end there, until there is a full of later.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from engine import names
from engine.binlog import server
from engine.errors import BackupError, IntegrityError
from engine.journal import Journal
from engine.locks import waited_for
from engine.logs import LogFile
from engine.roots import make_private
from engine.stores.local_errors import speaking_of
from engine.vault import Vault
from engine.whole import replace_file

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource

FILE = "swaps.json"
_KNOWN_FOR = timedelta(days=60)
_TRIES = 5


@dataclass(frozen=True)
class Swap:
    """One replacement.

    Attributes:
        at: When it was about to begin, UTC by this machine's clock, whole seconds.
        log: The server's log at that time; ``began`` when the server began that one, empty where it would not say.
        position: How long that log was.
    """

    source: str
    database: str
    at: datetime
    log: str
    position: int
    began: str = ""

    def is_in(self, log: LogFile) -> bool:
        """Did it happen in this very log?"""
        same = not self.began or log.created_at is None or names.iso(log.created_at) == self.began
        return log.name == self.log and same


def note(vault: Vault, source: MySQLSource, database: str) -> None:
    """Write down that a database is about to be replaced. The server begins a new log before, where it lets us, so that
    every moment until now can still be recovered.

    Raises:
        What the server and the disk raise.
    """
    with contextlib.suppress(BackupError):  # a user who may not: then the log as it is
        server.rotate(source.session)
    for _ in range(_TRIES):
        here = _here(source)
        at = names.now().replace(microsecond=0)
        _change(vault, [Swap(source.name, database, at, here.name, here.size, _began(source, here.name))])
        if _here(source).name == here.name:  # whoever ships this log does so later, and reads the note
            return


def _here(source: MySQLSource) -> server.ServerLog:
    """The log being written; one without a name where the server does not tell: then a new full is asked for all the
    same."""
    try:
        return server.listed(source.session)[-1]
    except (BackupError, IndexError):
        return server.ServerLog("", 0)


def _began(source: MySQLSource, log: str) -> str:
    try:
        return names.iso(server.head(source, log).created_at) if log else ""
    except BackupError:
        return ""


def known(vault: Vault, source: str) -> list[Swap]:
    """Those of a server, oldest first. Raises IntegrityError."""
    return [each for each in _read(vault.state / FILE) if each.source == source]


def settle(vault: Vault, journal: Journal) -> None:
    """A restore was ended by its journal: where the tables did not change places, nothing was replaced."""
    moved = journal.reached("exchange") is not None and journal.reached("undone") is None
    if moved or not journal.kind.startswith("mysql") or not journal.facts.get("replaces"):
        return
    begun = names.parse_moment(str(journal.facts["at"])).replace(microsecond=0)
    whose = (journal.facts.get("source"), journal.facts.get("database"))
    _change(vault, [], lambda each: (each.source, each.database) != whose or each.at < begun)


def _change(vault: Vault, new: list[Swap], stays: Callable[[Swap], bool] = lambda each: True) -> None:
    make_private(vault.root, vault.state)
    path = vault.state / FILE
    with speaking_of("write to", path, vault.root), waited_for(vault.state / f"{FILE}.lock"):
        oldest = names.now() - _KNOWN_FOR
        try:
            before = _read(path)
        except IntegrityError:  # no reason against a restore
            before = []
        every = [*(each for each in before if each.at >= oldest and stays(each)), *new]
        told = [{**asdict(each), "at": names.iso(each.at)} for each in every]
        replace_file(path, json.dumps(told, indent=1))


def _read(path: Path) -> list[Swap]:
    try:
        told = json.loads(path.read_bytes())
        return [Swap(**{**each, "at": names.parse_moment(each["at"])}) for each in told]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{path} cannot be read: {error}.",
            remedy="make a new full of every database that was restored lately (backups backup), then delete that file",
        ) from error
