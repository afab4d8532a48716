"""Where backups stand in a store: from source, tier and time to a folder, and back from a key.

A folder template has the fields ``{site}`` ``{source}`` ``{tier}`` ``{directory}`` ``{yyyy}`` ``{mm}``
``{dd}`` (the backup's own date, UTC). ``{directory}`` is looked up by ``source/tier``, then ``tier``,
then ``*``; where none says, it is the tier. Not every template tells source or tier apart: then a key
has several possible pairs, and the manifest must tell.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from engine import names
from engine.config import BucketsConfig, FilesConfig, ImagesConfig, N8nConfig, PostgresConfig, SiteConfig, SourceConfig
from engine.errors import ConfigError, nearest

FIELDS = ("site", "source", "tier", "directory", "yyyy", "mm", "dd")
DATED = ("yyyy", "mm", "dd")
MARKS = "marks"
_OF_SERVERS = frozenset((names.BASE, names.RECOVERED, *names.LOGS))
"""Tiers that only database servers have."""
_DUMPS = frozenset(("sql", "dump"))
_LISTS, _OF_N8N = "jsonl", "json"
CONTENTS = "contents"
"""Folder of what the lists of buckets name; it holds no backups."""

Pair = tuple[str, str]
"""A source's name and a tier."""


@dataclass(frozen=True, slots=True)
class Place:
    """A key's folder and file, and the (source, tier) pairs it may belong to."""

    name: names.BackupName
    pairs: tuple[Pair, ...]


