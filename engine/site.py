"""A site opened for work: its vault, its sources, and the sweep that precedes every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.config import (
    BucketsConfig,
    ConfigFilesConfig,
    FilesConfig,
    ImagesConfig,
    MySQLConfig,
    N8nConfig,
    ServerSource,
    SiteConfig,
    VolumesConfig,
)
from engine.errors import UnknownName, in_words, nearest
from engine.file_source import FileSource, Source
from engine.journal import abandoned
from engine.scratch import leftovers
from engine.source import DatabaseSource
from engine.vault import Vault


@dataclass(frozen=True, order=True)
class Target:
    """One database of one source; of a source that is no server, one of its archives."""

    source: str
    database: str

    def __str__(self) -> str:
        return f"{self.source}/{self.database}"


@dataclass(frozen=True)
class Swept:
    """What a sweep found: what it put right, and what it could not yet."""

    done: list[str]
    problems: list[str]


class Site:
    """One machine's stack. Context manager; leaving it closes every connection.

    Args:
        config: The validated site.

    Raises:
        ConfigError: The vault's keys or templates are wrong.
    """

    def __init__(self, config: SiteConfig) -> None:
        self.config = config
        self.name = config.site
        self.vault = Vault(config)
        self.silent: set[str] = set()
        """Places that did not answer when they were asked about what stands elsewhere: not asked that again."""
        self._sources: dict[str, DatabaseSource] = {}
        self._files: dict[str, FileSource] = {}

    @property
    def journals(self) -> Path:
        """Where restores keep their journals."""
        return self.vault.state / "journals"

    def source(self, name: str) -> DatabaseSource:
        """The database server of that name, connected when first used.

        Raises:
            UnknownName: There is none. ConfigError: It is no database server.
        """
        if name not in self._sources:
            self._sources[name] = open_source(self.config.server(name), self.name)
        return self._sources[name]

    def any_source(self, name: str) -> Source:
        """The source of that name, of whatever kind. Raises UnknownName."""
        config = self.config.source(name)
        if not isinstance(config, FilesConfig):
            return self.source(name)
        if name not in self._files:
            self._files[name] = open_files(config, self.vault, self.name, self.config.config)
        return self._files[name]

    def targets(self, source: str | None = None, database: str | None = None) -> list[Target]:
        """Every database to back up, in the site's order; or those of one source, or one of them.

        Raises:
            UnknownName: No such source or database. Unreachable, CredentialsRefused: asking the server.
        """
        sources = [source] if source else [each.name for each in self.config.sources()]
        found = [Target(name, each) for name in sources for each in self.any_source(name).databases()]
        if database is None:
            return found
        chosen = [target for target in found if target.database == database]
        if not chosen:
            raise UnknownName(
                f"Site {self.name} backs up no database {database!r}" + (f" on {source}." if source else "."),
                remedy=nearest(database, sorted({target.database for target in found})),
            )
        return chosen

    def sweep(self, replicas: bool = True) -> Swept:
        """Put right what dead runs left: half-done swaps, side databases, scratch servers, staged
        files, uploads.

        A journal whose server cannot be reached stays for the next run, and is told as a problem.

        Args:
            replicas: Also ask each replica for unfinished uploads; without it a dead bucket holds up nothing.
        """
        from engine.binlog.swaps import settle

        done: list[str] = []
        problems: list[str] = []
        for journal in abandoned(self.journals):
            name = str(journal.facts.get("source", ""))
            try:
                done += self.any_source(name).recover(journal)
                settle(self.vault, journal)
            except Exception as failure:
                error = in_words(failure, "Ending it")
                journal.release()
                problems.append(
                    f"what was begun on {name}/{journal.facts.get('database', '?')} at "
                    f"{journal.facts.get('at', '?')} is still unfinished: {error.message}"
                )
        removed, still_there = leftovers.sweep(self.vault.state)
        done += removed
        problems += still_there
        done += self.vault.sweep(replicas)
        return Swept(done, problems)

    def close(self) -> None:
        """Close every connection."""
        for source in (*self._sources.values(), *self._files.values()):
            source.close()
        self._sources.clear()
        self._files.clear()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_source(config: ServerSource, site: str) -> DatabaseSource:
    """The engine object for a configured server; connects when first asked something."""
    if isinstance(config, MySQLConfig):
        from engine.mysql import MySQLSource

        return MySQLSource(config, site=site)
    from engine.postgres import PostgresSource

    return PostgresSource(config, site=site)


def open_files(config: FilesConfig, vault: Vault, site: str, files: Sequence[ConfigFilesConfig] = ()) -> FileSource:
    """The engine object for what is configured and no server; connects when first asked something.

    Args:
        files: What else of the host is backed up.
    """
    if isinstance(config, BucketsConfig):
        from engine.buckets.source import BucketsSource

        return BucketsSource(config, vault=vault)
    if isinstance(config, N8nConfig):
        from engine.n8n.source import N8nSource

        return N8nSource(config, site=site)
    if isinstance(config, VolumesConfig):
        from engine.volumes import VolumesSource

        return VolumesSource(config, site=site, state=vault.state)
    if isinstance(config, ImagesConfig):
        from engine.images.source import ImagesSource

        return ImagesSource(config, site=site, vault=vault, files=files)
    from engine.config_files import ConfigFilesSource

    return ConfigFilesSource(config, vault=vault.root)
