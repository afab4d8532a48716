"""The contents of a bucket's objects: all that the lists name are there, and a share of them is read back.

They have no manifests and no marks of their own: the signed lists say what they must be. Which were read when stands
in one mark of the bucket, by the first two digits of their names.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from engine import marks, names
from engine.buckets import record
from engine.buckets.contents import BAD, Contents
from engine.buckets.disk_map import DiskMap
from engine.catalog import Entry
from engine.errors import BackupError, Cold, IntegrityError, NotFound, Unreadable, WrongKey
from engine.manifest import Manifest
from engine.names import BackupName
from engine.stopping import check as stop_if_asked
from engine.vault import LOCAL
from engine.vault_check.census import Census
from engine.vault_check.copies import keys_at
from engine.vault_check.findings import Finding
from engine.vault_check.heal import beside, swap
from engine.vault_check.share import DAY, Share
from engine.vault_check.treat import again
from engine.vault_check.work import YOUNG, Work, why
from engine.verdicts import CONTENT

READ = "read"
"""Kind of the mark that says when which contents were read."""
SLICES = tuple(f"{number:02x}" for number in range(256))
_TROUBLE = (IntegrityError, NotFound, Unreadable, WrongKey)


@dataclass
class _Bucket:
    """One bucket in this place."""

    source: str
    name: str
    contents: Contents
    needed: DiskMap
    wrong: dict[str, str] = field(default_factory=dict)


def check_contents(work: Work, census: Census) -> None:
    """Every bucket of the site."""
    for config in work.site.config.buckets:
        entries = list(work.vault.catalog(work.location).entries(source=config.name))
        for name in sorted({each.name.name for each in entries} | set(config.databases)):
            lists = [each for each in entries if each.name.is_of(name)]
            with DiskMap() as needed:
                bucket = _Bucket(config.name, name, work.vault.contents(work.location, config.name, name), needed)
                if lists and _take_lists(work, census, bucket, lists):
                    _check(work, bucket, lists)


def slices_due(known: dict[str, datetime], share: Share, now: datetime) -> list[str]:
    """The slices whose turn it is, the longest unread first. Pure."""
    never = datetime.min.replace(tzinfo=now.tzinfo)
    ordered = sorted(SLICES, key=lambda each: (known.get(each, never), each))
    count = min(len(SLICES), math.ceil(share.part * len(SLICES)))
    overdue = now - share.within + DAY if share.within is not None else never
    late = [each for each in ordered[count:] if each in known and known[each] <= overdue]
    return ordered[:count] + late


def _take_lists(work: Work, census: Census, bucket: _Bucket, lists: list[Entry]) -> bool:
    """What the lists name. False where one cannot be read anywhere: then nobody can say what is needed."""
    read: set[str] = set()
    complete = True
    for entry in lists:
        for last in (False, True):
            try:
                manifest = work.vault.catalog(work.location).load(entry)
                if manifest.data.sha256 not in read:
                    read.add(manifest.data.sha256)
                    _take(work, bucket, entry, manifest)
                break
            except _TROUBLE as error:
                if work.store.stat(entry.manifest_key) is None:
                    break  # it was pruned meanwhile
                if last:
                    words = f"nobody knows all that its bucket needs: {why(error)}"
                    work.find("unreadable", entry.key, words, "unsure")
                    complete = False
                else:
                    again(work, census, entry)  # not its turn, and damaged: it is told, and healed
    return complete or len(bucket.needed) > 0


def _take(work: Work, bucket: _Bucket, entry: Entry, manifest: Manifest) -> None:
    """What one list names; read from the local root where the same list stands there."""
    for each in [*(keys_at(work.vault, LOCAL, entry) if entry.location != LOCAL else ()), entry]:
        try:
            with contextlib.closing(work.vault.read_part(each, manifest)) as plain:  # by the digest of this manifest
                bucket.needed.update(_named(plain, entry.file))
            return
        except _TROUBLE:
            if each is entry:
                raise


def _named(plain: Iterator[bytes], file: str) -> Iterator[tuple[str, str]]:
    for each in record.records(plain, file):
        content = each.content
        yield content.stored, json.dumps([content.stored_size, content.stored_sha256])


def _check(work: Work, bucket: _Bucket, lists: list[Entry]) -> None:
    place = _place(bucket.contents, work.location)
    known, notes = _when_read(work, place)
    turn = slices_due(known, work.share, work.now)
    _compare(work, bucket, set(turn))
    if bucket.wrong:
        work.wait()
        _forget_what_was_pruned(work, bucket, lists)
    open_ones = [found for name in bucket.wrong if (found := _treat(work, bucket, name)) is not None]
    if any(not found.healed for found in open_ones):
        _denounce_lists(work, bucket, lists)
    _remove_strays(work, bucket.contents)
    known.update(dict.fromkeys(turn, work.now))
    _remember(work, place, known, notes)


def _compare(work: Work, bucket: _Bucket, turn: set[str]) -> None:
    """Hold what is there against what the lists name."""
    with bucket.contents.present() as present:
        for number, (name, text) in enumerate(bucket.needed.items()):
            if number % 100 == 0:
                stop_if_asked(f"verification of {work.location}")
            size, sha256 = json.loads(text)
            work.report.contents += 1
            state = present.get(name)
            if state != str(size):
                bucket.wrong[name] = _in_words(state, size)
            elif name[:2] in turn:
                wrong = _read(work, bucket, name, size, sha256)
                if wrong:
                    bucket.wrong[name] = wrong


def _in_words(state: str | None, size: int) -> str:
    if state is None:
        return "is missing"
    return "was found damaged" if state == "bad" else f"has {int(state):,} bytes, not {size:,}"


def _read(work: Work, bucket: _Bucket, name: str, size: int, sha256: str) -> str:
    """What is wrong with the bytes of a content, or nothing."""
    digest, count = hashlib.sha256(), 0
    try:
        for chunk in work.store.read(bucket.contents.key(name)):
            digest.update(chunk)
            count += len(chunk)
    except Cold:
        work.report.cold += 1
        return ""
    except NotFound:
        return "is missing"
    except (IntegrityError, Unreadable) as error:
        return why(error)
    if (count, digest.hexdigest()) != (size, sha256):
        return f"is damaged: {count:,} bytes, other than the list says"
    work.report.contents_read += 1
    work.report.read_bytes += count
    return ""


def _forget_what_was_pruned(work: Work, bucket: _Bucket, lists: list[Entry]) -> None:
    """What only lists name that went meanwhile may be gone, too."""
    left = [each for each in lists if work.store.stat(each.manifest_key) is not None]
    if len(left) == len(lists):
        return
    with DiskMap() as needed:
        still = _Bucket(bucket.source, bucket.name, bucket.contents, needed)
        for entry in left:
            with contextlib.suppress(*_TROUBLE):  # told of when it was read first
                _take(work, still, entry, work.vault.catalog(work.location).load(entry))
        bucket.wrong = {name: reason for name, reason in bucket.wrong.items() if name in needed}


def _treat(work: Work, bucket: _Bucket, name: str) -> Finding | None:
    """A second look at a content; what is still wrong is named and healed."""
    size, sha256 = json.loads(bucket.needed.get(name) or '[0, ""]')
    key = bucket.contents.key(name)
    wrong = _read(work, bucket, name, size, sha256)
    noted = work.store.stat(key + BAD) is not None
    if not wrong and not noted:
        return None
    words = f"a content of {bucket.source}/{bucket.name} {wrong or 'was noted as damaged, and is whole'}"
    found = work.find("content", key, words, "damage" if wrong else "note")
    if not work.request.heal:
        found.left = "it was not asked for"
        return found
    try:
        found.healed = _heal(work, bucket, name, size, sha256) if wrong else "the note was removed"
        work.store.delete(key + BAD)
        if wrong:
            work.report.contents_read += 1
    except BackupError as error:
        found.healed, found.left = "", why(error)
        if work.store.stat(key) is not None:
            with contextlib.suppress(BackupError):
                bucket.contents.denounce(name)  # so that the next snapshot reads that object anew
    return found


def _heal(work: Work, bucket: _Bucket, name: str, size: int, sha256: str) -> str:
    """Bring a content from another place; from where. Raises IntegrityError where none has it whole."""
    reasons = []
    for place in work.others:
        there = work.vault.contents(place, bucket.source, bucket.name)
        try:
            read = partial(work.paced, there.store, there.key(name))
            temporary = beside(work.store, work.layout, read, size, sha256)
        except (*_TROUBLE, Cold) as error:
            reasons.append(f"{place}: {why(error)}")
            continue
        try:
            swap(work.store, temporary, bucket.contents.key(name), size, sha256)
        finally:
            with contextlib.suppress(BackupError):
                work.store.delete(temporary)
        return f"from {place}"
    raise IntegrityError(f"it stands whole nowhere else ({'; '.join(reasons) or 'there is no other copy'})")


def _denounce_lists(work: Work, bucket: _Bucket, lists: list[Entry]) -> None:
    """Mark the lists that name what is gone for good: they are no good backups any more."""
    gone = {each.what.rsplit("/", 1)[-1].split(".")[0] for each in work.report.findings if _is_gone(each, bucket)}
    for entry in lists:
        try:
            manifest = work.vault.catalog(work.location).load(entry)
            with contextlib.closing(work.vault.read_part(entry, manifest)) as plain:
                lost = sum(1 for each in record.stored_names(plain, entry.file) if each in gone)
            if lost:
                reason = f"{lost} of the contents that it names are missing or damaged"
                work.vault.mark(entry, "broken", reason=reason, by="verify-vault", **{CONTENT: False})
                work.find("damaged", entry.key, reason, left="they stand whole nowhere else")
        except BackupError as error:
            work.find("unreadable", entry.key, why(error), "unsure")


def _is_gone(found: Finding, bucket: _Bucket) -> bool:
    return found.kind == "content" and found.open and found.what.startswith(bucket.contents.prefix)


def _remove_strays(work: Work, contents: Contents) -> None:
    """What was on its way in when its writer died."""
    for key, seconds in list(contents.strays()):
        if seconds > YOUNG.total_seconds() and work.request.heal:
            work.store.delete(key)
            work.find("unfinished", key, "a content was never written to its end", "note", healed="it was removed")


def _place(contents: Contents, location: str) -> Entry:
    """Whose marks those of a bucket's contents are."""
    key = contents.prefix.rstrip("/")
    return Entry(location, key, BackupName(names.now(), key.rsplit("/", 1)[-1], "contents"), None, None, 0)


