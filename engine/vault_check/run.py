"""The verification of a vault: one place after the other, each by itself."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from engine import names, stopping
from engine.durations import seconds_of
from engine.errors import BackupError, Cancelled, LockHeld
from engine.progress import Progress, silent
from engine.site import Site
from engine.vault_check import last
from engine.vault_check.census import Census
from engine.vault_check.contents import check_contents
from engine.vault_check.documents import check_documents
from engine.vault_check.findings import PlaceReport
from engine.vault_check.logs import check_logs
from engine.vault_check.lost import check_lost
from engine.vault_check.replicas import check_replica, check_unfinished
from engine.vault_check.share import Share
from engine.vault_check.suspects import settle_suspects
from engine.vault_check.treat import examine
from engine.vault_check.work import Request, Work

ALL = "all"


def verify_vault(
    site: Site,
    request: Request = Request(),
    *,
    location: str = ALL,
    now: datetime | None = None,
    progress: Progress = silent,
) -> list[PlaceReport]:
    """Verify every place, or one. What a place raises is told in its report; it keeps no other from its turn.

    Raises:
        UnknownName: No such location. Cancelled.
    """
    places = site.vault.locations() if location == ALL else [location]
    for place in places:
        site.vault.store(place)
    return [verify_place(site, place, request, now=now, progress=progress) for place in places]


def verify_place(
    site: Site, location: str, request: Request = Request(), *, now: datetime | None = None, progress: Progress = silent
) -> PlaceReport:
    """Read back a share of one place, name what is wrong there, and heal it from the other places.

    Args:
        now: The present moment; for tests.

    Raises:
        UnknownName: No such location. Cancelled.
    """
    begun = time.monotonic()
    report = PlaceReport(location, now or names.now(), request.dry_run)
    share = request.share or share_of(site)
    work = Work(site, report, request, share, stopping.heeding(progress, f"verification of {location}"))
    try:
        if request.dry_run:
            _plan(work)
        else:
            with site.vault.verifying(location):
                _verify(work)
    except Cancelled:
        raise
    except BackupError as error:
        report.error = error
    report.seconds = time.monotonic() - begun
    if not request.dry_run and not isinstance(report.error, LockHeld):
        last.keep(site, report, everything=share.everything)
    return report


def share_of(site: Site) -> Share:
    """What a daily run reads, by the site file."""
    return Share.daily(timedelta(seconds=seconds_of(site.config.vault.verify_within)))


def _plan(work: Work) -> None:
    """Only what would be read, from listings."""
    census = Census(work.store, work.layout, work.now)
    try:
        _count(work, census)
    finally:
        census.close()


def _verify(work: Work) -> None:
    census = Census(work.store, work.layout, work.now)
    try:
        _count(work, census)
        settle_suspects(work, census)
        check_lost(work, census)
        check_contents(work, census)  # before the lists that are verified to their end
        examine(work, census)
        check_documents(work)
        check_logs(work, census)
        check_replica(work, census)
        check_unfinished(work)
    finally:
        census.close()


def _count(work: Work, census: Census) -> None:
    report = work.report
    report.stored, report.stored_bytes, report.oldest = census.count, census.size, census.oldest
    report.due, report.due_bytes = census.choose(work.share)


__all__ = ["ALL", "share_of", "verify_place", "verify_vault"]
