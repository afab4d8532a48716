"""Tasks of a restore: plan, load beside, compare, safety backup, swap."""

from __future__ import annotations

from prefect.logging import get_run_logger

from engine import point_in_time
from engine.catalog import Entry
from engine.manifest import Manifest
from engine.point_in_time import PastPlan
from engine.restore import RestorePlan, RestoreRequest, RestoreWork, make_plan
from engine.source import Comparison, SwapReport
from tasks.base import SiteHandle, step
from tasks.progress import told
from tasks.words import plural


@step(name="plan", run_name="plan the restore of {site.name}/{request.database} from {request.backup}")
def plan(site: SiteHandle, request: RestoreRequest) -> RestorePlan:
    """Find the backup and say what restoring it means. Changes nothing."""
    with site.open() as opened:
        made = make_plan(opened, request)
    for line in made.lines():
        get_run_logger().info(line)
    return made


@step(name="plan the recovery", run_name="plan the recovery of {site.name}/{request.database} to {when}")
def plan_past(
    site: SiteHandle, request: RestoreRequest, when: str, confirm: str = "", only_backup: bool = False
) -> PastPlan:
    """Find the full or base, and the logs, that bring a database back to a moment; refuse what could not be restored
    afterwards. Changes nothing."""
    with site.open() as opened:
        made = point_in_time.plan_past(opened, request, when)
        if not only_backup:
            point_in_time.check_goal(opened, made, request, confirm)
    for line in made.lines():
        get_run_logger().info(line)
    return made


@step(name="recover", run_name="recover {plan.found.source}/{plan.found.database} to {plan.when}")
def bring_back(site: SiteHandle, plan: PastPlan) -> tuple[Entry, Manifest]:
    """Replay the logs on a scratch server, and take a backup of what comes out. Production is not touched."""
    with site.open() as opened, told(f"recover {plan.found.database}") as progress:
        entry, manifest = point_in_time.bring_back(opened, plan, progress=progress)
    get_run_logger().info(
        "recovered %s of %s in %s: %s",
        plural(manifest.total_rows, "row"), plan.found.database, plural(len(manifest.rows), "table"), entry.file,
    )  # fmt: skip
    for note in plan.notes:
        get_run_logger().warning(note)
    return entry, manifest


@step(name="load", run_name="load {work.plan.manifest.file} into {work.plan.side}")
def load(work: RestoreWork) -> None:
    """Load the backup into a side database that production cannot notice."""
    work.load()
    get_run_logger().info("loaded %s from %s into %s", work.manifest.file, work.entry.location, work.plan.side)


@step(name="compare", run_name="compare {work.plan.side} with its manifest")
def compare(work: RestoreWork) -> Comparison:
    """Count every restored table and compare rows and schema with the manifest."""
    found = work.compare()
    get_run_logger().info(
        "%s of %s are there, in %s; schema %s",
        f"{sum(found.found.values()):,}",
        plural(sum(found.expected.values()), "row"),
        plural(len(found.found), "table"),
        {True: "equal", False: "differs", None: "not compared"}[found.schema_equal],
    )
    return found


@step(name="safety backup", run_name="safety backup of {work.plan.target}")
def safety_backup(work: RestoreWork) -> Entry | None:
    """Back up and prove what is about to be replaced."""
    entry = work.safety_backup()
    get_run_logger().info("safety backup: %s", entry.file if entry else "none, there is nothing to replace")
    return entry


@step(name="swap", run_name="put {work.plan.side} in the place of {work.plan.target}", retries=0)
def swap(work: RestoreWork) -> SwapReport:
    """Put the checked copy in production's place. Not retried: its journal undoes or finishes it."""
    report = work.swap()
    get_run_logger().info(
        "swapped: the app's writes waited %.0f ms; the previous data stays as %s",
        report.paused_seconds * 1000,
        report.kept_as or "nothing (there was none)",
    )
    return report


@step(name="new full", run_name="new full of {work.plan.target}, which later logs are replayed on", retries=0)
def new_full(work: RestoreWork) -> Entry | None:
    """Binary logs cannot be replayed across a swap: back up what stands there now."""
    entry = work.new_full()
    if entry is not None:
        get_run_logger().info("new full: %s", entry.file)
    elif work.lacks_full is not None:
        get_run_logger().error(str(work.lacks_full))
    return entry
