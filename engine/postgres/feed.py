"""Feeding a dump to psql: what is let through, what is held back, and why."""

from __future__ import annotations

import re
from collections.abc import Callable

from engine.errors import RestoreRefused
from engine.postgres.dump_text import DumpScanner, Piece
from engine.postgres.selection import Chosen

_BATCH = 256 * 1024
_SET = re.compile(rb"SET (\w+) = '?(.*?)'?;\n")
_DATABASE_STATEMENT = re.compile(rb"(?im)^\s*(?:ALTER|CREATE|DROP)\s+DATABASE\s")


class Feed:
    """Passes a dump on to ``write``, without what would reach beyond the side database.

    Args:
        write: Takes the SQL, in order.
        chosen: Which part of the dump is wanted.
        knows_restrict: Does this psql understand ``\\restrict``?
        settings: Names of all settings that the server has.
        tablespaces: Names of all tablespaces that the server has.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        chosen: Chosen,
        *,
        knows_restrict: bool,
        settings: set[str],
        tablespaces: set[str],
    ) -> None:
        self.scanner = DumpScanner()
        self.notes: dict[str, None] = {}
        self._write = write
        self._chosen = chosen
        self._knows_restrict = knows_restrict
        self._settings = settings
        self._tablespaces = tablespaces
        self._batch: list[bytes] = []
        self._waiting = 0
        self._whole: list[Piece] = []  # of a foreign key, which is judged as a whole
        self._connects: set[bytes] = set()

    def take(self, data: bytes) -> None:
        """The next bytes of the dump. Raises RestoreRefused for what no dump of one database holds."""
        for piece in self.scanner.feed(data):
            self._take(piece)

    def finish(self) -> None:
        """No more follows.

        Raises:
            RestoreRefused: The end marker was not seen, or it was the work of pg_dumpall.
        """
        for piece in self.scanner.finish():
            self._take(piece)
        self._judge_whole()
        self._flush()
        if not self.scanner.complete:
            raise RestoreRefused(
                "The dump has no end marker: it is not whole.", kept="nothing but the side database was touched"
            )

    def _take(self, piece: Piece) -> None:
        if self._whole and piece.section is not self._whole[0].section:
            self._judge_whole()
        if piece.section is not None and piece.section.type == "FK CONSTRAINT" and piece.kind == "sql":
            self._whole.append(piece)
        elif (data := self._allowed(piece)) and self._chosen.takes(piece):
            self._pass(data)

    def _judge_whole(self) -> None:
        if self._whole:
            piece = Piece("sql", b"".join(each.data for each in self._whole), self._whole[0].section)
            self._whole = []
            if self._chosen.takes(piece):
                self._pass(piece.data)
            else:
                self._note(
                    f"Foreign key left out, as one of its ends is: {piece.section.name if piece.section else ''}."
                )

    def _pass(self, data: bytes) -> None:
        self._batch.append(data)
        self._waiting += len(data)
        if self._waiting >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        batch, self._batch, self._waiting = self._batch, [], 0
        if batch:
            self._write(b"".join(batch) if len(batch) > 1 else batch[0])

    def _allowed(self, piece: Piece) -> bytes:
        if piece.kind == "meta":
            return self._psql_command(piece.data)
        if piece.kind == "set":
            return self._setting(piece.data)
        if piece.kind == "sql" and self._is_about_a_database(piece):
            self._note("Statements about the database itself were left out; its properties are set at the swap.")
            return b""
        return piece.data

    def _is_about_a_database(self, piece: Piece) -> bool:
        section = piece.section
        if section is None:
            return bool(_DATABASE_STATEMENT.search(piece.data))
        return section.type in ("DATABASE", "DATABASE PROPERTIES") or (
            section.type in ("ACL", "COMMENT", "SECURITY LABEL") and section.name.startswith("DATABASE ")
        )

    def _psql_command(self, line: bytes) -> bytes:
        word = line.split()[0]
        if word in (b"\\restrict", b"\\unrestrict"):
            if self._knows_restrict:
                return line
            self._note("psql here is older than the dump and does not know \\restrict: those two lines were left out.")
            return b""
        if word in (b"\\connect", b"\\c"):
            self._connects.add(line)
            if self.scanner.cluster or len(self._connects) > 1:
                raise RestoreRefused(
                    "This dump holds several databases (it connects to more than one).",
                    kept="production was not touched",
                    remedy="make one dump a database, and adopt that",
                )
            return b""  # pg_dump --create goes to the database that was dumped
        raise RestoreRefused(
            f"This dump holds a psql command that pg_dump never writes: {word.decode('utf-8', 'replace')}.",
            kept="production was not touched",
        )

    def _setting(self, line: bytes) -> bytes:
        found = _SET.fullmatch(line)
        if found is None:
            return line
        name, value = found[1].decode(), found[2].decode("utf-8", "replace")
        if name not in self._settings:
            self._note(f"The server does not know the setting {name}; that line of the dump was left out.")
            return b""
        if name == "default_tablespace" and value and value.strip('"') not in self._tablespaces:
            self._note(f"There is no tablespace {value} here: what was in it is in the default one now.")
            return b"SET default_tablespace = '';\n"
        return line

    def _note(self, text: str) -> None:
        self.notes[text] = None


class RoleFinder:
    """For a dump that came without facts: the roles that it names as owner or grantee."""

    _GRANTEE = re.compile(rb'(?:OWNER TO|\sTO|FOR ROLE|SESSION AUTHORIZATION) ("(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)')
    _WORDS = frozenset({"public", "current_user", "session_user", "default"})

    def __init__(self) -> None:
        self.roles: set[str] = set()
        self._scanner = DumpScanner()

    def take(self, data: bytes) -> None:
        """The next bytes of the dump."""
        for piece in self._scanner.feed(data):
            section = piece.section
            if section is None or section.type.startswith("DATABASE"):
                continue
            if section.owner:
                self.roles.add(section.owner)
            if piece.kind == "sql" and section.type in ("ACL", "DEFAULT ACL", "POLICY"):
                names = (name.decode("utf-8", "replace") for name in self._GRANTEE.findall(piece.data))
                self.roles |= {_plain(name) for name in names if name not in self._WORDS}


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
