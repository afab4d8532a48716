"""The volumes of a Docker engine as a source of backups."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from engine.archive import DUMP_FORMAT, LISTING, TreeWriter, read_listing
from engine.archive import member as kinds
from engine.archive.write import Totals
from engine.config import VolumesConfig
from engine.config_files.source import shown
from engine.errors import ConfigError
from engine.journal import Journal
from engine.progress import Progress
from engine.services import How, find, halt, is_running, reserved, resume, using, volumes_of
from engine.source import Facts, Parts, Preflight
from engine.volumes import helper, tree
from engine.volumes.docker_engine import Engine, Volume, without_secrets
from engine.volumes.recovery import recover

CAPTURE = "volume-capture"
"""Kind of the journal of a capture that stops writers, or makes a container."""
_MOST_NAMED = 200
_SERVERS = {"PG_VERSION": "PostgreSQL", "ibdata1": "MySQL or MariaDB", "WiredTiger": "MongoDB"}
"""What stands in the data directory of a database server."""


class VolumesSource:
    """Named volumes of one engine, each a backup of its own.

    Args:
        config: Which, and whom to stop meanwhile.
        site: Names the compose project where the config does not.
        state: The vault's state directory.
    """

    kind = "volume"

    def __init__(self, config: VolumesConfig, *, site: str, state: Path) -> None:
        self.name = config.name
        self.engine = Engine(config, site)
        self._config = config
        self._state = state

    def databases(self) -> list[str]:
        """The volumes, as the site file calls them. Raises ConfigError where it names none."""
        if not self._config.volumes:
            raise ConfigError(
                f"{self.name} names no volumes.",
                remedy="list them in the site file: volumes: {volumes: [notebooks]}; docker volume ls shows them",
            )
        return self._config.volumes

    def extension(self) -> str:
        return "tar"

    def preflight(self, database: str) -> Preflight:
        """The volume is there, whoever is to be stopped too; how much there is to read, where that can be told.

        Raises:
            UnknownName: No such volume, container or service. Unreachable: no engine answers.
        """
        volume = self.engine.find(database)
        self._writers(volume)
        path, why = self.engine.path_of(volume)
        if path is None:
            return Preflight(self.engine.server(), 0, [_losing(why)])
        total, top = tree.measure(path)
        return Preflight(self.engine.server(), total, self._doubts(volume, top))

    def capture(self, database: str, parts: Parts, progress: Progress) -> Facts:
        """See ``engine.file_source.FileSource``. Writers run again when this returns, whatever happened."""
        volume = self.engine.find(database)
        path, why = self.engine.path_of(volume)
        writers = self._writers(volume)
        server = self.engine.server()
        with reserved([each for each, _ in writers], self._state / "locks"), self._journal(volume) as journal:
            halted = halt(writers, journal, self._config.stop_seconds)
            still = self._running_with(volume)
            writer = TreeWriter(parts.data(), parts.companion(LISTING, "jsonl"), progress, holes=True)
            if path is not None:
                tree.write(path, writer)
                notes = []
            else:
                notes = [_losing(why)]
                self._through_engine(volume, writer, journal, check=bool(still))
            still |= self._running_with(volume)  # one that came meanwhile
            totals = writer.finish()
        how = {str(each.name): how for each, how in writers}
        if still:
            notes.append(f"{', '.join(sorted(still))} went on with the volume while it was read")
        return Facts(
            server=server,
            dump_format=DUMP_FORMAT,
            contents=_contents(volume, totals, path) | {"halted": {str(each.name): how[each.name] for each in halted}},
            warnings=[shown(f"{each} is not in it") for each in totals.left_out[:_MOST_NAMED]]
            + [shown(each) for each in notes],
            incomplete=_at_most([shown(each) for each in dict.fromkeys(totals.incomplete)]),
        )

    def recover(self, journal: Journal) -> list[str]:
        """Finish or undo what a dead run left: containers run again, half-made volumes go. See ``recovery``."""
        return recover(self.engine, journal)

    def lock(self, database: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        self.engine.close()

    def _writers(self, volume: Volume) -> list[tuple[Any, How]]:
        """Whom to stop or pause for this volume: those named that have it, and those that have none of our volumes
        and so reach it in some other way."""
        config, client = self._config, self.engine.client
        if not (config.stop or config.pause):
            return []
        ours = {volume.name}
        for each in config.volumes:
            with contextlib.suppress(ConfigError):
                ours.add(self.engine.find(each).name)
        wanted: list[tuple[str, How]] = [(each, "stop") for each in config.stop]
        wanted += [(each, "pause") for each in config.pause]
        found: dict[str, tuple[Any, How]] = {}
        for name, how in wanted:
            for container in find(client, name, self.engine.project):
                has = volumes_of(container) & ours
                if volume.name in has or not has:
                    found.setdefault(str(container.id), (container, how))
        return list(found.values())

    def _running_with(self, volume: Volume) -> set[str]:
        return {str(each.name) for each in using(self.engine.client, volume.name) if is_running(each)}

    def _doubts(self, volume: Volume, top: list[str]) -> list[str]:
        """A database server's files, copied while it runs, are no backup of its databases."""
        kind = next((_SERVERS[name] for name in top if name in _SERVERS), "")
        running = sorted(self._running_with(volume) - {str(each.name) for each, _ in self._writers(volume)})
        if not kind or not running:
            return []
        return [
            f"it is the data directory of a {kind} server, which {', '.join(running)} runs on: such a copy may not "
            "start; back the databases up as such, or have the container stopped (stop:)"
        ]

    @contextlib.contextmanager
    def _journal(self, volume: Volume) -> Iterator[Journal]:
        """A journal whose writers run again at the end. Left to the next sweep where that cannot be done."""
        journal = Journal.create(self._state / "journals", CAPTURE, source=self.name, database=volume.name)
        try:
            yield journal
        finally:
            try:
                resume(self.engine.client, journal)
                helper.remove(self.engine.client, journal)
                journal.close()
            finally:
                journal.release()

    def _through_engine(self, volume: Volume, writer: TreeWriter, journal: Journal, *, check: bool) -> None:
        """Read by the archive API. That tells nothing of files that vanish or change meanwhile: where somebody may
        write, everything is read twice and held against each other."""
        with (
            tempfile.TemporaryFile(dir=self._state) as seen,
            helper.Helper(self.engine.client, volume.name, journal) as reading,
        ):
            for member, content in reading.read():
                if member.type not in kinds.TYPES:
                    writer.totals.left_out.append(f"{member.path}: a device file, which is never archived")
                    continue
                writer.add_read(member, content)
                if check:
                    seen.write(member.line())
            writer.totals.left_out.append("sockets, if there are any: the engine does not tell which")
            if check:
                seen.seek(0)
                _compare_again(seen, reading, writer.totals)


