"""A directory as a store. Owns files under its root; touches no file it did not make.

The root may be shared by several sites and hold foreign files. What this package keeps for itself
stands in the state directory (``<root>/.backup-flows/<site>``), which no listing shows.
"""

from __future__ import annotations

import builtins
import hashlib
import io
import os
import stat as statmod
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from engine.cold.classes import Speed
from engine.errors import NotFound, StoreRefused, Unreadable
from engine.retention.locks import Term
from engine.stores.base import ObjectInfo, Stored
from engine.stores.keys import check_key, is_visible
from engine.stores.local_errors import in_words, reading, speaking_of
from engine.stores.local_stage import LocalStage, durable_directory, publish, sweep_staging, sync_directory

CHUNK = 1024 * 1024


class LocalStore:
    """Files below ``root``, staged in ``state/staging`` on the same file system.

    Args:
        root: Where keys begin. Made with mode 0700 when first written to; an existing one is left as it is.
        state: This site's own directory below the root, ``<root>/.backup-flows/<site>``.
    """

    name: str = "local"

    def __init__(self, root: Path, state: Path) -> None:
        self.root = root
        self.staging = state / "staging"

    def describe(self) -> str:
        return str(self.root)

    def check(self) -> None:
        probe = b"written by a check of this vault; may be deleted\n"
        with self._stage("check") as staged:
            staged.write(probe)
            staged.rehearse()
        with speaking_of("list", self.root, self.root), os.scandir(self.root) as entries:
            next(entries, None)

    def stage(
        self, key: str, *, warm: bool = False, archive: bool = False, until: datetime | None = None
    ) -> LocalStage:
        return self._stage(check_key(key))

    def duplicate(self, key: str, to: str, *, archive: bool = False) -> bool:
        source, target = self._path(key), self._path(to)
        with speaking_of("link", source, self.root):
            self._open(source).close()
            publish(source, target)
        return True

    def put(self, key: str, data: bytes) -> Stored:
        standing = self._standing(key, data)
        if standing:
            return standing
        try:
            with self._stage(check_key(key)) as staged:
                staged.write(data)
                return staged.commit()
        except StoreRefused:
            # Another writer may have come first with the very same bytes.
            standing = self._standing(key, data)
            if standing:
                return standing
            raise

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        path = self._path(key)
        with reading(path, self.root), self._open(path) as source:
            source.seek(start)
            left = length
            while left is None or left > 0:
                chunk = source.read(CHUNK if left is None else min(CHUNK, left))
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk

    def get(self, key: str, limit: int = 64 * 1024 * 1024) -> bytes:
        data = b"".join(self.read(key, 0, limit + 1))
        if len(data) > limit:
            raise Unreadable(f"{self._path(key)} is larger than the {limit:,} bytes expected of it.")
        return data

    def stat(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise in_words(error, "look at", path, self.root) from error
        return _info(key, status) if statmod.S_ISREG(status.st_mode) else None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if self.root.exists():
            with speaking_of("list", self.root, self.root):
                yield from self._walk(self.root, "", prefix, ())

    def folders(self, prefix: str = "") -> Iterator[str]:
        folder = self.root / prefix
        if folder.is_dir():
            with speaking_of("list", folder, self.root):
                named = self._names(folder, "", top=not prefix)
            yield from (name.removesuffix("/") for name in named if name.endswith("/"))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with speaking_of("delete", path, self.root):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            sync_directory(path.parent)

    def retained_until(self, key: str) -> datetime | None:
        return None

    def retain(self, key: str, term: Term) -> datetime | None:
        return None

    def cold(self, key: str) -> None:
        """Nothing here is cold."""

    def thaw(self, key: str, days: int, speed: Speed) -> None:
        """There is nothing to thaw."""

    def freeze(self, key: str, storage_class: str) -> bool:
        """A disk has no classes."""
        return False

    def sweep(self, older_than_seconds: float = 0.0) -> builtins.list[str]:
        """Remove what dead writers staged. Age does not matter here: a lock tells who lives."""
        with speaking_of("sweep", self.staging, self.root):
            return sweep_staging(self.staging)

    def free_bytes(self) -> int | None:
        place = self.root
        while not place.exists() and place != place.parent:
            place = place.parent
        with speaking_of("measure the room on", place, self.root):
            room = os.statvfs(place)
        return room.f_bavail * room.f_frsize

    def _open(self, path: Path) -> io.FileIO:
        try:
            # Not to wait for the other end, should it be a pipe; files do not care.
            source = io.FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
        except (IsADirectoryError, NotADirectoryError):
            raise NotFound(f"Could not read {path}: there is no such file.") from None
        if statmod.S_ISREG(os.fstat(source.fileno()).st_mode):
            return source
        source.close()
        raise NotFound(f"Could not read {path}: it is not a file.")

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _stage(self, key: str) -> LocalStage:
        with speaking_of("write to", self.root, self.root):
            durable_directory(self.root.parent, 0o755)
            durable_directory(self.root)
        with speaking_of("write to", self.staging, self.root):
            durable_directory(self.staging)
            if self.staging.stat().st_dev != self.root.stat().st_dev:
                raise StoreRefused(
                    f"{self.staging} is on another file system than {self.root}.",
                    remedy=f"remove the mount or the link at {self.staging}; it is made anew.",
                )
        return LocalStage(self.root, self.staging, key)

    def _standing(self, key: str, data: bytes) -> Stored | None:
        """What an earlier, equal ``put`` left; None when nothing stands there."""
        info = self.stat(key)
        if info is None:
            return None
        if info.size != len(data) or self.get(key, len(data)) != data:
            raise StoreRefused(
                f"{self._path(key)} already holds something else.",
                kept="what stands there; it was not touched.",
            )
        return Stored(key, len(data), hashlib.sha256(data).hexdigest(), "read-back")

    def _walk(self, folder: Path, path: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[ObjectInfo]:
        """Depth first in exact key order: a folder sorts as its name with the slash that follows it."""
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:  # a link that leads back up
            return
        below = prefix[len(path) :] if prefix.startswith(path) else ""
        for name in self._names(folder, below, top=not path):
            key = path + name
            if name.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._descend(folder / name, key, prefix, (*above, identity))
            elif key.startswith(prefix) and is_visible(key):
                info = self._file(f"{folder}/{name}", key)
                if info:
                    yield info

    def _descend(
        self, folder: Path, path: str, prefix: str, above: tuple[tuple[int, int], ...]
    ) -> Iterator[ObjectInfo]:
        try:
            yield from self._walk(folder, path, prefix, above)
        except FileNotFoundError:
            return  # removed since its parent was read
        except OSError as error:
            raise in_words(error, "list", folder, self.root) from error

    def _names(self, folder: Path, below: str, top: bool) -> builtins.list[str]:
        """What stands in a folder, in key order, folders with a slash; only what the rest of a prefix can mean."""
        named = []
        wanted, slash, _ = below.partition("/")
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(wanted) or (slash and entry.name != wanted):
                    continue
                is_folder = entry.is_dir()
                if is_folder and (entry.name.startswith(".") or (top and entry.name == "lost+found")):
                    continue
                named.append(entry.name + "/" if is_folder else entry.name)
        named.sort()
        return named

    def _file(self, path: str, key: str) -> ObjectInfo | None:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return None  # deleted since, or a link to nowhere
        return _info(key, status) if statmod.S_ISREG(status.st_mode) else None


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
