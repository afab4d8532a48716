"""What a client program's exit status and last words mean, as one of our errors.

The words are those of mysql(dump), mariadb(-dump), psql, pg_dump, pg_restore and of sh itself; where
none is recognised the error is a plain ToolFailed with the words in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from engine.errors import (
    BackupError,
    CredentialsRefused,
    DiskFull,
    MissingGrant,
    ToolFailed,
    ToolMissing,
    Unreachable,
    WrongTool,
)
from engine.processes.base import Command

TAIL = 16 * 1024
_SECRET_NAME = re.compile(r"PASS|PWD|SECRET|KEY|TOKEN", re.IGNORECASE)

_MEANINGS: list[tuple[type[BackupError], str]] = [
    (
        WrongTool,
        r"server version mismatch|aborting because of server version|unsupported version \(|unknown option"
        r"|unknown variable|Plugin .* could not be loaded",
    ),
    (
        CredentialsRefused,
        r"Access denied for user .*\(using password|password authentication failed|no pg_hba.conf entry"
        r"|fe_sendauth: no password|role \".*\" does not exist|Peer authentication failed",
    ),
    (
        MissingGrant,
        r"permission denied|must be (superuser|owner)|Access denied; you need|Access denied for user"
        r"|command denied to user|SUPER privilege",
    ),
    (DiskFull, r"No space left on device|disk is full|could not extend file|table .* is full"),
    (
        Unreachable,
        r"Can't connect to|could not connect to|Connection refused|Lost connection|server has gone away"
        r"|server closed the connection|connection to server .* failed|could not translate host"
        r"|terminating connection|the database system is (shutting down|starting up)|Server shutdown in"
        r"|Connection was killed|Unknown (MySQL|server) server host|query was canceled.*shutdown",
    ),
]


def failure(command: Command, place: str, status: int, stderr: bytes) -> BackupError:
    """The error for a program that ended badly.

    Args:
        command: What was run; its secrets are blotted out of the words.
        place: Where it ran, for the message.
        status: Exit status; 128 + n for signal n, as a shell reports it.
        stderr: The tail of its standard error.
    """
    words = redact(stderr.decode("utf-8", "replace").strip(), secrets_of(command))
    if status in (126, 127):
        return ToolMissing(
            f"{command.name} cannot be run on {place}.",
            remedy=f"install {command.name} there, or say where the tools are (tools_path, service)",
        )
    kind: type[BackupError] = ToolFailed
    for candidate, pattern in _MEANINGS:
        if re.search(pattern, words):
            kind = candidate
            break
    how = f"was killed by signal {status - 128}" if status > 128 else f"exited with status {status}"
    return kind(f"{command.name} on {place} {how}" + (f": {_last_words(words)}" if words else "."))


def _last_words(words: str, limit: int = 1200) -> str:
    return words if len(words) <= limit else "…" + words[-limit:]


def secrets_of(command: Command) -> list[str]:
    """Every secret value that a command carries, longest first."""
    found = {value for name, value in command.env.items() if _SECRET_NAME.search(name)}
    for text in command.secret_files.values():
        found.add(text.strip())
        for line in text.splitlines():
            name, equals, value = line.partition("=")
            if equals and _SECRET_NAME.search(name):
                found.add(value.strip().strip('"').strip("'"))
            found.update(part for part in line.split(":")[4:5] if part)  # pgpass
    return sorted((value for value in found if len(value) >= 4), key=len, reverse=True)


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret replaced by ``***``."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def environment(base: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a client program: the base without our own secrets, plus its own."""
    clean = {name: value for name, value in base.items() if not _SECRET_NAME.search(name)}
    clean.update({"LC_ALL": "C.UTF-8", "TZ": "UTC"})
    clean.update(extra)
    return clean
