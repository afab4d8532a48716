"""Exit codes, and errors as documents for scripts."""

from __future__ import annotations

from typing import Any

from engine.errors import (
    BackupError,
    Cancelled,
    ConfigError,
    ConfirmationNeeded,
    IntegrityError,
    RestoreRefused,
    Thawing,
    WrongKey,
)

OK = 0
FAILED = 1
USAGE = 2
PARTIAL = 3
REFUSED = 4
INTEGRITY = 5
THAWING = 6
STOPPED = 130
TERMINATED = 143

MEANINGS = {
    OK: "done, and checked",
    FAILED: "failed: a server, a store or a tool; the message says which",
    USAGE: "a wrong option, site file or name; nothing was begun",
    PARTIAL: "partly done: a copy elsewhere is missing or could not be looked at, files could not be read, or "
    "a restore stands without a new full",
    REFUSED: "not confirmed, or refused because it would do harm; nothing was changed",
    INTEGRITY: "a backup, a key or a restored copy is not what it must be",
    THAWING: "in cold storage: its thaw was asked for; run the same again when it is there",
    STOPPED: "stopped by Ctrl-C (143: by SIGTERM)",
}


def of(error: BaseException) -> int:
    """The exit code that tells of an error."""
    if isinstance(error, ConfigError):
        return USAGE
    if isinstance(error, (ConfirmationNeeded, RestoreRefused)):
        return REFUSED
    if isinstance(error, (IntegrityError, WrongKey)):
        return INTEGRITY
    if isinstance(error, Thawing):
        return THAWING
    return STOPPED if isinstance(error, Cancelled) else FAILED


def describe(error: BackupError) -> dict[str, Any]:
    """An error as a document: class, message, kept, remedy, retryable."""
    return {
        "class": type(error).__name__,
        "message": error.message,
        "kept": error.kept,
        "remedy": error.remedy,
        "retryable": error.retryable,
    }


def epilog() -> str:
    """The table of exit codes for ``--help``; a paragraph a line."""
    return "\n\n".join(["Exit codes:", *(f"{code}  {meaning}" for code, meaning in MEANINGS.items())])
