"""A stored log of PostgreSQL looked at again: is it what its manifest says it is?"""

from __future__ import annotations

from collections.abc import Iterable

from engine.errors import IntegrityError
from engine.logs import facts_of
from engine.manifest import Manifest
from engine.postgres.wal import check_segment, parse_segment

_HEADER = 40


def check_log(manifest: Manifest, chunks: Iterable[bytes]) -> None:
    """Read a segment or a history to its end.

    Raises:
        IntegrityError: It has another length, or a segment's first page is of another place or server.
    """
    log = facts_of(manifest)
    head, size = b"", 0
    for chunk in chunks:
        if len(head) < _HEADER:
            head += chunk[:_HEADER]
        size += len(chunk)
    if size != log.end - log.start:
        raise IntegrityError(
            f"{manifest.file} unpacks to {size:,} bytes, not the {log.end - log.start:,} of {log.name}."
        )
    segment = parse_segment(log.name, size)
    if segment is not None:
        check_segment(head, segment, log.chain)