def _compare_again(seen: IO[bytes], reading: helper.Helper, totals: Totals) -> None:
    """What a second reading finds otherwise: sizes and times of every file."""
    listed = read_listing(iter(lambda: seen.read(1 << 20), b""), "the volume")
    for now, _ in reading.read():
        if now.type not in kinds.TYPES:
            continue
        before = next(listed, None)
        if before is None or before.path != now.path:
            totals.incomplete.append(f"{now.path}: it came, or something before it went, while the volume was read")
            return
        if before != replace(now, sha256=before.sha256):
            totals.incomplete.append(f"{now.path}: it changed while it was read")
    gone = next(listed, None)
    if gone is not None:
        totals.incomplete.append(f"{gone.path}: it vanished while the backup was made")


def _contents(volume: Volume, totals: Totals, path: Path | None) -> dict[str, Any]:
    options, hidden = without_secrets(volume.options)
    return {
        "volume": volume.name,
        "driver": volume.driver,
        "labels": volume.labels,
        "options": options,
        "options_hidden": hidden,
        "read": "direct" if path is not None else "archive",
        "not_kept": [] if path is not None else list(helper.LOSSES),
        "files": totals.files,
        "directories": totals.directories,
        "links": totals.links,
        "bytes": totals.bytes,
    }


def _losing(why: str) -> str:
    return f"it is read through the engine, because {why}; not kept: {'; '.join(helper.LOSSES)}"


def _at_most(lines: list[str]) -> list[str]:
    """A manifest stays small."""
    if len(lines) <= _MOST_NAMED:
        return lines
    return [*lines[:_MOST_NAMED], f"and {len(lines) - _MOST_NAMED:,} more"]
