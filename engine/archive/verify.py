"""Proof of a stored archive: every member of the tar is the listing's, and every file has the listing's digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import zip_longest

from engine.archive.headers import member_of
from engine.archive.member import Member, check_member, read_listing
from engine.archive.read import members
from engine.errors import IntegrityError
from engine.manifest import Manifest

DUMP_FORMAT = "tar"
LISTING = "listing"
"""Role of the companion that lists the members."""


def verify(manifest: Manifest, open_role: Callable[[str], Iterable[bytes]]) -> int:
    """Read an archive to its end.

    Args:
        open_role: Gives the plain bytes of a part.

    Returns:
        How many members were proven.

    Raises:
        IntegrityError: A member is missing, too many or not what the listing says, or may never be restored.
    """
    what = manifest.file
    if LISTING not in {part.role for part in manifest.files}:
        raise IntegrityError(f"{what} has no listing of what it holds.")
    count = 0
    listed = read_listing(open_role(LISTING), what)
    for found, expected in zip_longest(members(open_role("data"), what), listed):
        if found is None or expected is None:
            name = expected.path if expected is not None else found[0].name if found else ""
            where = "the listing" if found is None else "the archive"
            raise IntegrityError(f"{what} and its listing differ: {name!r} is only in {where}.")
        check_member(expected, what)
        digest = hashlib.sha256()
        for chunk in found[1]:
            digest.update(chunk)
        _compare(member_of(found[0], digest.hexdigest()), expected, what)
        count += 1
    return count


def _compare(found: Member, expected: Member, what: str) -> None:
    if found.type != "file":
        found = replace(found, sha256="")
    differing = [
        name for name, value in vars(expected).items() if name != "above" and getattr(found, name) != value
    ]  # fmt: skip
    if differing:
        raise IntegrityError(
            f"{what}: {expected.path!r} differs from its listing in {', '.join(differing)}.",
            remedy="use another copy of this backup (--location)",
        )