class Layout:
    """The keys of one site in one store.

    Args:
        template: Folder of a backup.
        directories: Values of ``{directory}``.
        sources: Names of the site's sources.
        store: What to call the store in messages: ``local`` or the replica's name.
        archives: Which of the sources are archives of files: these have no logs and no base backups, and where
            they share a folder with a server's dumps, the extension tells them apart.
        formats: The extension of those of these that are no archives: of buckets, whose backups are lists; of n8n.
        images: Which of them are records of containers, whose images are saved beside.

    Raises:
        ConfigError: The template or a directory is none.
    """

    def __init__(
        self,
        site: str,
        template: str,
        directories: Mapping[str, str],
        sources: Iterable[str],
        store: str = "local",
        archives: Iterable[str] = (),
        formats: Mapping[str, str] | None = None,
        images: Iterable[str] = (),
    ) -> None:
        self.site = site
        self.template = _checked(template.strip("/"), FIELDS, f"the path template of {store}", template)
        self._directories = {
            key: _checked(value.strip("/"), (), f"the directory of {key}", value) for key, value in directories.items()
        }
        self._archives = frozenset(archives)
        self._formats = dict(formats or {})
        self._images = frozenset(images)
        self.tiers = (*names.TIERS, *([names.IMAGE] if self._images else []), *self._further_tiers())
        self._patterns: dict[str, list[Pair]] = {}
        for source in sources:
            if not _SOURCE.match(source):
                raise ConfigError(
                    f"The source name {source!r} cannot be part of a path.",
                    remedy="use letters, digits, dots, dashes and underscores",
                )
            for tier in self.tiers:
                if source in self._archives and tier in _OF_SERVERS:
                    continue
                if tier == names.IMAGE and source not in self._images:
                    continue
                self._patterns.setdefault(self._pattern(source, tier), []).append((source, tier))

    def _further_tiers(self) -> list[str]:
        named = {key.rsplit("/", 1)[-1] for key in self._directories}
        return sorted(named - set(names.TIERS) - {"*", names.IMAGE})

    def folder(self, source: str, tier: str, taken_at: datetime) -> str:
        """Folder of a backup, without slashes at its ends."""
        return _dated(self._pattern(source, tier), taken_at)

    def key(self, source: str, tier: str, taken_at: datetime, file: str) -> str:
        """Key of a file of a backup."""
        folder = self.folder(source, tier, taken_at)
        return f"{folder}/{file}" if folder else file

    def folders(self, source: str, taken_at: datetime) -> set[str]:
        """Every folder that a backup of this source and time may stand in, whatever its tier."""
        return {
            _dated(pattern, taken_at)
            for pattern, pairs in self._patterns.items()
            if any(known == source for known, _ in pairs)
        }

    def place(self, key: str) -> Place | None:
        """What a key may be a backup of, or None when it is no key of this layout."""
        folder, _, file = key.rpartition("/")
        name = names.parse_file(file)
        if name is None:
            return None
        pairs = tuple(
            pair
            for pattern, pairs in self._patterns.items()
            if folder == _dated(pattern, name.taken_at)
            for pair in pairs
            if (pair[1] == name.log if name.log else pair[1] not in names.LOGS) and self._may_be(name.ext, pair)
        )
        return Place(name, pairs) if pairs else None

    def _may_be(self, ext: str, pair: Pair) -> bool:
        """Could a file with that extension be a backup of that source and tier? What other tools made may have
        any that we do not know."""
        first = ext.split(".")[0]
        if pair[0] in self._images:
            return first == ("tar" if pair[1] == names.IMAGE else names.RECORD_EXT)
        if first == names.RECORD_EXT:
            return False
        if pair[0] in self._archives:
            own = self._formats.get(pair[0])
            return first == own if own else first not in _DUMPS and first not in (_LISTS, _OF_N8N)
        return first not in (_LISTS, _OF_N8N) and (first != "tar" or pair[1] == names.BASE)

    def is_folder(self, folder: str, taken_at: datetime) -> bool:
        """May backups of that time stand in this folder?"""
        return any(folder == _dated(pattern, taken_at) for pattern in self._patterns)

    def prefixes(self, source: str | None = None, tier: str | None = None) -> list[str]:
        """What to list to see every backup (of a source, of a tier), none inside another, in key order."""
        wanted = sorted(
            {
                _listed(pattern)
                for pattern, pairs in self._patterns.items()
                if any(source in (None, known) and tier in (None, kind) for known, kind in pairs)
            }
        )
        return [
            each for number, each in enumerate(wanted) if not any(each.startswith(other) for other in wanted[:number])
        ]

    @property
    def base(self) -> str:
        """The site's own part of the store: the folders that no source, tier or date changes."""
        fixed = []
        for part in self.template.split("/"):
            if any(field for _, field, _, _ in string.Formatter().parse(part) if field and field != "site"):
                break
            fixed.append(part.format(site=self.site))
        return "/".join(fixed)

    def marks_prefix(self, key: str) -> str:
        """Where the marks of a backup stand: ``<base>/marks/<the rest of its key>.``"""
        base = self.base
        rest = key.removeprefix(base + "/") if base else key
        return "/".join(part for part in (base, MARKS, rest) if part) + "."

    @property
    def contents_folder(self) -> str:
        """Where the contents of all buckets of the site stand, with a slash at its end."""
        return "/".join(part for part in (self.base, CONTENTS, self.site) if part) + "/"

    def contents_prefix(self, source: str, bucket: str) -> str:
        """Where the contents of a bucket's objects stand, of all its lists, with a slash at its end. The site is part
        of it even where the template does not name it: what no list of this site needs may go."""
        return f"{self.contents_folder}{source}/{names.encode(bucket)}/"

    def _pattern(self, source: str, tier: str) -> str:
        """The template with all but the date filled in."""
        directory = next(
            (self._directories[key] for key in (f"{source}/{tier}", tier, "*") if key in self._directories), tier
        )
        return self.template.format(
            site=self.site, source=source, tier=tier, directory=directory, yyyy="{yyyy}", mm="{mm}", dd="{dd}"
        )

    def shared(self) -> Iterable[tuple[str, list[str]]]:
        """Folders that several sources share, with their names."""
        for pattern, pairs in self._patterns.items():
            sources = sorted({source for source, _ in pairs})
            if len(sources) > 1:
                yield pattern, sources


