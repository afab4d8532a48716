"""Load an ``accounts`` companion on a scratch server, one statement after another."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import BackupError, Unreachable

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource

_TOKEN = re.compile(
    rb"--[ \t\n][^\n]*\n?|'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`(?:[^`]|``)*`|;|[^-'\"`;]+|.", re.S
)
_SECRET = re.compile(r"\s(IDENTIFIED|USING|AS)\s.*", re.I | re.S)


def apply_accounts(source: MySQLSource, text: bytes) -> list[str]:
    """Run every statement of the companion; what was refused, without any password's hash.

    An account that cannot be made (an authentication plugin is missing, a granted table is not there) holds
    up no other.

    Raises:
        Unreachable: The server went away.
    """
    from engine.mysql.sessions import run

    refused = []
    with contextlib.closing(source.connect()) as session:
        for statement in statements(text):
            try:
                run(session, statement)
            except Unreachable:
                raise
            except BackupError as error:
                shown = _SECRET.sub(" ...", " ".join(statement.decode("utf-8", "replace").split()))
                reason = error.message.rpartition(" failed: ")[2]
                refused.append(f"{shown[:200]}: {reason}")
    return refused


def statements(text: bytes) -> Iterator[bytes]:
    """The statements of a file, without their semicolons and the comments between them."""
    held: list[bytes] = []
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token == b";":
            if statement := b"".join(held).strip():
                yield statement
            held = []
        elif not token.startswith(b"-- ") and not token.startswith(b"--\n"):
            held.append(token)
    if statement := b"".join(held).strip():
        yield statement
