"""Buckets and n8n of a machine: what serves them is started and awaited, then they are put back where they were."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from engine import stopping
from engine.addresses import bare
from engine.buckets.endpoint import Endpoint
from engine.buckets.plan import BucketRequest
from engine.buckets.plan import make_plan as plan_bucket
from engine.buckets.restore import run as run_bucket
from engine.config import BucketsConfig, N8nConfig
from engine.errors import BackupError, CredentialsRefused, MissingGrant, Unreachable
from engine.n8n.plan import N8nRequest
from engine.n8n.plan import make_plan as plan_n8n
from engine.n8n.restore import N8nRestore
from engine.restore_site.containers import have_running, restart, serve
from engine.restore_site.points import Piece
from engine.restore_site.state import Done
from engine.restore_site.work import Work

READY_SECONDS = 300.0
"""How long what was just started may take to answer."""


def restore_bucket(work: Work, piece: Piece) -> Done:
    """Into the bucket of its own name, made when it is not there. Objects that stand there as they were are left alone,
    so that a restore that broke off goes on; before others are overwritten a snapshot is taken."""
    target, manifest = piece.target, piece.manifest
    config = work.site.config.source(target.source)
    assert isinstance(config, BucketsConfig)
    started = serve(work, config.endpoint_url)
    where = bare(config.endpoint_url) if config.endpoint_url else "S3"
    _await(lambda: Endpoint.of(config, target.database).exists(), f"waiting for {where}")
    request = BucketRequest(target.database, target.source, manifest.file, work.request.location, into=target.database)
    plan = plan_bucket(work.site, request, progress=work.progress)
    work.state.record(work.key, bucket=target.database)
    result = run_bucket(work.site, plan, approved=True, progress=work.progress, tell=work.tell)
    notes = [f"{name} was started for it" for name in started] + result.notes
    if result.safety:
        notes.append(f"what was overwritten is in the snapshot {result.safety.file}")
    said = f"bucket {result.where}: {result.written:,} objects written, {result.same:,} stood there as they were"
    left = [] if plan.settings else _set_otherwise(config, piece)
    return Done(said, {"objects": result.written + result.same, "bytes": plan.bytes}, notes, left)


def _set_otherwise(config: BucketsConfig, piece: Piece) -> list[str]:
    """What a bucket that stood there already has otherwise than the backup: that is left alone, and told."""
    bucket, manifest = piece.target.database, piece.manifest
    now = Endpoint.of(config, bucket).settings().as_dict()
    other = [name for name in now if manifest.contents.get(name) and now[name] != manifest.contents[name]]
    if not other:
        return []
    return [
        f"bucket {bucket} stood there already, set up otherwise than in the backup ({', '.join(other)}); to set that: "
        f"backups restore-bucket --source {config.name} --bucket {bucket} --backup {manifest.file} --into {bucket} "
        "--settings"
    ]


def restore_n8n(work: Work, piece: Piece) -> Done:
    """Workflows and credentials under their own ids, those active again that were. What is there as it was, with the
    database or volume of this n8n, is left alone."""
    target, manifest = piece.target, piece.manifest
    config = work.site.config.source(target.source)
    assert isinstance(config, N8nConfig)
    have_running(work, config)
    started = serve(work, config.url)
    _await(lambda: _ready(config), f"waiting for n8n at {bare(config.url)}")
    request = N8nRequest(target.source, manifest.file, work.request.location, activate=True)
    plan = plan_n8n(work.site, request)
    left: list[str] = []
    with N8nRestore(work.site, plan, approved=True, progress=work.progress) as restoring:
        restoring.safety_backup()
        restoring.bring_in()
        restoring.compare()
        try:
            restoring.activate()
        except (CredentialsRefused, MissingGrant) as error:
            left = _by_command(work, config, restoring, error)
        result = restoring.result()
    workflows, credentials = (len(lot.same) + len(lot.wanted) for lot in (plan.workflows, plan.credentials))
    said = (
        f"{workflows:,} workflows and {credentials:,} credentials, each credential opened; {result.same:,} were there"
    )
    notes = [f"{name} was started for it" for name in started] + result.notes
    return Done(said, {"workflows": workflows, "credentials": credentials}, notes, left)


def _by_command(work: Work, config: N8nConfig, restoring: N8nRestore, why: BackupError) -> list[str]:
    """Make active without the API, whose key a new n8n does not know: by its command, which it heeds when it is started
    again. What is left for a person."""
    restoring.activate_by_command()
    left = [f"n8n at {bare(config.url)}: {why.message} Its next backup needs one: {why.remedy}"]
    if restoring.instance.contained:  # also when an earlier run died before it came to this
        restart(work, config)
        _await(lambda: _ready(config), f"waiting for n8n at {bare(config.url)}")
    else:
        active = len(restoring.plan.activated)
        left.append(f"start n8n at {bare(config.url)} again: {active} workflows that were active are so from then on")
    return left


def _ready(config: N8nConfig) -> None:
    """Raises Unreachable."""
    try:
        answer = httpx.get(f"{config.url.rstrip('/')}/healthz/readiness", timeout=10, verify=config.verify_tls)
    except httpx.HTTPError as error:
        raise Unreachable(
            f"n8n does not answer at {bare(config.url)} ({type(error).__name__}).",
            kept="all that was restored so far; run again, and it goes on from here",
            remedy=f"is it running? correct url of {config.name}",
        ) from None
    if answer.status_code != 200:
        raise Unreachable(f"n8n at {bare(config.url)} is not ready ({answer.status_code}).", remedy="see its log")


def _await(ask: Callable[[], object], what: str) -> None:
    """Ask until it answers: what is still starting is not there, or says that it is busy (503). Raises what it last
    said when its time is over, and at once what asking again does not mend."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        stopping.check(what)
        try:
            ask()
            return
        except BackupError as error:
            if not error.retryable or time.monotonic() > deadline:
                raise
            time.sleep(1)