def layouts(config: SiteConfig) -> dict[str, Layout]:
    """The layout of every store of a site, by location.

    Raises:
        ConfigError: A template is wrong, or backups of two sources could meet under one name.
    """
    vault = config.vault
    sources = [source.name for source in config.sources()]
    archives = [source.name for source in config.archives()]
    formats = {each.name: _LISTS for each in config.buckets} | {each.name: _OF_N8N for each in config.n8n}
    images = [source.name for source in config.images]
    templates = {"local": vault.path, **{each.name: each.path or vault.path for each in vault.replicas}}
    made = {
        location: Layout(config.site, template, vault.directories, sources, location, archives, formats, images)
        for location, template in templates.items()
    }
    for location, layout in made.items():
        _refuse_meetings(config, location, layout)
    return made


def _refuse_meetings(config: SiteConfig, location: str, layout: Layout) -> None:
    for folder, sharing in layout.shared():
        configs = [config.source(name) for name in sharing]
        for number, one in enumerate(configs):
            for other in configs[number + 1 :]:
                meeting = _could_meet(one, other)
                if meeting:
                    raise ConfigError(
                        f"The sources {one.name!r} and {other.name!r} share the folder {folder!r} in {location}, "
                        f"and both may write {meeting}: their backups could not be told apart.",
                        remedy=f"put {{source}} into the path of {location}, such as "
                        f"{_with_source(layout.template)!r}, or give each its own entry in vault.directories",
                    )  # fmt: skip


def _could_meet(one: SourceConfig, other: SourceConfig) -> str:
    """Which file both may write, or nothing."""
    if _extension(one) != _extension(other):
        return ""
    if not one.databases or not other.databases:
        named = [*one.databases, *other.databases]
        return f"a backup of {named[0]!r}" if named else "a backup of a database of the same name"
    common = {names.encode(name) for name in one.databases} & {names.encode(name) for name in other.databases}
    return f"a backup of {min(common)!r}" if common else ""


def _extension(config: SourceConfig) -> str:
    if isinstance(config, BucketsConfig):
        return _LISTS
    if isinstance(config, N8nConfig):
        return _OF_N8N
    if isinstance(config, ImagesConfig):
        return names.RECORD_EXT
    if isinstance(config, FilesConfig):
        return "tar"
    return "dump" if isinstance(config, PostgresConfig) and config.format == "custom" else "sql"


def _with_source(template: str) -> str:
    for field in ("{tier}", "{directory}", "{yyyy}"):
        if field in template:
            return template.replace(field, "{source}/" + field, 1)
    return f"{template}/{{source}}"


def _checked(folder: str, fields: tuple[str, ...], what: str, written: str) -> str:
    """A folder whose every part can stand in a key."""
    try:
        parsed = list(string.Formatter().parse(folder))
    except ValueError as error:
        raise ConfigError(f"{_upper(what)}, {written!r}, is wrong: {error}.") from None
    for _, field, spec, conversion in parsed:
        if field is not None and (field not in fields or spec or conversion):
            hint = nearest(field, list(fields)) if fields else "it is taken as it is"
            raise ConfigError(f"{_upper(what)}, {written!r}, has an unknown field {{{field}}}.", remedy=hint)
    if written.startswith("/"):
        raise ConfigError(
            f"{_upper(what)}, {written!r}, is absolute.", remedy="write it relative to the vault's root or the bucket"
        )
    parts = folder.split("/")
    if folder and any(not part or part.startswith(".") or _UNSAFE.search(part) for part in parts):
        raise ConfigError(
            f"{_upper(what)}, {written!r}, has a part that cannot be a folder's name.",
            remedy="no empty parts, none that begins with a dot, no control characters",
        )
    if MARKS in parts:
        raise ConfigError(
            f"{_upper(what)}, {written!r}, uses the name {MARKS!r}, which is kept for marks.",
            remedy="choose another name",
        )
    return folder


_SOURCE = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _dated(pattern: str, taken_at: datetime) -> str:
    if "{" not in pattern:
        return pattern
    return pattern.format(yyyy=f"{taken_at:%Y}", mm=f"{taken_at:%m}", dd=f"{taken_at:%d}")


def _listed(pattern: str) -> str:
    """The part of a pattern before its first date, as a listing prefix."""
    if "{" in pattern:
        return pattern[: pattern.index("{")]
    return pattern + "/" if pattern else ""
