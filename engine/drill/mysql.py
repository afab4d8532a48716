"""Restore drill of MySQL and MariaDB: on a scratch server of the source's flavour and version."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from engine.catalog import Entry
from engine.config import MySQLConfig
from engine.drill.asked import judge_queries, queries_for
from engine.drill.base import Piece, SourceDrill
from engine.drill.choose import databases_of
from engine.drill.databases import row_digests, stream_volume, structure_and_volume
from engine.drill.past import Joint, joint, past_moments, recovery_checks
from engine.drill.rows import InsertRows, RowSets
from engine.drill.verdict import FAILED, PROVEN, UNVERIFIED, Check, Rung, plural
from engine.durations import in_words
from engine.errors import ConfigError
from engine.journal import Journal
from engine.manifest import Manifest
from engine.mysql.connection import query, quoted
from engine.mysql.dumpfile import DumpReader, Section
from engine.mysql.pitr import load_complete
from engine.mysql.rows import RowCounter
from engine.mysql.schema import list_tables
from engine.mysql.server import MySQLSource
from engine.mysql.surroundings import fitted
from engine.mysql.tools import version_tuple
from engine.point_in_time import recovered
from engine.scratch.mysql import Scratch, Settings, open_scratch
from engine.source import Selection

_DUMP = ["--single-transaction", "--quick", "--hex-blob", "--no-tablespaces", "--max-allowed-packet=1G",
         "--no-create-info", "--skip-triggers", "--skip-add-locks"]  # fmt: skip
_ABREAST = 50
"""Tables that one CHECK TABLE is given."""


class MySQLDrill(SourceDrill[Scratch]):
    """One server's databases, each from its dump."""

    kind = "mysql"

    @contextlib.contextmanager
    def place(self) -> Iterator[Scratch]:
        newest = max((piece.manifest for piece in self.pieces if piece.copies), key=lambda each: each.taken_at)
        if newest.server is None:
            raise ConfigError(f"{newest.file} does not say of which server it is, so none like it can be had.")
        settings, _, notes = fitted(self.site, self.source, newest, self.settings())
        self.result.notes += notes
        with open_scratch(self.site, self.source, newest.server, settings) as scratch:
            dumps = sum(piece.manifest.data.plain_size for piece in self.pieces if piece.copies)
            scratch.refuse_without_room(f"A drill of {self.source}", dumps)
            yield scratch

    def settings(self) -> Settings:
        """Of the scratch server."""
        return Settings()

    def describe(self, place: Scratch) -> str:
        where = f"a container {place.config.container}" if place.config.container else "a private server on this host"
        return f"{where}, {place.source.version_text}"

    def alive(self, place: Scratch) -> bool:
        return place.alive

    def restore(self, place: Scratch, piece: Piece, entry: Entry, manifest: Manifest) -> list[str]:
        journal = Journal.create(place.work, "mysql-restore", database=manifest.database)
        try:
            notes = load_complete(
                place, manifest, lambda role: self.part_of(entry, manifest, role), journal, self.work.progress
            )
        finally:
            journal.close()
        return [note for note in notes if "side copy" not in note]

    def prove(self, place: Scratch, piece: Piece) -> Iterator[Check]:
        manifest, source = piece.manifest, place.source
        yield from self._series(place, manifest)
        comparison = source.compare(manifest, manifest.database, Selection())
        yield from structure_and_volume(manifest, comparison)
        tables = sorted(comparison.found)
        sample = self.work.sample(piece, tables)
        counts, stream = self.read_dump(piece, sample)
        yield from stream_volume(manifest, counts, comparison.found)
        if sample:
            copy = self.dump_again(source, manifest.database, sample)
            yield row_digests(sample, len(tables), stream, copy, comparable=self._same_tool(source, manifest))
        yield check_tables(source, manifest.database)
        queries = self.site.config.drill.queries.get(self.source, [])
        asked = queries_for(queries, piece, databases_of(self.site, self.source))
        yield from judge_queries(asked, partial(ask, source, manifest.database))

    def _series(self, place: Scratch, manifest: Manifest) -> Iterator[Check]:
        """Was it restored on a server like the one it was taken from?"""
        if manifest.server is None or not manifest.server.version:
            return
        other, what = place.of_another_series(manifest.server), "server version"
        if other:
            remedy = f"name an image of that version: scratch_image of {self.source} in the site file"
            yield Check("opens", what, UNVERIFIED, f"{other}, which proves nothing about that one (next: {remedy})")
        else:
            same = f"restored on {place.source.version_text}, taken from {manifest.server.version}"
            yield Check("opens", what, PROVEN, same)

    def read_dump(self, piece: Piece, sample: list[str]) -> tuple[dict[str, int], RowSets]:
        """Rows of every table in the dump, and the digests of the sampled ones."""
        counter, rows = RowCounter(), InsertRows(frozenset(sample))

        def counted() -> Iterator[bytes]:
            for chunk in self.part_of(piece.entry, piece.manifest, "data"):
                counter.feed(chunk)
                yield chunk

        for part in DumpReader(counted()).pieces():
            if part.section is Section.ROWS and part.raw:
                rows.feed(part.data)
        return counter.finish(), rows.finish()

    def dump_again(self, source: MySQLSource, database: str, sample: list[str]) -> RowSets:
        """The sampled tables of the copy."""
        rows = InsertRows(frozenset(sample))
        known = source.dump_help
        options = [*_DUMP, *(["--set-gtid-purged=OFF"] if "--set-gtid-purged" in known else [])]
        command = source.dump_command([*options, "--", database, *sample])
        with source.runner.start(command, timeout=source.config.timeout_seconds) as process:
            for part in DumpReader(process.chunks()).pieces():
                if part.section is Section.ROWS and part.raw:
                    rows.feed(part.data)
            process.wait()
        return rows.finish()

    def past(self) -> Iterator[Check]:
        names = [piece.database for piece in self.pieces if piece.copies]
        chosen = names if self.work.thorough else [self.work.lots(f"{self.source}/past").choice(sorted(names))]
        for moment in past_moments(self.work, self.source, chosen):
            if moment.check is not None:
                yield moment.check
            if moment.plan is None:
                continue
            with moment.timed(), recovered(self.site, moment.plan, progress=self.work.progress) as past:
                moment.done(self.result)
                assert isinstance(past.config, MySQLConfig)
                with contextlib.closing(MySQLSource(past.config, site=self.site.name)) as source:
                    states = {moment.database: source.state(moment.database, count=True)}
                    yield from recovery_checks(moment, states, self.pieces, past.notes)
                    yield check_tables(source, moment.database, "point in time")
        self._estimate_the_others(names, chosen)

        for database in names if self.work.thorough else ():
            found = joint(self.work, self.source, database)
            if found is None:
                self.result.notes.append(f"no logs lead from one full of {database} to another")
                continue
            with recovered(self.site, found.plan, progress=self.work.progress) as past:
                assert isinstance(past.config, MySQLConfig)
                with contextlib.closing(MySQLSource(past.config, site=self.site.name)) as source:
                    yield from self._joined(source, found, database)

    def _estimate_the_others(self, names: list[str], chosen: list[str]) -> None:
        """What the databases that were not drawn would have taken: as long for the logs, which are the whole
        server's, and as long to load as it took from their backups just now."""
        result, others = self.result, sorted(set(names) - set(chosen))
        if result.past_seconds is None or not others:
            return
        loads = {piece.database: piece.restore_seconds for piece in result.pieces}
        logs = max(result.past_seconds - sum(loads[each] for each in chosen), 0.0)
        result.past_estimate = result.past_seconds + sum(logs + loads[each] for each in others)
        result.notes.append(
            f"through the logs one of {len(names)} databases was recovered, {', '.join(chosen)}, in "
            f"{in_words(result.past_seconds)}; for all, one after another, about {in_words(result.past_estimate)} is "
            "estimated; --thorough measures each"
        )

    def _joined(self, source: MySQLSource, found: Joint, database: str) -> Iterator[Check]:
        """An older full rolled forward to the very place at which a later one was taken, against that one."""
        later, what = found.later, "from one full to the next"
        counts = source.state(database, count=True).rows
        wrong = [f"table {name}: {counts.get(name, 0):,} rows, {rows:,} in {later.file}"
                 for name, rows in sorted(later.rows.items()) if counts.get(name) != rows]  # fmt: skip
        if wrong:
            said = f"{found.plan.manifest.file} and the logs do not lead to {later.file}"
            yield Check("point in time", what, FAILED, said, tuple(wrong))
            return
        piece = Piece(self.source, database, found.copies)
        sample = self.work.sample(piece, sorted(later.rows))
        _, stream = self.read_dump(piece, sample)
        same = self._same_tool(source, later)
        check = row_digests(sample, len(later.rows), stream, self.dump_again(source, database, sample), comparable=same)
        logs = f"{found.plan.manifest.file} and {len(found.plan.plan.logs)} logs lead right to {later.file}"
        yield replace(check, rung="point in time", what=what, said=f"{logs}: {check.said}")

    def _same_tool(self, source: MySQLSource, manifest: Manifest) -> bool:
        made = manifest.server
        if made is None or manifest.adopted:
            return False
        same_server = version_tuple(made.version) == source.version  # -log at its end says who writes a log
        return made.tool_version == source.dump.version and same_server


