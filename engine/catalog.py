"""Which backups a store holds: from names alone, manifests only when needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from engine import manifest as manifests
from engine import names
from engine.codec import KeyRing
from engine.errors import BackupError, IntegrityError, NotFound, UnknownName, Unreadable, WrongKey, nearest
from engine.layout import Layout, Pair, Place
from engine.manifest import Manifest
from engine.names import BackupName
from engine.stores.base import Store

_BEFORE = "before "


@dataclass(frozen=True, slots=True)
class Entry:
    """One backup in one store, known from its names.

    Attributes:
        location: ``local`` or the replica's name.
        key: Key of the data file; the manifest's is ``key + '.json'``.
        source: The source's name, or None when only the manifest tells.
        tier: The tier, or None when only the manifest tells.
        size: Bytes of the data file as listed.
    """

    location: str
    key: str
    name: BackupName
    source: str | None
    tier: str | None
    size: int

    @property
    def file(self) -> str:
        return self.key.rsplit("/", 1)[-1]

    @property
    def manifest_key(self) -> str:
        return self.key + names.MANIFEST_SUFFIX

    def beside(self, file: str) -> str:
        """Key of another file in the same folder."""
        folder, slash, _ = self.key.rpartition("/")
        return f"{folder}{slash}{file}"


Named = tuple[Entry, Place, datetime]
"""A backup by its names, and when its manifest was written."""
_SETTLED: frozenset[Pair] = frozenset()


class Catalog:
    """Backups of one store. A backup is a data file with a manifest beside it; anything else is not.

    Attributes:
        manifests_read: How many manifests were fetched so far.
    """

    def __init__(self, store: Store, layout: Layout, keys: KeyRing) -> None:
        self._store = store
        self._layout = layout
        self._keys = keys
        self._resolved: dict[tuple[str, int, datetime], tuple[str, str]] = {}
        self._listed: list[Named] | BackupError | None = None
        self._once = False
        self.manifests_read = 0

    @contextmanager
    def listed_once(self) -> Iterator[None]:
        """Within it the place is listed once, however often it is asked; and when it is down it is asked once. For one
        look from many sides: of 100,000 backups a listing costs seconds."""
        self._once = True
        try:
            yield
        finally:
            self._once, self._listed = False, None

    def entries(
        self, *, source: str | None = None, database: str | None = None, tier: str | None = None, settled: bool = False
    ) -> Iterator[Entry]:
        """Newest first. Reads a manifest only where the names leave a wanted source or tier open.

        A backup whose manifest cannot be read then is listed with both open: it cannot be ruled out,
        and ``load`` says what is wrong with it.

        Args:
            settled: Source and tier of every backup are wanted, so that manifests are read wherever names leave one of
                them open.
        """
        named = list(self._open_ended(source, database, tier, settled))
        named.sort(key=lambda each: each[0].name.taken_at, reverse=True)
        for entry, fits, written in named:
            if not fits:
                yield entry
                continue
            found = self._resolve(entry, written)
            if found is not None and (found.source is None or (found.source, found.tier) in fits):
                yield found

    def _open_ended(
        self, source: str | None, database: str | None, tier: str | None, settled: bool
    ) -> Iterator[tuple[Entry, frozenset[Pair], datetime]]:
        """What the names allow; of what they leave open, the pairs of which it must be one."""
        for entry, place, written in self._named(source, database, tier):
            fits = frozenset(pair for pair in place.pairs if source in (None, pair[0]) and tier in (None, pair[1]))
            known = entry.source is not None and entry.tier is not None
            anything = len(fits) == len(set(place.pairs)) and (known or not settled)
            yield entry, (_SETTLED if anything else fits), written

    def possible(self, tier: str) -> Iterator[Entry]:
        """What may be of a tier by its names alone, in no order. Reads no manifest: where names leave the tier open,
        a caller that knows most of them from elsewhere need not read them all."""
        yield from (entry for entry, _, _ in self._named(None, None, tier))

    def load(self, entry: Entry) -> Manifest:
        """The signed manifest, read afresh.

        Raises:
            IntegrityError: Damaged, altered, of another backup, or it belongs elsewhere.
            WrongKey: The ring does not hold its key. NotFound: There is none. Unreadable.
        """
        return self.opened(entry)[1]

    def opened(self, entry: Entry) -> tuple[bytes, Manifest]:
        """The manifest as it is stored, and read. Raises as ``load``."""
        self.manifests_read += 1
        data = self._store.get(entry.manifest_key)
        manifest = manifests.open_signed(data, self._keys, file=entry.file, site=self._layout.site)
        place = self._layout.place(entry.key)
        if place is None or (manifest.source, manifest.tier) not in place.pairs:
            raise IntegrityError(
                f"The manifest of {entry.file} is of {manifest.source}/{manifest.tier}, which does not belong at "
                f"{entry.key}: it was moved there.",
                kept="nothing was decrypted",
                remedy="put the backup and its manifest back into their own folder",
            )
        return data, manifest

    def find(self, source: str, database: str, which: str = "latest") -> tuple[Entry, Manifest]:
        """``latest``, a file name, or ``before 2025-01-16T02:00:00Z`` (newest at or before).

        Raises:
            UnknownName: none such; says what there is. ConfigError: a time without zone.
        """
        wanted = which.strip()
        found = next(self.candidates(source, database, wanted), None)
        if found is None:
            raise self._none_such(source, database, wanted)
        return found

    def candidates(self, source: str, database: str, which: str) -> Iterator[tuple[Entry, Manifest]]:
        """Every backup that ``which`` can mean, the best first; see ``find``.

        For ``latest`` and ``before`` these are all in question, newest first, without the safety copies
        that restores take of what they replace, and what else is no backup of the database as it was.
        """
        here = (each for each in self.entries(source=source, database=database) if not each.name.log)
        if which.startswith(_BEFORE):
            moment = names.parse_moment(which.removeprefix(_BEFORE))
            here = (entry for entry in here if entry.name.taken_at <= moment)
        elif which != "latest":
            yield from ((entry, self.load(entry)) for entry in here if self.is_named(entry, which))
            return
        for entry in here:
            manifest = self.load(entry)
            if manifest.tier not in names.NEVER_LATEST:
                yield entry, manifest

    @staticmethod
    def is_named(entry: Entry, which: str) -> bool:
        """Does ``which`` name this very backup?"""
        file = which.strip().rsplit("/", 1)[-1].removesuffix(names.MANIFEST_SUFFIX)
        return file in (entry.file, entry.name.stem)

    def newest_before(self, source: str, database: str, moment: datetime) -> Entry | None:
        """The newest backup begun at or before a moment."""
        return next(
            (entry for entry in self.entries(source=source, database=database) if entry.name.taken_at <= moment), None
        )

    def _named(self, source: str | None, database: str | None, tier: str | None) -> Iterator[Named]:
        for entry, place, written in self._known(source, tier):
            if database is not None and not place.name.is_of(database):
                continue
            if any(source in (None, known) and tier in (None, kind) for known, kind in place.pairs):
                yield entry, place, written

    def _known(self, source: str | None, tier: str | None) -> Iterable[Named]:
        """What the place lists, of these at least."""
        if not self._once:
            return self._list(source, tier)
        if self._listed is None:
            try:
                self._listed = list(self._list(None, None))
            except BackupError as error:
                self._listed = error
        if isinstance(self._listed, BackupError):
            raise self._listed
        return self._listed

    def _list(self, source: str | None, tier: str | None) -> Iterator[Named]:
        for prefix in self._layout.prefixes(source, tier):
            for key, size, written in with_manifest(self._store, prefix):
                place = self._layout.place(key)
                if place is not None:
                    yield self._entry(key, size, place), place, written

    def _entry(self, key: str, size: int, place: Place) -> Entry:
        sources, tiers = {each for each, _ in place.pairs}, {each for _, each in place.pairs}
        return Entry(
            self._store.name, key, place.name,
            sources.pop() if len(sources) == 1 else None, tiers.pop() if len(tiers) == 1 else None, size,
        )  # fmt: skip

    def _resolve(self, entry: Entry, written: datetime) -> Entry | None:
        """The entry with source and tier from its manifest; None when it was deleted meanwhile."""
        known = self._resolved.get((entry.key, entry.size, written))
        if known is None:
            try:
                manifest = self.load(entry)
            except NotFound:
                return None
            except (IntegrityError, WrongKey, Unreadable):
                return replace(entry, source=None, tier=None)
            known = self._resolved[entry.key, entry.size, written] = (manifest.source, manifest.tier)
        return replace(entry, source=known[0], tier=known[1])

    def _none_such(self, source: str, database: str, which: str) -> UnknownName:
        place = self._store.describe()
        here = [entry.file for entry in self.entries(source=source, database=database)]
        if here:
            hint = nearest(which, here) if which != "latest" and not which.startswith(_BEFORE) else ""
            some = ", ".join(here[:5]) + (f" and {len(here) - 5} older" if len(here) > 5 else "")
            oldest = f"The oldest is {here[-1]}." if which.startswith(_BEFORE) else ""
            return UnknownName(
                f"{place} has no backup of {source}/{database} that is {which!r}.",
                remedy=" ".join(each for each in (hint, f"There are: {some}.", oldest) if each),
            )
        others = sorted({entry.name.name for entry in self.entries(source=source)})
        return UnknownName(
            f"{place} has no backup of {source}/{database}.",
            remedy=f"{source} has backups of: {', '.join(others)}"
            if others
            else f"there is no backup of {source} there at all; make one, or look at another location",
        )


def with_manifest(store: Store, prefix: str) -> Iterator[tuple[str, int, datetime]]:
    """Keys, sizes and manifest times of the objects below a prefix that have a manifest beside them.

    Listings come in key order and a manifest's key is the data's and ``.json``: so only the objects
    whose key begins the present one can still get theirs, and nothing else is held.
    """
    open_keys: list[tuple[str, int]] = []
    for info in store.list(prefix):
        open_keys = [each for each in open_keys if info.key.startswith(each[0])]
        if info.key.endswith(names.MANIFEST_SUFFIX):
            data = info.key.removesuffix(names.MANIFEST_SUFFIX)
            yield from ((key, size, info.modified) for key, size in open_keys if key == data)
        open_keys.append((info.key, info.size))
