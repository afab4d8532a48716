"""Load a ``globals`` companion (``pg_dumpall --globals-only``) on a server, one statement after another."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import psycopg

from engine.config import PostgresConfig
from engine.errors import Unreachable
from engine.postgres.connection import Connector
from engine.processes import runner_for

_TOKEN = re.compile(r"--[^\n]*\n?|\\[a-z]+[^\n]*\n?|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|;|[^-\\'\";]+|.", re.S)
_SECRET = re.compile(r"\sPASSWORD\s.*", re.I | re.S)
_THERE = ("42710", "42P04")
"""The role, or the database, exists already."""


def apply_globals(config: PostgresConfig, site: str, text: bytes) -> list[str]:
    """Run every statement; what was refused, without any password's hash.

    The role that this connects as is left as it is. A role that is there gets the password and rights of the backup.

    Raises:
        Unreachable: The server went away. CredentialsRefused.
    """
    connector = Connector(config, site, lambda: runner_for(config, site=site))
    refused = []
    with contextlib.closing(connector.open()) as connection:
        for statement in statements(text.decode("utf-8", "surrogateescape")):
            if _is_about(statement, config.user):
                continue
            try:
                connection.execute(statement.encode("utf-8", "surrogateescape"))
            except psycopg.Error as error:
                if connection.closed:
                    raise Unreachable(f"{connector.where()} went away while its roles were made.") from None
                if error.sqlstate not in _THERE:
                    shown = _SECRET.sub(" ...", " ".join(statement.split()))
                    words = str(error).strip().splitlines() or [type(error).__name__]
                    refused.append(f"{shown[:200]}: {words[0]}")
    return refused


def statements(text: str) -> Iterator[str]:
    """The statements of a file, without semicolons, comments and the client's own commands."""
    held: list[str] = []
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token == ";":
            if statement := "".join(held).strip():
                yield statement
            held = []
        elif not token.startswith("--") and not (token.startswith("\\") and not "".join(held).strip()):
            held.append(token)
    if statement := "".join(held).strip():
        yield statement


def _is_about(statement: str, role: str) -> bool:
    """Does it make or alter that very role?"""
    quoted = '"' + role.replace('"', '""') + '"'
    return bool(
        re.match(rf"(CREATE|ALTER) ROLE ({re.escape(role)}|{re.escape(quoted)})(\s|$)", statement)
        and " SET " not in statement
    )
