"""Restore drill of PostgreSQL: dumps in a new cluster of the source's version, and the whole server from its base
backup and log."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engine.catalog import Entry
from engine.config import PostgresConfig
from engine.drill.asked import judge_queries, queries_for
from engine.drill.base import Piece, SourceDrill, with_remedy
from engine.drill.choose import databases_of
from engine.drill.databases import row_digests, stream_volume, structure_and_volume
from engine.drill.past import PastMoment, past_moments, recovery_checks
from engine.drill.postgres_cluster import Fresh, fresh_cluster
from engine.drill.postgres_looks import Stream, There
from engine.drill.verdict import FAILED, PROVEN, UNVERIFIED, Check
from engine.errors import ConfigError, IntegrityError, ToolFailed, ToolMissing, WrongTool
from engine.journal import Journal
from engine.manifest import Manifest
from engine.point_in_time import PastPlan, physical, proven_logs
from engine.postgres import rows
from engine.postgres.base_facts import MANIFEST_ROLE, base_facts
from engine.postgres.converter import Converter
from engine.postgres.pitr import recover
from engine.postgres.server import PostgresSource
from engine.scratch.postgres import Cluster
from engine.scratch.postgres_files import Member
from engine.source import Selection

_TEMPLATES = ("template0", "template1")
_OWN = ("postgres", *_TEMPLATES)
"""What a new cluster has by itself."""
_ROOM = 2
"""A loaded database takes about this many times the bytes of its dump."""


class PostgresDrill(SourceDrill[Fresh]):
    """One server's databases, each from its dump."""

    kind = "postgres"

    @property
    def config(self) -> PostgresConfig:
        found = self.site.config.source(self.source)
        assert isinstance(found, PostgresConfig)
        return found

    @contextlib.contextmanager
    def place(self) -> Iterator[Fresh]:
        manifests = [piece.manifest for piece in self.pieces if piece.copies]
        newest = max(manifests, key=lambda each: each.taken_at)
        extensions = {each["name"] for manifest in manifests for each in manifest.contents.get("extensions", [])}
        with fresh_cluster(
            self.config,
            site=self.site.name,
            state=self.site.vault.state,
            major=_major(newest),
            needed=sum(manifest.data.plain_size for manifest in manifests) * _ROOM,
            extensions=sorted(extensions),
        ) as cluster:
            yield cluster

    def describe(self, place: Fresh) -> str:
        return f"{place.place.describe()}, {PostgresSource(place.config, site=self.site.name).server().version}"

    def alive(self, place: Fresh) -> bool:
        return place.cluster.running

    def restore(self, place: Fresh, piece: Piece, entry: Entry, manifest: Manifest) -> list[str]:
        source = PostgresSource(place.config, site=self.site.name)
        journal = Journal.create(Path(place.place.work) / "journals", "postgres-restore", database=manifest.database)
        into = name_there(manifest.database)
        for companion in manifest.files[1:]:  # small: read to its end, so that size and digest are proven
            for _ in self.part_of(entry, manifest, companion.role):
                pass
        try:
            notes = source.load_beside(
                manifest, lambda role: self.part_of(entry, manifest, role), into, Selection(), journal,
                self.work.progress,
            )  # fmt: skip
        except BaseException:
            with contextlib.suppress(Exception):
                source.drop_side(into, journal)
            raise
        finally:
            journal.close()
        return [note for note in notes if not note.startswith("Roles that were missing")]

    def prove(self, place: Fresh, piece: Piece) -> Iterator[Check]:
        manifest, there = piece.manifest, There(place.config, self.site.name, _major(piece.manifest))
        into = name_there(manifest.database)
        source = PostgresSource(place.config, site=self.site.name)
        comparison = source.compare(manifest, into, Selection())
        yield from structure_and_volume(manifest, comparison)
        with there.connector.open(into) as inside:
            tables = rows.tables(inside)
            uncounted = [table for table in tables if table.label in manifest.uncounted]
            counts = comparison.found | rows.count_all(inside, uncounted)
        # of an extension's own tables a dump holds a part only
        known = sorted(table.label for table in tables if table.label in counts and not table.condition)
        sample = self.work.sample(piece, known)
        stream = self.read_dump(piece, there, set(sample))
        yield from stream_volume(manifest, stream.scanner.rows, counts)
        if sample:
            copy = there.dump_again(into, stream.statements)
            same = _same_server(manifest, source)
            yield row_digests(sample, len(known), stream.sets, copy, comparable=same)
        queries = self.site.config.drill.queries.get(self.source, [])
        asked = queries_for(queries, piece, databases_of(self.site, self.source))
        yield from judge_queries(asked, partial(there.ask, into))
        yield from there.amcheck(into, self.result.notes)

    def read_dump(self, piece: Piece, there: There, sample: set[str]) -> Stream:
        """Rows of every table in the dump, and the digests of the sampled ones."""
        stream = Stream(sample)
        with contextlib.ExitStack() as held:
            take = stream.take
            converter = None
            if piece.manifest.dump_format == "pg_custom":
                converter = Converter(there.tools, stream.take)
                held.callback(converter.close)
                take = converter.write
            for chunk in self.part_of(piece.entry, piece.manifest, "data"):
                take(chunk)
            if converter is not None:
                converter.finish()
        stream.finish()
        return stream

    def past(self) -> Iterator[Check]:
        for moment in past_moments(self.work, self.source, [""]):
            if moment.check is not None:
                yield moment.check
            if moment.plan is None:
                continue
            looks: list[Check] = []
            with moment.timed():
                yield from self._recovered(moment, moment.plan, looks)

    def _recovered(self, moment: PastMoment, plan: PastPlan, looks: list[Check]) -> Iterator[Check]:
        given = physical(self.site, plan, proven_logs(self.site, plan, self.work.progress), self.work.progress)

        def unpacked(cluster: Cluster) -> None:
            looks[:] = [verify_base(b"".join(self._manifest_of_base(plan)), cluster)]

        with recover(
            self.config, site=self.site.name, state=self.site.vault.state, base=given.base, wal=given.wal,
            goal=given.goal, unpacked=unpacked, progress=self.work.progress,
        ) as past:  # fmt: skip
            moment.done(self.result)
            yield from looks
            last = past.report.last_commit
            if last is not None and last > moment.at:
                raise IntegrityError(f"the server applied a commit of {last.isoformat()}, which is later")
            there = There(past.config, self.site.name, base_facts(plan.manifest).version_num // 10000)
            source = PostgresSource(past.config, site=self.site.name)
            self._refuse_lacking(past.report.databases, moment)
            states = {name: source.state(name, count=True) for name in past.report.databases}
            yield from recovery_checks(moment, states, self.pieces, past.report.notes)
            for name in states:
                yield from there.amcheck(name, self.result.notes, "point in time")

    def _refuse_lacking(self, there: list[str], moment: PastMoment) -> None:
        """What the site names and has a backup of from before that moment must be there."""
        known = [piece for piece in self.pieces if piece.copies and piece.database in self.config.databases]
        lacking = [
            piece.database
            for piece in known
            if piece.database not in (*there, *_TEMPLATES) and piece.manifest.taken_at < moment.at
        ]
        if lacking:
            raise IntegrityError(f"the recovered server has no database {', '.join(lacking)}")

    def _manifest_of_base(self, plan: PastPlan) -> Iterator[bytes]:
        """The server's own backup manifest."""
        entry, manifest = plan.found.anchors[plan.plan.anchor.file][0]
        return self.part_of(entry, manifest, MANIFEST_ROLE)


def name_there(database: str) -> str:
    """What a database is called in the scratch cluster, which has some of its own."""
    return f"{database}_restored" if database in _OWN else database


def verify_base(manifest: bytes, cluster: Cluster) -> Check:
    """``pg_verifybackup`` on the unpacked files. Where it is not installed nobody knows.

    Left out are files that are written anew on unpacking, and tablespaces, which have moved.
    """
    place, name = cluster.place, "backup_manifest"
    try:
        place.program("pg_verifybackup")
    except (ToolMissing, WrongTool) as error:
        said = with_remedy(f"it was not run: {error.message}", error)
        return Check("point in time", "pg_verifybackup", UNVERIFIED, said)
    place.put("", [Member(name, False, len(manifest), iter((manifest,)))])
    left_out = [f"--ignore={each}" for each in ("postgresql.auto.conf.source", "tablespace_map", "pg_tblspc")]
    command = place.command(
        "pg_verifybackup", "--no-parse-wal", "--quiet", *left_out, f"--manifest-path={place.work}/{name}", cluster.data
    )
    try:
        place.runner.run(command, timeout=cluster.timeout_seconds)
    except ToolFailed as error:
        return Check("point in time", "pg_verifybackup", FAILED, error.message)
    return Check("point in time", "pg_verifybackup", PROVEN, "every file of the base is the one that the server sent")


def _major(manifest: Manifest) -> int:
    """Raises ConfigError: It does not say of which server it is."""
    found = re.match(r"\d+", manifest.server.version) if manifest.server else None
    if not found:
        raise ConfigError(f"{manifest.file} does not say of which server it is, so none like it can be had.")
    return int(found[0])


def _same_server(manifest: Manifest, source: PostgresSource) -> bool:
    if manifest.server is None or manifest.adopted:
        return False
    return manifest.server.version == source.server().version
