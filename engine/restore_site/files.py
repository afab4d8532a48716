"""Config files put back where they were, and volumes."""

from __future__ import annotations

import contextlib

from engine.config_files.plan import ConfigRequest
from engine.config_files.plan import make_plan as plan_config
from engine.config_files.restore import run as run_config
from engine.errors import BackupError, IntegrityError, RestoreRefused
from engine.restore_site.points import Piece
from engine.restore_site.state import Done
from engine.restore_site.work import Work
from engine.volumes import tree
from engine.volumes.plan import VolumeRequest, engine_of, listing
from engine.volumes.plan import make_plan as plan_volume
from engine.volumes.restore import run as run_volume


def restore_config(work: Work, piece: Piece) -> Done:
    """Put files back below ``/``, after a safety backup of what stands there. What is equal is left alone."""
    source, manifest = piece.target.source, piece.manifest
    request = ConfigRequest(source, manifest.file, work.request.location, "/")
    plan = plan_config(work.site, request)
    result = run_config(work.site, plan, approved=True, progress=work.progress, tell=work.tell)
    left = []
    if any("letsencrypt/" in each.path for each in plan.members):
        left.append(
            f"the certificates are those of {manifest.taken_at:%Y-%m-%d}: look when they end, and renew them "
            "(certbot renew) once DNS leads here"
        )
    notes = [*result.notes]
    if result.safety:
        notes.append(f"what stood there is in the safety backup {result.safety.file}")
    left += [f"what stood there is kept in {each} until you remove it" for each in result.kept]
    said = f"{result.written:,} written, {result.altered:,} altered, {result.equal:,} were equal: {manifest.holds}"
    counts = {what: int(manifest.contents.get(what, 0)) for what in ("files", "directories", "links")}
    return Done(said, counts, notes, left)


def restore_volume(work: Work, piece: Piece) -> Done:
    """Into a new volume of the same name and labels; in place of what is there, where there is one."""
    target, manifest = piece.target, piece.manifest
    config = next(each for each in work.site.config.volumes if each.name == target.source)
    engine = engine_of(work.site, config)
    real = str(manifest.contents.get("volume") or target.database)
    exists = engine.get(real) is not None
    counts = {what: int(manifest.contents.get(what, 0)) for what in ("files", "directories", "links", "bytes")}
    begun = work.state.begun(work.key) or {}
    if exists and begun.get("volume") and _is_whole(work, piece, real):
        return Done(f"volume {real}: {manifest.holds}, put there before and compared again", counts)
    work.state.record(work.key, volume=real)
    work.state.made(f"volume {real}")
    request = VolumeRequest(target.database, target.source, manifest.file, work.request.location, real, exists)
    try:
        plan = plan_volume(work.site, request)
        result = run_volume(work.site, plan, approved=True, progress=work.progress, tell=work.tell)
    except RestoreRefused as error:
        if not error.remedy:
            raise
        error.remedy += f". Then run this again: it is compared; where that cannot be, leave it out: --without {target}"
        raise
    left = [f"what volume {real} held is in volume {result.kept_as}"] if result.kept_as else []
    return Done(f"volume {real}: {manifest.holds}, each compared", counts, result.notes, left)


def _is_whole(work: Work, piece: Piece, real: str) -> bool:
    """Did an earlier run put all of it there, and die before it said so? Or did a person, where a run cannot?"""
    target, manifest = piece.target, piece.manifest
    request = VolumeRequest(target.database, target.source, manifest.file, work.request.location)
    with contextlib.suppress(IntegrityError, BackupError):
        plan = plan_volume(work.site, request)
        config = next(each for each in work.site.config.volumes if each.name == target.source)
        engine = engine_of(work.site, config)
        path, _ = engine.path_of(engine.find(real))
        if path is not None:
            tree.compare(path, listing(work.site, plan.copies[0][0], plan.manifest))
            return True
    return False
