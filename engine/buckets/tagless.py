"""Endpoints that keep no tags of objects: what is restored there loses its tags, and that is told before and after."""

from __future__ import annotations

import contextlib

from engine.buckets.endpoint import Endpoint, Unable
from engine.buckets.record import Record
from engine.errors import BackupError


def keeps_tags(places: list[Endpoint]) -> bool | None:
    """Does an endpoint keep tags? Asked of the first object of the first of these buckets that has one; None where
    that could not be seen."""
    for there in places:
        with contextlib.suppress(BackupError):
            for listed in there.objects():
                try:
                    there.tags(listed.key)
                except Unable:
                    return False
                return True
    return None


def kept(there: Endpoint, under: str, each: Record) -> bool:
    """Has an object that was just written its tags? Raises what the endpoint says."""
    try:
        return there.tags(under + each.key) == each.tags
    except Unable:
        return False


def told(there: Endpoint, count: int) -> str:
    """What a person should know."""
    objects = "the one object that has some" if count == 1 else f"the {count:,} objects that have some"
    return f"{there.place.endpoint} keeps no tags of objects: {objects} come there without; the snapshot has them"
