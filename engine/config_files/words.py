"""What a file system refused, in words."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from engine.config_files.source import shown
from engine.errors import BackupError, DiskFull, RestoreRefused

UNTOUCHED = "nothing was changed"


@contextlib.contextmanager
def speaking(doing: str) -> Iterator[None]:
    """Failures in words, as nothing has been changed yet.

    Raises:
        DiskFull, RestoreRefused.
    """
    try:
        yield
    except DiskFull as error:
        error.kept = UNTOUCHED
        raise
    except OSError as error:
        raise in_words(error, doing, UNTOUCHED) from error


def in_words(error: OSError, doing: str, kept: str) -> BackupError:
    """What a file system refused."""
    what = shown(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else ""
    message = f"{doing[0].upper()}{doing[1:]} failed{f' at {what}' if what else ''}: {error.strerror or error}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(message, kept=kept, remedy="make room on that file system and run the restore again")
    if error.errno == errno.ENOENT:
        return RestoreRefused(message, kept=kept, remedy="somebody changed it meanwhile: run the restore again")
    return RestoreRefused(
        message,
        kept=kept,
        remedy="see whether it is immutable (lsattr), mounted by itself, or on a file system without second names for "
        "files; or restore into a directory and copy by hand",
    )