def check_tables(source: MySQLSource, database: str, rung: Rung = "content") -> Check:
    """The server's own CHECK TABLE on every table."""
    problems: list[str] = []
    with contextlib.closing(source.connect(database)) as session:
        tables = [each.name for each in list_tables(session, database) if each.has_data]
        for at in range(0, len(tables), _ABREAST):
            some = ", ".join(quoted(name) for name in tables[at : at + _ABREAST])
            for name, _, kind, text in query(session, f"CHECK TABLE {some}"):
                if str(kind).lower() == "error" or (str(kind).lower() == "status" and str(text) != "OK"):
                    problems.append(f"table {str(name).partition('.')[2]}: {text}")
    if problems:
        return Check(rung, "CHECK TABLE", FAILED, "the server finds damage", tuple(problems))
    return Check(rung, "CHECK TABLE", PROVEN, f"the server finds {plural(len(tables), 'table')} whole")


def ask(source: MySQLSource, database: str, text: str, seconds: float) -> list[tuple[Any, ...]]:
    """The rows of one query, in a transaction that only reads. Stopped by the server after so many seconds."""
    mariadb, milliseconds = source.flavour == "mariadb", max(1, round(seconds * 1000))  # 0 would be no limit
    limit = f"max_statement_time = {milliseconds / 1000}" if mariadb else f"max_execution_time = {milliseconds}"
    with contextlib.closing(source.connect(database)) as session:
        query(session, f"SET SESSION {limit}")
        query(session, "START TRANSACTION READ ONLY")
        return query(session, text)
