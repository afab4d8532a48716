"""What stands there already and would be overwritten where it is otherwise: told before anything is approved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engine.buckets.endpoint import Endpoint
from engine.config import BucketsConfig, ConfigFilesConfig, ImagesConfig
from engine.config_files.diff import EXTRA
from engine.config_files.plan import ConfigRequest, make_plan
from engine.errors import BackupError
from engine.fallback import first_whole
from engine.images.load import needed, open_record
from engine.images.source import engine_for
from engine.images.tags import lead_elsewhere
from engine.restore_site.points import Piece, Point
from engine.restore_site.state import State
from engine.site import Site

_SHOWN = 20
"""So many changed files are named; ``backups restore-config --into / --dry-run`` names all."""


def overwritten(site: Site, point: Point, state: State | None) -> Iterator[str]:
    """A sentence for each bucket, each source of config files and each name of an image that is not gone. What cannot
    be asked yet, such as an S3 server that this restore has to start first, is none that stands there.

    Raises:
        Unreachable: No Docker engine answers, and one is needed.
    """
    for target, piece in point.pieces.items():
        if state is not None and state.begun(str(target)) is not None:
            continue
        config = site.config.source(target.source)
        if isinstance(config, BucketsConfig):
            with contextlib.suppress(BackupError):
                if Endpoint.of(config, target.database).exists():
                    yield (
                        f"bucket {target.database} is there: objects that stand there as in {piece.manifest.file} are "
                        "left alone, others of the same keys are overwritten, after a snapshot of the bucket"
                    )
        elif isinstance(config, ConfigFilesConfig):
            there = [path for path in config.paths if Path(path).exists()]
            if there:
                shown = ", ".join(there[:5]) + (" and more" if len(there) > 5 else "")
                yield (
                    f"of {target.source} there is already {shown}: what stands there otherwise is replaced, after "
                    f"a safety backup of them{_changes(site, target.source, piece.manifest.file)}"
                )
        elif isinstance(config, ImagesConfig):
            yield from _moved(site, config, piece)


def _changes(site: Site, source: str, file: str) -> str:
    """What would be different afterwards; empty where the archive cannot be read now: the restore tells that."""
    with contextlib.suppress(BackupError):
        found = make_plan(site, ConfigRequest(source, file, into="/")).difference
        if found is not None:
            changes = [str(each) for each in found.changes if each.kind != EXTRA]
            more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
            return f" ({found.counted()}{''.join(f'; {each}' for each in changes[:_SHOWN])}{more})"
    return ""


def _moved(site: Site, config: ImagesConfig, piece: Piece) -> Iterator[str]:
    """Names that lead to another image than recorded, and so are to be moved."""
    try:
        record, _ = first_whole(piece.copies, partial(open_record, site), [])
    except BackupError as error:
        yield (
            f"which names of images lead elsewhere here is not known before {piece.manifest.file} can be read "
            f"({error.message}); they are moved, and what they lead to is kept under other names"
        )
        return
    with contextlib.closing(engine_for(config, site.name)) as engine:
        for tag, identity in sorted(lead_elsewhere(engine.client, needed(record)).items()):
            yield (
                f"the name {tag} leads to another image here ({identity[:19]}) than recorded: it will lead to the "
                f"recorded one, and the other is kept as {tag}_before_TIME"
            )
