"""What stands there already and would be overwritten where it is otherwise: told before anything is approved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from engine.buckets.endpoint import Endpoint
from engine.config import BucketsConfig, ConfigFilesConfig
from engine.config_files.diff import EXTRA
from engine.config_files.plan import ConfigRequest, make_plan
from engine.errors import BackupError
from engine.restore_site.points import Point
from engine.restore_site.state import State
from engine.site import Site

_SHOWN = 20
"""So many changed files are named; ``backups restore-config --into / --dry-run`` names all."""


def overwritten(site: Site, point: Point, state: State | None) -> Iterator[str]:
    """A sentence for each bucket and each source of config files that is not gone. What cannot be asked yet, such as an
    S3 server that this restore has to start first, is none that stands there."""
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


def _changes(site: Site, source: str, file: str) -> str:
    """What would be different afterwards; empty where the archive cannot be read now: the restore tells that."""
    with contextlib.suppress(BackupError):
        found = make_plan(site, ConfigRequest(source, file, into="/")).difference
        if found is not None:
            changes = [str(each) for each in found.changes if each.kind != EXTRA]
            more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
            return f" ({found.counted()}{''.join(f'; {each}' for each in changes[:_SHOWN])}{more})"
    return ""
