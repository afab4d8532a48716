"""The buckets of an S3 endpoint as a source of backups."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any

from engine import names
from engine.buckets import record
from engine.buckets.contents import Contents, Keeper
from engine.buckets.endpoint import Endpoint
from engine.buckets.fetch import Fetcher
from engine.buckets.snapshot import Basis, Snapshot, Totals
from engine.config import BucketsConfig
from engine.config_files.source import shown
from engine.errors import ConfigError, IntegrityError, NotFound, WrongKey
from engine.journal import Journal
from engine.manifest import Manifest, Server
from engine.progress import Progress
from engine.prune.contents import claims_of
from engine.source import Facts, Parts, Preflight
from engine.vault import LOCAL, Vault

_DAMAGE = (IntegrityError, WrongKey, NotFound)


class BucketsSource:
    """Buckets of one endpoint, each a backup of its own: a signed list, and each distinct content once.

    Args:
        vault: Where the contents are stored, beside the list.
    """

    kind = "bucket"

    def __init__(self, config: BucketsConfig, *, vault: Vault) -> None:
        self.name = config.name
        self._config = config
        self._vault = vault

    def databases(self) -> list[str]:
        """The buckets. Raises ConfigError where the site names none."""
        if not self._config.buckets:
            raise ConfigError(
                f"{self.name} names no buckets.", remedy="list them in the site file: buckets: {buckets: [uploads]}"
            )
        return self._config.buckets

    def extension(self) -> str:
        return record.EXTENSION

    def endpoint(self, bucket: str) -> Endpoint:
        """One of its buckets, or another at the same endpoint."""
        return Endpoint.of(self._config, bucket)

    def preflight(self, database: str) -> Preflight:
        """The bucket is there and may be listed.

        Raises:
            UnknownName: No such bucket; the nearest is named. CredentialsRefused, Unreachable.
        """
        endpoint = self.endpoint(database)
        endpoint.reach()
        return Preflight(_server(endpoint), 0)

    def capture(self, database: str, parts: Parts, progress: Progress) -> Facts:
        """See ``engine.file_source.FileSource``. Only what changed since the last snapshot is read.

        Raises:
            UnknownName, CredentialsRefused, Unreachable. What concerns single objects is told as incomplete, unless
            no object at all could be read.
        """
        endpoint = self.endpoint(database)
        settings = endpoint.settings()
        contents = self._vault.contents(LOCAL, self.name, database)
        with contextlib.closing(Basis(opens=contents.opens)) as basis:
            basis.present.update((each.name, each.state) for each in contents.listing())
            notes = self._last(database, contents, basis)
            keeper = Keeper(contents, basis.contents, basis.present, self._vault.iterations)
            fetcher = Fetcher(endpoint, keeper, tags=self._config.tags)
            work = Snapshot(endpoint, fetcher, basis, self._config.exclude, self._config.threads)
            totals = work.write(parts.data(), progress)
        if totals.first is not None and not totals.objects:
            raise totals.first
        return Facts(
            server=_server(endpoint),
            dump_format=record.DUMP_FORMAT,
            contents=settings.as_dict() | _contents(database, endpoint, totals, keeper, basis.file),
            warnings=[*notes, *settings.unread, *fetcher.warnings],
            incomplete=[*_incomplete(totals), *_tagless(fetcher)],
        )

    def recover(self, journal: Journal) -> list[str]:
        """Drop the uploads that a restore left unfinished, and what a drill left in its scratch bucket. Nothing else is
        ever half done: each object is whole, and contents that no list names go with a prune.

        Raises:
            Unreachable, CredentialsRefused: asking the endpoint; the journal stays.
        """
        from engine.scratch.buckets import JOURNAL, clear_prefix

        if journal.kind == JOURNAL:
            return clear_prefix(self._config, journal)
        endpoint = self.endpoint(str(journal.facts.get("database", "")))
        known: dict[str, list[str]] = {}
        asked: dict[str, str] = {}
        for step in (step for step in journal.steps if step["step"] == "upload"):
            if step["id"]:
                known.setdefault(step["key"], []).append(step["id"])
                asked.pop(step["key"], None)
            else:
                asked[step["key"]] = step["at"]
        for key, at in asked.items():  # it died before it knew whether the upload had begun
            known.setdefault(key, []).extend(endpoint.unfinished(key, datetime.fromisoformat(at)))
        done = [key for key, uploads in known.items() if sum(endpoint.abandon(key, each) for each in uploads)]
        journal.close()
        return [f"abandoned the unfinished upload of {shown(each)!r} into {endpoint.place}" for each in done]

    def lock(self, database: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        pass

    def _last(self, bucket: str, contents: Contents, basis: Basis) -> list[str]:
        """Take in the newest list that is whole. One that is damaged costs time, not data: older ones are tried, and
        where there is none, everything is read."""
        notes: list[str] = []
        catalog = self._vault.catalog(LOCAL)
        for entry in catalog.entries(source=self.name, database=bucket):
            if claims_of(self._vault, entry).claim == "broken":
                continue
            try:
                manifest: Manifest = catalog.load(entry)
                plain = self._vault.read_part(entry, manifest)
                with contextlib.closing(plain):
                    basis.take(record.lines(plain, manifest.file), manifest.file)
                basis.file = manifest.file
                return notes
            except _DAMAGE as error:
                notes.append(f"{entry.file} was not leant on: {error.message.rstrip('.')}")
        return notes


def _tagless(fetcher: Fetcher) -> list[str]:
    if fetcher.refused is None:
        return []
    return [f"the objects' tags ({fetcher.refused.message.rstrip('.')}); allow it, or set tags: false"]


def _server(endpoint: Endpoint) -> Server:
    return Server(flavour="s3", version="", tool="boto3", uuid=endpoint.place.endpoint)


def _contents(bucket: str, endpoint: Endpoint, totals: Totals, keeper: Keeper, basis: str) -> dict[str, Any]:
    return {
        "bucket": bucket,
        "endpoint": endpoint.place.endpoint,
        "objects": totals.objects,
        "bytes": totals.bytes,
        "copied": totals.copied,
        "copied_bytes": totals.copied_bytes,
        "stored": keeper.stored,
        "stored_bytes": keeper.stored_bytes,
        "excluded": totals.excluded,
        "keys": sorted(totals.keys),
        "basis": basis,
        "listed_at": names.iso(names.now()),
    }


def _incomplete(totals: Totals) -> list[str]:
    told = [shown(f"{each.key}: {each.why}") for each in totals.unread]
    more = totals.missed - len(told)
    return [*told, f"and {more:,} more"] if more else told


__all__ = ["BucketsSource"]
