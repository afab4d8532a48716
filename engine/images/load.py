"""Images brought back to an engine: from the vault, or from the registry that has them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import docker.errors

from engine import names
from engine.catalog import Entry
from engine.cold.thaw import is_cold
from engine.errors import BackupError, IntegrityError, NotFound, ToolFailed, UnknownName, Unreadable, WrongKey
from engine.fallback import first_whole
from engine.images import tags
from engine.images.record import Image, Record, read
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.scratch.boxed import engine_errors
from engine.site import Site
from engine.verdicts import found_broken

How = Literal["was there", "loaded", "pulled"]


def open_record(site: Site, entry: Entry, manifest: Manifest) -> Record:
    """The record of a backup. Raises IntegrityError, WrongKey, NotFound."""
    return read(site.vault.read_part(entry, manifest), manifest.file)


def copies_of(site: Site, source: str, image: str, location: str = "auto") -> list[tuple[Entry, Manifest]]:
    """Where a saved image stands, the local root first and what is in cold storage last; copies that were found broken
    are left out.

    Raises:
        UnknownName: No such location. What a store raises, where none has it.
    """
    found: list[tuple[Entry, Manifest]] = []
    first: BackupError | None = None
    for place in site.vault.locations() if location == "auto" else [location]:
        catalog = site.vault.catalog(place)
        try:
            for entry in catalog.entries(source=source, database=image, tier=names.IMAGE):
                with contextlib.suppress(IntegrityError, WrongKey, NotFound, Unreadable):
                    if not found_broken(site, entry, []):
                        found.append((entry, catalog.load(entry)))
        except BackupError as error:
            first = first or error
    if not found and first is not None:
        raise first
    return sorted(found, key=lambda each: is_cold(site.vault.store(each[0].location), each[0]) is not None)


def bring_back(
    site: Site, client: Any, source: str, image: Image, notes: list[str], *, location: str = "auto",
    progress: Progress = silent,
) -> How:  # fmt: skip
    """Have an image on an engine, under all names that it had, and these alone: of what they lead to before, see
    ``tags.keep_beside``.

    Args:
        notes: Gets a line about each copy in the vault that is not usable.

    Raises:
        IntegrityError: No whole copy is left, or another image came out. ToolFailed: it has to be pulled, and that
            fails. Unreachable: no engine answers.
    """
    how: How = "was there"
    if not _has(client, image.id):
        copies = copies_of(site, source, image.name, location) if image.saved else []
        if copies:
            _load(site, client, image, copies, notes, progress)
            how = "loaded"
        else:
            _pull(client, image)
            how = "pulled"
    for tag in image.tags:
        tags.name_it(client, image.id, tag)
    return how


def _load(
    site: Site, client: Any, image: Image, copies: list[tuple[Entry, Manifest]], notes: list[str], progress: Progress
) -> None:
    def load(entry: Entry, manifest: Manifest) -> None:
        with engine_errors(f"Loading image {image.shown}"):
            chunks = site.vault.read_part(entry, manifest, progress=progress)
            for answer in client.api.load_image(chunks, quiet=True):
                if "error" in answer:
                    raise ToolFailed(f"Loading image {image.shown} failed: {answer['error']}.")
        if not _has(client, image.id):
            raise IntegrityError(f"{manifest.file} was loaded, and image {image.id[:19]} is not there.")

    others = {str(tag) for _, manifest in copies for tag in manifest.contents.get("tags", ())} - set(image.tags)
    before = tags.lead(client, others)  # names that it had when it was stored, and those of another now
    try:
        first_whole(copies, load, notes)
    finally:
        for tag, identity in before.items():
            tags.name_it(client, identity, tag)


def _pull(client: Any, image: Image) -> None:
    if not image.digests:
        raise IntegrityError(
            f"Image {image.shown} stands in no place of the vault, and no registry has it.",
            remedy="build it again, under the same name, and go on",
        )
    told: list[str] = []
    for reference in image.digests:
        try:
            _pull_from(client, reference)
        except ToolFailed as error:
            told.append(error.message)
            continue
        if _has(client, image.id):
            return
        told.append(f"{reference} was pulled, and is another image than {image.id[:19]}.")
    raise ToolFailed(
        f"Image {image.shown} is not stored, and pulling it failed: {' '.join(told)}",
        remedy=f"docker pull {image.digests[0]} (log in to its registry first, if that wants it), and go on",
    )


def _pull_from(client: Any, reference: str) -> None:
    """Pull exactly what a digest names. Raises ToolFailed, Unreachable."""
    repository, _, digest = reference.partition("@")
    failed = f"Pulling {reference} failed"
    try:
        with engine_errors(f"Pulling {reference}"):
            answers = list(client.api.pull(repository, tag=digest, stream=True, decode=True))
    except UnknownName as error:
        raise ToolFailed(f"{failed}: {getattr(error.__cause__, 'explanation', '') or 'it is not there'}.") from None
    # what breaks off once it has begun is told in the answer, not by its status
    wrong = next((str(each["error"]) for each in answers if "error" in each), "")
    if wrong:
        raise ToolFailed(f"{failed}: {wrong}.")


def _has(client: Any, identity: str) -> bool:
    with engine_errors("Looking for an image"):
        try:
            return str(client.api.inspect_image(identity)["Id"]) == identity
        except docker.errors.NotFound:
            return False


def needed(record: Record) -> Iterator[Image]:
    """The images that its containers run on."""
    ran = {each.image for each in record.containers}
    yield from (each for each in record.images if each.id in ran)
