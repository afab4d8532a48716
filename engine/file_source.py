"""What a source of files can do (config files, volumes): captured as a tar with a signed listing beside it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from engine.journal import Journal
from engine.progress import Progress
from engine.source import DatabaseSource, Facts, Parts, Preflight


class FileSource(Protocol):
    """A tree of files, or several. Not thread safe: one per task.

    A backup of it is proven by ``engine.archive.verify`` without asking the source, and is restored by
    steps of its own kind: files are not loaded beside and swapped as a database is.
    """

    kind: str
    """``config``, ``volume``..."""
    name: str
    """Its name in the site."""

    def databases(self) -> list[str]:
        """What is backed up apart: the names of its archives."""
        ...

    def extension(self) -> str:
        """``tar``."""
        ...

    def preflight(self, database: str) -> Preflight:
        """How much there is to read, and what is not there; what is not there does not stop the rest.

        Raises:
            ConfigError: Nothing of it is there.
        """
        ...

    def capture(self, database: str, parts: Parts, progress: Progress) -> Facts:
        """Write the tar through ``parts.data()`` and its listing as the companion ``listing``.

        What could not be read, or changed meanwhile, is named in ``Facts.incomplete``; the rest is whole.
        """
        ...

    def recover(self, journal: Journal) -> list[str]:
        """Remove what a dead restore left half-written; close its journal; say what was done."""
        ...

    def lock(self, database: str) -> AbstractContextManager[None]:
        """Whatever keeps another run away beside the vault's own lock."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


Source = DatabaseSource | FileSource
"""Anything that a site backs up."""
