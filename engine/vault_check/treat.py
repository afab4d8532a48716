"""What follows from a look at a backup: a mark that it is whole; or it is named, healed, or marked as broken."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import islice

from engine import backup, marks, names
from engine.catalog import Entry
from engine.errors import BackupError, ConfigError, IntegrityError, NotFound, Unreadable, WrongKey
from engine.prune.contents import BROKEN, CARRIED, COPIED, VERIFIED
from engine.signed import unseal
from engine.stopping import check as stop_if_asked
from engine.vault_check.census import SEEN, Census, Known
from engine.vault_check.copies import Look, keys_at, look
from engine.vault_check.findings import Finding
from engine.vault_check.heal import heal, set_aside, stands_whole
from engine.vault_check.work import Work, why
from engine.verdicts import CONTENT

_AT_ONCE = 3
_BATCH = 48
BY = "verify-vault"
_FINAL = {kind for group in CARRIED for kind in group}
"""Words that nobody else knows."""


def examine(work: Work, census: Census) -> None:
    """Read the backups back whose turn it is. What looks wrong is looked at again: it may have been on its way."""
    troubled: list[Entry] = []
    due = ((entry, known) for known in census.due() if (entry := work.entry(known.key, known.size)) is not None)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="read-back") as pool:
        while batch := list(islice(due, _BATCH)):
            stop_if_asked(f"verification of {work.location}")
            looks = pool.map(lambda each: _first_look(work, *each), batch)
            for (entry, _), seen in zip(batch, looks, strict=True):
                if seen is None:
                    troubled.append(entry)
                else:
                    _count(work, seen)
                    confirm(work, seen)
    if troubled:
        work.wait()
    for entry in troubled:
        stop_if_asked(f"verification of {work.location}")
        again(work, census, entry)


def again(work: Work, census: Census, entry: Entry) -> None:
    """A second look, and what follows from it."""
    try:
        seen = look(work, entry)
    except NotFound:
        return  # it went meanwhile; one whose data stayed is suspect by its names
    if seen.unread is not None and is_foreign(work, entry, seen.unread):
        return
    treat(work, seen, expired=census.expired(entry.key))


def treat(work: Work, seen: Look, *, expired: bool = False) -> None:
    """Name what is wrong with a backup, and heal what can be healed."""
    for key, error in seen.bad_marks:
        _heal_mark(work, seen, key, error)
    for key in seen.leftover:
        found = work.find("leftover", key, "no manifest speaks of it", "stray")
        if work.request.set_aside:
            _aside(work, found, [key])
    if not seen.whole:
        _treat_damage(work, seen, expired)
        return
    rivals = [place for place in seen.differs if stands_whole(work, place, seen.entry)]
    if rivals:
        words = f"another signed manifest of the same name stands in {', '.join(rivals)}, with data that fits it"
        work.find("differs", seen.entry.key, words, left="both are signed: a person has to say which one is right")
    _count(work, seen)
    if seen.bad_marks:  # one of these may have been the proof
        seen.words = marks.judge(work.store, work.layout, work.vault.keys, seen.entry)[0]
    confirm(work, seen)


def _treat_damage(work: Work, seen: Look, expired: bool) -> None:
    forged = seen.unread is not None and not isinstance(seen.unread, Unreadable)
    kind, severity = ("forged" if forged else "damaged"), ("unsure" if _is_unsure(work, seen) else "damage")
    found = work.find(kind, seen.entry.key, seen.problem(), severity)  # type: ignore[arg-type]
    if expired:
        found.severity, found.left = "note", "it has expired, and goes with the next prune"
        return
    if try_to_heal(work, seen.entry, found):
        return
    if found.severity == "damage" and seen.verdict != BROKEN:
        _note(work, seen, BROKEN, reason=seen.problem(), by=BY, **{CONTENT: False})


def try_to_heal(work: Work, entry: Entry, found: Finding) -> bool:
    """Put a backup right, and prove it by another look. What does not work is told in the finding."""
    if not work.request.heal:
        found.left = "it was not asked for"
        return False
    try:
        how = heal(work, entry)
        seen = look(work, entry)
    except BackupError as error:
        found.left = why(error)
        return False
    if not seen.whole:
        found.left = f"it is still wrong: {seen.problem()}"
        return False
    found.healed = how
    if found.severity == "unsure":
        found.severity = "damage"  # a good copy opens with a key that is there
    if seen.verdict == "":
        _note(work, seen, COPIED, proof="read-back", sha256=_sha256(seen), by=BY)
    else:
        confirm(work, seen)
    _count(work, seen)
    return True


def confirm(work: Work, seen: Look) -> None:
    """Leave the word of a backup that is whole: it was read back now. What nobody ever verified, or was found broken,
    is verified to its end: that its bytes are those of its manifest is not enough then."""
    if seen.cold:
        _note(work, seen, SEEN, cold=seen.cold, by=BY)
    elif seen.verdict == VERIFIED:
        _note(work, seen, VERIFIED, checks=["signature", "digest"], sha256=_sha256(seen), by=BY)
    elif seen.verdict == COPIED:
        _note(work, seen, COPIED, proof="read-back", sha256=_sha256(seen), by=BY)
    else:
        _verify_wholly(work, seen)


def _verify_wholly(work: Work, seen: Look) -> None:
    try:
        backup.verify(work.site, seen.entry, progress=work.progress)
    except IntegrityError as error:
        work.find("damaged", seen.entry.key, why(error), left="its bytes are those of its manifest: it was made so")
    except ConfigError as error:  # of a source that the site does not have any more
        work.find("unreadable", seen.entry.key, f"its bytes are right; {why(error)}", "note")
        _note(work, seen, SEEN, by=BY)
    except BackupError as error:
        work.find("unreadable", seen.entry.key, why(error), "unsure")


def _first_look(work: Work, entry: Entry, known: Known) -> Look | None:
    """None where there is anything to say."""
    try:
        seen = look(work, entry, known)
    except NotFound:
        return None
    return seen if seen.well else None


def _count(work: Work, seen: Look) -> None:
    if seen.cold:
        work.report.cold += 1
    elif seen.manifest is not None:
        work.report.read += 1
        work.report.read_bytes += seen.manifest.stored_bytes


def _heal_mark(work: Work, seen: Look, key: str, error: BackupError) -> None:
    """A mark that does not hold is moved away, when what it said is known otherwise or is said anew."""
    found = work.find("mark", key, why(error), "unsure" if isinstance(error, WrongKey) else "damage")
    if not work.request.heal:
        found.left = "it was not asked for"
        return
    kind = key.removeprefix(work.layout.marks_prefix(seen.entry.key)).split(".")[0]
    try:
        if kind in _FINAL and not _said_again(work, seen.entry, kind):
            found.left = f"no other place knows what it said ({kind}); say it again, then delete it"
            return
        found.healed = f"moved to {set_aside(work, key)}"
    except BackupError as failure:
        found.left = why(failure)


def _said_again(work: Work, entry: Entry, kind: str) -> bool:
    """Take the word from a place that has it."""
    group = next(group for group in CARRIED if kind in group)
    for location in work.others:
        store, layout = work.vault.store(location), work.vault.layout(location)
        for there in keys_at(work.vault, location, entry):
            words, _ = marks.judge(store, layout, work.vault.keys, there)
            last = next((word for word in reversed(words) if word["kind"] in group), None)
            if last is not None:
                facts, at = {**last["facts"], "origin": location}, datetime.fromisoformat(str(last["at"]))
                marks.add(work.store, work.layout, work.vault.keys, entry, last["kind"], facts, at)
                return True
    return False


def _note(work: Work, seen: Look, kind: str, **facts: object) -> None:
    """Leave a mark, later than those that are there: of two in one second the worse one counts."""
    last = max((datetime.fromisoformat(str(word["at"])) for word in seen.words), default=None)
    at = names.now()
    if last is not None and kind != BROKEN and at < last + timedelta(seconds=1) < at + timedelta(minutes=1):
        at = last + timedelta(seconds=1)
    try:
        marks.add(work.store, work.layout, work.vault.keys, seen.entry, kind, facts, at)
    except BackupError as error:
        work.find("mark", seen.entry.key, f"it could not be marked as {kind}: {why(error)}", "note")


def _aside(work: Work, found: Finding, keys: Iterable[str]) -> None:
    try:
        moved = [set_aside(work, key) for key in keys]
    except BackupError as error:
        found.left = why(error)
        return
    found.healed = f"moved to {moved[0]}" if moved else ""


def is_foreign(work: Work, entry: Entry, error: BackupError) -> bool:
    """Is it another site's, in a folder that sites share? Its own signature says so, or a key that we do not have."""
    if "{site}" in work.layout.template:
        return False
    body: dict[str, object] = {}
    with contextlib.suppress(BackupError, ValueError):
        data = work.store.get(entry.manifest_key)
        body = json.loads(data)
        unseal(data, work.vault.keys, what=entry.file, needed_for=entry.file)
    return isinstance(body, dict) and body.get("site") not in (None, work.vault.site) and _holds(error)


def _holds(error: BackupError) -> bool:
    return isinstance(error, WrongKey) or "belongs to site" in error.message


def _is_unsure(work: Work, seen: Look) -> bool:
    """Can nobody tell whether it is damaged, or ours at all? In a folder that sites share, a manifest that cannot be
    read may be another site's, unless marks of ours speak of it."""
    if isinstance(seen.unread, Unreadable):
        return "{site}" not in work.layout.template and not seen.words
    return isinstance(seen.unread, WrongKey)


def _sha256(seen: Look) -> str:
    return seen.manifest.data.sha256 if seen.manifest is not None else ""
