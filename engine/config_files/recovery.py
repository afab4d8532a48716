"""A swap of config files ended by its journal: by the run itself, or by the next one where it died.

Steps of a journal, in their order: ``place`` (a directory on each file system), ``swap`` (from here on it is gone on
with), ``back`` (from here on it is taken back), and ``done`` or ``undone``.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from engine.config_files.beneath import remove, sync
from engine.config_files.source import shown
from engine.config_files.swap import NEW, OLD, Swap, back, forward
from engine.config_files.walk import BEFORE
from engine.config_files.words import in_words
from engine.errors import BackupError, DiskFull, ToolFailed
from engine.journal import Journal

_AS_BEFORE = "all files are as they were"


def carry_out(journal: Journal, swap: Swap) -> list[str]:
    """Put all of it in place, or nothing. Says what could not be given back, such as owners when not root.

    Raises:
        RestoreRefused, DiskFull: It cannot be put; all files are as they were. ToolFailed: nor could that be had.
    """
    try:
        notes = forward(swap)
    except (OSError, BackupError) as error:
        with contextlib.suppress(DiskFull):  # then a next run may put all of it instead
            journal.record("back")
        left = _back(swap)
        kept = "; ".join([_AS_BEFORE, *left])
        if isinstance(error, OSError):
            raise in_words(error, "putting files in place", kept) from error
        error.kept = kept
        raise
    with contextlib.suppress(DiskFull):  # what is put stays put
        journal.record("done")
    return notes


def finish(journal: Journal) -> list[Path]:
    """Once all is put: have our directories gone, but for what they keep of before. Says where that is."""
    kept = []
    for place, kept_as in _places(journal):
        if not place.is_dir():
            continue
        remove(place / NEW)
        if _keeps(place):
            kept.append(_rename(place, kept_as))
        else:
            remove(place)
    return kept


def end(journal: Journal) -> list[str]:
    """Have all files stand as restored, or all as they were, and our directories gone but for what is kept; then close
    the journal. Says what was done.

    Raises:
        ToolFailed: Neither could be had. OSError. The journal stays then.
    """
    done: list[str] = []
    step = journal.reached("swap")
    if step is None:
        for place, _ in _places(journal):
            if place.is_dir():
                remove(place)
                done.append(shown(f"removed {place}: a restore that was not finished; nothing had been put in place"))
    elif journal.reached("undone") is not None:
        done += _take_away(journal)
    elif journal.reached("done") is not None or _settle(journal, Swap.of(step), done):
        done += [shown(f"what was replaced is kept in {each}") for each in finish(journal)]
    else:
        journal.record("undone")
        done += _take_away(journal)
    journal.close()
    return done


def _settle(journal: Journal, swap: Swap, done: list[str]) -> bool:
    """A swap that was begun: all of it, or nothing. True where all is put."""
    name = str(journal.facts.get("source", ""))
    rest = Swap([each for each in swap.moves if each.place.is_dir()], swap.dressed, swap.undressed)
    if not any(place.is_dir() for place, _ in _places(journal)):
        return True  # all was put, and only the word of it was not written
    if journal.reached("back") is not None:
        done += _back(rest)
    else:
        try:
            carry_out(journal, rest)
        except ToolFailed:
            raise
        except BackupError as error:
            done.append(f"{name}: {error.message}")
        else:
            done.append(f"{name} is as restored: what was left of a restore that was broken off was put in place")
            return True
    done.append(f"{name} is as it was: a restore that was broken off was taken back")
    return False


def _back(swap: Swap) -> list[str]:
    try:
        return [shown(each) for each in back(swap)]
    except (OSError, BackupError) as error:
        where = sorted({str(each.place / OLD) for each in swap.moves})
        raise ToolFailed(
            f"Files are restored only in part, and could not be put back as they were: {shown(str(error))}.",
            kept=f"what stood there is in {', '.join(where)}",
            remedy="mend what is told above, then: backups sweep",
        ) from error


def _take_away(journal: Journal) -> list[str]:
    """Our directories, after all was put back. What could not be put back stays, under its own name."""
    told = []
    for place, kept_as in _places(journal):
        if not place.is_dir():
            continue
        remove(place / NEW)
        for folder, _, _ in os.walk(place / OLD, topdown=False):
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(folder)
        if (place / OLD).is_dir():
            told.append(shown(f"what could not be put back is kept in {_rename(place, kept_as)}"))
        else:
            remove(place)
    return told


def _places(journal: Journal) -> list[tuple[Path, Path]]:
    """Each directory of this restore, and what it is called at the end."""
    token = str(journal.facts.get("token", ""))
    found = [
        (Path(os.fsdecode(bytes.fromhex(step["path"]))), Path(os.fsdecode(bytes.fromhex(step["kept_as"]))))
        for step in journal.steps
        if step["step"] == "place"
    ]
    return [each for each in found if token and each[0].name.endswith(token)]


def _keeps(place: Path) -> bool:
    """Does it hold anything of before?"""
    with contextlib.suppress(FileNotFoundError), open(place / BEFORE, "rb") as lines:
        return any(b'"type":"absent"' not in line for line in lines)
    return True


def _rename(place: Path, kept_as: Path) -> Path:
    free, number = kept_as, 1
    while os.path.lexists(free):
        number += 1
        free = kept_as.with_name(f"{kept_as.name}_{number}")
    os.rename(place, free)
    sync(free.parent)
    return free
