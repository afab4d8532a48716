"""What checks have said of a backup: of one copy, and of all its copies together. One rule for restores, windows,
drills and status.

A copy that got damaged where it stands says nothing of the others. A backup whose content is wrong (too small, below
its floor, without its end) was made so: then no copy of it is good, unless one was found whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from engine.catalog import Entry
from engine.errors import BackupError, IntegrityError, WrongKey
from engine.site import Site
from engine.vault import Vault

CONTENT = "content"
"""Fact of a ``broken`` mark: is it what the backup holds that is wrong, and not only this copy of it?"""


@dataclass(frozen=True)
class Word:
    """The last word on one copy.

    Attributes:
        whole: Whole, broken, or None where no check was made. A drill that proved it restored all of it.
        content: Broken by what it holds: so is every copy.
    """

    whole: bool | None = None
    content: bool = False


def word_of(marks: Iterable[dict[str, Any]]) -> Word:
    """From the signed marks of one copy, oldest first. Where an older release's mark does not say what is broken, it is
    the content of what was never found whole."""
    whole: bool | None = None
    content = proven = False
    for mark in marks:
        if mark.get("kind") in ("verified", "proven"):
            whole, content, proven = True, False, True
        elif mark.get("kind") == "broken":
            whole, content = False, content or bool(mark["facts"].get(CONTENT, not proven))
    return Word(whole, content)


def condemned(words: Iterable[Word]) -> bool:
    """Is a backup wrong in its content by the words on its copies: found so anywhere, and whole nowhere?"""
    words = list(words)
    return any(each.content for each in words) and not any(each.whole for each in words)


def verdict(site: Site, entry: Entry) -> bool | None:
    """What the last check of a stored copy said: whole, broken, or None when there was none. Raises what reading its
    marks does."""
    return word_of(site.vault.marks(entry)).whole


def found_broken(site: Site, entry: Entry, notes: list[str]) -> bool:
    """Is this copy known to be no good: by the last word on itself, or where there is none by the words on the others?
    A mark that cannot be read says nothing, and is noted."""
    own = _word(site, entry, notes)
    if own.whole is not None:
        return not own.whole
    others = []
    for there in _elsewhere(site.vault, entry):
        if there.location in site.silent:
            continue
        others.append(_word(site, there, notes))
        if others[-1].whole:
            return False
    return condemned(others)


def _word(site: Site, entry: Entry, notes: list[str]) -> Word:
    try:
        return word_of(site.vault.marks(entry))
    except BackupError as error:
        if not isinstance(error, (IntegrityError, WrongKey)):
            site.silent.add(entry.location)
        if error.message not in notes:
            notes.append(error.message)
        return Word()


def _elsewhere(vault: Vault, entry: Entry) -> Iterator[Entry]:
    """Where copies of a backup would stand in the other places, by its names."""
    place = vault.layout(entry.location).place(entry.key)
    for location in vault.locations():
        layout = vault.layout(location)
        if location == entry.location or place is None:
            continue
        pairs = [each for each in place.pairs if entry.source in (None, each[0]) and entry.tier in (None, each[1])]
        for key in dict.fromkeys(layout.key(*each, entry.name.taken_at, entry.file) for each in pairs):
            yield Entry(location, key, entry.name, entry.source, entry.tier, entry.size)