def _when_read(work: Work, place: Entry) -> tuple[dict[str, datetime], list[str]]:
    """When each slice was read; and the keys of the marks that say so. What cannot be believed was never read."""
    words, bad = marks.judge(work.store, work.layout, work.vault.keys, place)
    for key, error in bad:
        work.find("mark", key, why(error), "note", left="it is written anew")
    prefix = work.layout.marks_prefix(place.key) + READ
    notes = [info.key for info in work.store.list(prefix)]
    known: dict[str, datetime] = {}
    for word in words:
        told = word["facts"].get("slices")
        for name, at in told.items() if word["kind"] == READ and isinstance(told, dict) else ():
            with contextlib.suppress(TypeError, ValueError):
                moment = datetime.fromisoformat(at)
                if moment <= work.now + timedelta(days=1):
                    known[name] = moment
    return known, notes


def _remember(work: Work, place: Entry, known: dict[str, datetime], notes: list[str]) -> None:
    """One mark says all; those before it go."""
    try:
        facts = {"slices": {name: names.iso(known[name]) for name in SLICES if name in known}}
        marks.add(work.store, work.layout, work.vault.keys, place, READ, facts)
    except BackupError as error:
        work.find("mark", place.key, f"when contents were read could not be noted: {why(error)}", "note")
        return
    with contextlib.suppress(BackupError):  # where the key may not delete, they stay and are passed over
        for key in notes:
            work.store.delete(key)
