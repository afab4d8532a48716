"""Names of images that lead to another one here than recorded: told, and kept beside before they are moved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import docker.errors

from engine import names
from engine.images.record import Image
from engine.scratch.boxed import engine_errors

_BEFORE = "_before_"
_LONGEST = 128 - len(f"{_BEFORE}YYYYMMDD_HHMMSS")
"""What of a tag has room in the one beside it."""


def lead(client: Any, tags: Iterable[str]) -> dict[str, str]:
    """The ids of the images that names lead to, by name; those that lead nowhere are left out."""
    found: dict[str, str] = {}
    with engine_errors("Looking where names of images lead"):
        for each in tags:
            with contextlib.suppress(docker.errors.NotFound):
                found[each] = str(client.api.inspect_image(each)["Id"])
    return found


def lead_elsewhere(client: Any, images: Iterable[Image]) -> dict[str, str]:
    """The same, of those that lead to another image than recorded."""
    recorded = {tag: image.id for image in images for tag in image.tags}
    return {tag: identity for tag, identity in lead(client, recorded).items() if identity != recorded[tag]}


def keep_beside(client: Any, images: Iterable[Image]) -> dict[str, str]:
    """Have every image that a name leads to in place of the recorded one go by a name of its own, too; that name, by
    the one that is to be moved. To be done before anything is loaded: loading moves names."""
    kept: dict[str, str] = {}
    for tag, identity in lead_elsewhere(client, images).items():
        repository, _, name = tag.rpartition(":")
        beside = f"{repository}:{name[:_LONGEST]}{_BEFORE}"
        with engine_errors(f"Keeping the image {tag} beside"):
            known = client.api.inspect_image(identity).get("RepoTags") or []
            kept[tag] = next((each for each in known if each.startswith(beside)), "")
        if not kept[tag]:
            kept[tag] = f"{beside}{names.now():{names.STAMP}}"
            name_it(client, identity, kept[tag])
    return kept


def name_it(client: Any, identity: str, tag: str) -> None:
    """Have a name lead to an image, wherever it led."""
    repository, _, name = tag.rpartition(":")
    with engine_errors(f"Naming image {tag}"):
        client.api.tag(identity, repository, name, force=True)
