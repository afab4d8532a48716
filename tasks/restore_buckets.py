"""Tasks of a restore of a bucket: plan, safety snapshot, put, settings, compare. And what it shows, as Markdown."""

from __future__ import annotations

from prefect.logging import get_run_logger

from engine import names
from engine.buckets.plan import BucketPlan, BucketRequest, make_plan
from engine.buckets.restore import BucketRestore, BucketResult
from engine.catalog import Entry
from tasks.base import SiteHandle, step
from tasks.progress import told
from tasks.words import duration, plural, size


@step(name="plan", run_name="plan the restore of bucket {request.bucket} of {site.name} from {request.backup}")
def plan(site: SiteHandle, request: BucketRequest) -> BucketPlan:
    """Find the snapshot, read its list, and look at what stands where it goes. Changes nothing."""
    with site.open() as opened, told(f"look at bucket {request.bucket}") as progress:
        made = make_plan(opened, request, progress=progress)
    for line in made.lines()[:50]:
        get_run_logger().info(line)
    return made


@step(name="safety snapshot", run_name="safety snapshot of {work.plan.into}")
def safety_backup(work: BucketRestore) -> Entry | None:
    """Take and prove a snapshot of the bucket whose objects are overwritten."""
    entry = work.safety_backup()
    get_run_logger().info("safety snapshot: %s", entry.file if entry else "none, nothing is overwritten")
    return entry


@step(name="put", run_name="put {work.plan.manifest.file} into {work.plan.into}", retries=0)
def put(work: BucketRestore) -> None:
    """Write the objects that are not there as they were."""
    work.put()
    work.settings()
    get_run_logger().info("put %s into %s", work.plan.manifest.file, work.plan.where)


@step(name="compare", run_name="compare {work.plan.into} with the list", retries=0)
def compare(work: BucketRestore) -> int:
    """List what stands there now, and hold it against the snapshot's list."""
    count = work.compare()
    get_run_logger().info("%s as in the snapshot", plural(count, "object"))
    return count


def plan_text(plan: BucketPlan) -> str:
    """The plan."""
    return "\n".join([f"# Restore of bucket {plan.target.database}", "", *_head(plan), "", *_overwritten(plan)])


def approval_text(plan: BucketPlan) -> str:
    """What will be overwritten."""
    safety = "A snapshot of the bucket is taken first." if plan.request.safety_backup else "NO snapshot is taken first."
    return "\n".join(
        [
            f"# Overwrite {plural(plan.differing, 'object')} of {plan.where}?",
            "",
            *_head(plan),
            "",
            *_overwritten(plan),
            "",
            f"{safety} Objects that are only there stay as they are.",
            "",
            f"To approve, type the bucket's name: `{plan.into}`",
        ]
    )


def result_text(plan: BucketPlan, result: BucketResult) -> str:
    """What was done."""
    lines = [
        f"# {plan.target.database} is restored into {result.into}",
        "",
        f"{plural(result.written, 'object')} ({size(result.bytes)}) written, {result.same:,} left as they were, from "
        f"`{result.entry.file}` ({result.entry.location}) in {duration(result.seconds)}.",
        "",
    ]
    if result.safety is not None:
        lines.append(f"- safety snapshot: `{result.safety.file}`")
    return "\n".join([*lines, *[f"- {note}" for note in result.notes], "", *_overwritten(plan)])


def _head(plan: BucketPlan) -> list[str]:
    manifest = plan.manifest
    age = duration((names.now() - manifest.taken_at).total_seconds())
    return [
        f"- snapshot `{manifest.file}` from {plan.copies[0][0].location}, {age} old, taken "
        f"{names.both_zones(manifest.taken_at)}: {manifest.holds}",
        f"- {plural(plan.objects, 'object')}, {size(plan.bytes)}, into {plan.where}"
        + (f" below `{_code(plan.request.under)}`" if plan.request.under else ""),
        f"- {plan.new:,} new, {plan.same:,} there as they were, {plan.differing:,} overwritten",
        *[f"- {each}" for each in plan.drilled.lines()],
        *[f"- note: {note}" for note in plan.notes],
    ]


def _overwritten(plan: BucketPlan) -> list[str]:
    if not plan.differing:
        return []
    more = plan.differing - len(plan.named)
    rows = [f"| `{_code(name)}` |" for name in plan.named]
    return ["| overwritten |", "|---|", *rows, *([f"| and {more:,} more |"] if more > 0 else [])]


def _code(text: str) -> str:
    """Text that cannot end a cell or a line of a table."""
    return text.replace("|", "\\|").replace("`", "'").replace("\n", "\\n")
