"""The containers of a compose project as a source of backups: a record of all, and every image once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import docker.errors

from engine import names
from engine.catalog import Entry
from engine.config import ConfigFilesConfig, ImagesConfig, VolumesConfig
from engine.errors import IntegrityError, NotFound, WrongKey
from engine.images import binds, record, saved
from engine.images.look import look
from engine.images.record import Image, Record
from engine.images.registries import can_be_pulled, registry_has
from engine.journal import Journal
from engine.progress import Progress
from engine.prune.contents import EXPIRED, claims_of
from engine.scratch.boxed import engine_errors
from engine.source import Facts, Parts, Preflight
from engine.vault import LOCAL, Vault
from engine.verify import verify_backup
from engine.volumes.docker_engine import Engine

_CHUNK = 1024 * 1024


class ImagesSource:
    """The containers and images of one engine.

    Args:
        config: Which.
        site: Names the compose project where the config does not.
        vault: Where images are stored, each once.
        files: What of the host is backed up: of what else containers have there, a person is told.
    """

    kind = record.KIND

    def __init__(
        self, config: ImagesConfig, *, site: str, vault: Vault, files: Sequence[ConfigFilesConfig] = ()
    ) -> None:
        self.name = config.name
        self.engine = engine_for(config, site)
        self._config = config
        self._vault = vault
        self._files = files
        self._pullable: dict[str, bool] = {}

    def databases(self) -> list[str]:
        """One record, called like the source."""
        return self._config.databases

    def extension(self) -> str:
        return f"{names.RECORD_EXT}.json"

    def preflight(self, database: str) -> Preflight:
        """The containers are there; how much of their images is still to be stored.

        Raises:
            ConfigError: The project has no containers. Unreachable: no engine answers.
        """
        found, missing = self._look()
        new = [each for each in self._wanted(found) if self._stored(each) is None]
        return Preflight(self.engine.server(), sum(each.size for each in new), [*missing, *self._uncovered(found)])

    def capture(self, database: str, parts: Parts, progress: Progress) -> Facts:
        """Store every image that is not in the vault yet, then the record that needs them. See
        ``engine.file_source.FileSource``."""
        found, missing = self._look()
        wanted = self._wanted(found)
        for image in wanted:
            if self._stored(image) is None:
                self._store(image, progress)
        found = replace(found, images=[replace(each, saved=each in wanted) for each in found.images])
        parts.data().write(found.to_bytes())
        return Facts(
            server=self.engine.server(),
            dump_format=record.DUMP_FORMAT,
            contents=found.facts(),
            incomplete=missing,
        )

    def recover(self, journal: Journal) -> list[str]:
        """It keeps no journals of its own."""
        journal.close()
        return []

    def lock(self, database: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        self.engine.close()

    def _look(self) -> tuple[Record, list[str]]:
        locks = self._vault.state / "locks"
        return look(self.engine.client, self.engine.project, self._config.containers, locks)

    def _uncovered(self, found: Record) -> list[str]:
        covered = [(each.paths, each.exclude) for each in self._files]
        paths = binds.told(found, covered, [str(self._vault.root)])
        return [f"bound into a container from the host, and in no backup: {each}" for each in paths]

    def _wanted(self, found: Record) -> list[Image]:
        """Those that no registry has, or all. One of which nothing is known is gone from the engine."""
        known = [each for each in found.images if each.size > 0 or each.tags or each.digests]
        return known if self._config.stored == "all" else [each for each in known if not self._can_be_pulled(each)]

    def _can_be_pulled(self, image: Image) -> bool:
        """Asked once in a run: of what is stored and what the record says is stored, nothing may differ."""
        if image.id not in self._pullable:
            client = self.engine.client
            with engine_errors("Asking the Docker engine how it stores images"):
                info = client.info()
            self._pullable[image.id] = can_be_pulled(image, info, partial(registry_has, client))
        return self._pullable[image.id]

    def _stored(self, image: Image) -> Entry | None:
        """Where it stands in the local vault already. One that retention is about to remove does not count."""
        catalog = self._vault.catalog(LOCAL)
        for entry in catalog.entries(source=self.name, database=image.name, tier=names.IMAGE):
            said = claims_of(self._vault, entry)
            if said.claim == "broken" or said.expired == EXPIRED:
                continue
            with contextlib.suppress(IntegrityError, WrongKey, NotFound):
                if catalog.load(entry).contents.get("id") == image.id:
                    return entry
        return None

    def _store(self, image: Image, progress: Progress) -> None:
        with self._vault.begin(
            source=self.name, kind=saved.KIND, tier=names.IMAGE, database=image.name, ext="tar",
            estimated_bytes=image.size,
        ) as writer:  # fmt: skip
            sink = writer.data()
            done = 0
            for chunk in self._save(image):
                sink.write(chunk)
                done += len(chunk)
                progress(f"save image {image.shown}", done, max(image.size, done))
            attributes = self.engine.client.api.inspect_image(image.id)
            facts = {
                "id": image.id, "tags": image.tags, "digests": image.digests, "size": image.size,
                "layers": len((attributes.get("RootFS") or {}).get("Layers") or []),
                "platform": f"{attributes.get('Os', '')}/{attributes.get('Architecture', '')}",
            }  # fmt: skip
            entry, _ = writer.publish(Facts(server=self.engine.server(), dump_format=saved.DUMP_FORMAT, contents=facts))
        verify_backup(self._vault, LOCAL, entry, None, recent=[], progress=progress)

    def _save(self, image: Image) -> Iterator[bytes]:
        """What ``docker save`` gives, under a name of the image where it has one, so that loading gives it back."""
        api = self.engine.client.api
        with engine_errors(f"Saving image {image.shown}"):
            reference = next((each for each in image.tags if self._leads_to(each, image)), image.id)
            yield from api.get_image(reference, chunk_size=_CHUNK)

    def _leads_to(self, tag: str, image: Image) -> bool:
        with contextlib.suppress(docker.errors.NotFound):
            return str(self.engine.client.api.inspect_image(tag)["Id"]) == image.id
        return False


def engine_for(config: ImagesConfig, site: str) -> Engine:
    """The engine of a source of images."""
    where: dict[str, Any] = {
        name: getattr(config, name) for name in ("name", "project", "docker_host", "tls_ca", "tls_cert", "tls_key")
    }
    return Engine(VolumesConfig(**where), site)


__all__ = ["ImagesSource", "engine_for"]
