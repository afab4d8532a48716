"""A site's config files as a source of backups."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import stat
from pathlib import Path

from engine.archive import DUMP_FORMAT, LISTING, TreeWriter
from engine.config import ConfigFilesConfig
from engine.config_files.walk import Walk
from engine.errors import ConfigError
from engine.journal import Journal
from engine.manifest import Server
from engine.progress import Progress
from engine.source import Facts, Parts, Preflight

RESTORE = "config-restore"
"""Kind of the journal that a restore of config files keeps."""
_MOST_NAMED = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class ConfigFilesSource:
    """Files and directories of this host.

    Args:
        config: Which, and what of them not.
        vault: The vault's root, which is never part of a backup.
    """

    kind = "config"

    def __init__(self, config: ConfigFilesConfig, *, vault: Path) -> None:
        self.name = config.name
        self._config = config
        self._vault = vault

    def databases(self) -> list[str]:
        """One archive, called like the source."""
        return self._config.databases

    def extension(self) -> str:
        return "tar"

    def preflight(self, database: str) -> Preflight:
        """Sizes are added up; what is not there is warned about.

        Raises:
            ConfigError: None of the paths is there.
        """
        walk = self._walk()
        total = 0
        for found in walk:
            with contextlib.suppress(OSError):
                status = os.lstat(found.path)
                total += status.st_size if stat.S_ISREG(status.st_mode) else 0
        self._refuse_nothing(walk)
        return Preflight(server(), total, walk.missing)

    def capture(self, database: str, parts: Parts, progress: Progress) -> Facts:
        """See ``engine.file_source.FileSource``."""
        walk = self._walk()
        self._refuse_nothing(walk)
        writer = TreeWriter(parts.data(), parts.companion(LISTING, "jsonl"), progress)
        for found in walk:
            writer.add(found.path, above=found.above)
        totals = writer.finish()
        incomplete = [shown(each) for each in dict.fromkeys((*walk.missing, *totals.incomplete))]
        return Facts(
            server=server(),
            dump_format=DUMP_FORMAT,
            contents={
                "host": platform.node(),
                "paths": [shown(each) for each in self._config.paths],
                "roots": [shown(each) for each in walk.roots],
                "exclude": self._config.exclude,
                "files": totals.files,
                "directories": totals.directories,
                "links": totals.links,
                "bytes": totals.bytes,
            },
            warnings=[shown(f"{each} is not in it") for each in totals.left_out[:_MOST_NAMED]]
            + [shown(each) for each in walk.notes],
            incomplete=_at_most(incomplete),
        )

    def recover(self, journal: Journal) -> list[str]:
        """End a restore that died: what is restored in place stands all as it was, or all as restored.

        Raises:
            ToolFailed: Neither could be had; the journal stays.
        """
        from engine.config_files.recovery import end

        done = []
        token = str(journal.facts.get("token", ""))
        staging = Path(os.fsdecode(bytes.fromhex(journal.facts.get("staging", ""))))
        if token and token in staging.name and staging.is_dir():
            shutil.rmtree(staging)
            done.append(f"{staging}: a restore of {self.name} that was not finished")
        return done + end(journal)

    def lock(self, database: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        pass

    def _walk(self) -> Walk:
        return Walk(self._config.paths, self._config.exclude, spare=[self._vault])

    def _refuse_nothing(self, walk: Walk) -> None:
        if not walk.roots:
            missing = "; ".join(walk.missing) or "it names no paths"
            raise ConfigError(
                f"Nothing of {self.name} can be backed up: {shown(missing)}.",
                remedy=f"correct the paths of {self.name} in the site file, or run this as a user who may read them",
            )


def server() -> Server:
    """This host, as a manifest names what was backed up."""
    return Server(flavour=platform.system().lower(), version=platform.release(), uuid="")


def _at_most(lines: list[str]) -> list[str]:
    """A manifest stays small."""
    if len(lines) <= _MOST_NAMED:
        return lines
    return [*lines[:_MOST_NAMED], f"and {len(lines) - _MOST_NAMED:,} more"]


def shown(text: str) -> str:
    """A path as one line of text: bytes that are no UTF-8, and control characters, are shown as ``\\xNN``."""
    plain = os.fsencode(text).decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", plain)
