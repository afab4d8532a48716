"""Tasks of a restore of config files: plan, safety backup, put, swap, compare. And what a person is shown of it."""

from __future__ import annotations

from prefect.logging import get_run_logger

from engine import names
from engine.catalog import Entry
from engine.config_files.diff import Difference
from engine.config_files.plan import ConfigPlan, ConfigRequest, make_plan
from engine.config_files.restore import ConfigRestore, ConfigResult
from engine.config_files.source import shown
from tasks.base import SiteHandle, step
from tasks.words import duration, plural

_SHOWN = 500


@step(name="plan", run_name="plan the restore of config files of {site.name} from {request.backup}")
def plan(site: SiteHandle, request: ConfigRequest) -> ConfigPlan:
    """Find the backup, read its listing, and say what restoring it means. Changes nothing."""
    with site.open() as opened:
        made = make_plan(opened, request)
    for line in made.lines()[:50]:
        get_run_logger().info(line)
    return made


@step(name="safety backup", run_name="safety backup of {work.plan.target}")
def safety_backup(work: ConfigRestore) -> Entry | None:
    """Back up and prove what stands where files will be put."""
    entry = work.safety_backup()
    get_run_logger().info("safety backup: %s", entry.file if entry else "none, nothing is replaced")
    return entry


@step(name="put", run_name="put {work.plan.manifest.file} into {work.plan.into}", retries=0)
def put(work: ConfigRestore) -> None:
    """Write the files: into their directory, or beside what stands in their place."""
    work.put()
    get_run_logger().info("put %s from %s into %s", work.entry.file, work.entry.location, shown(work.plan.into))


@step(name="swap", run_name="put {work.plan.target} in place of what stands there", retries=0)
def swap(work: ConfigRestore) -> list[str]:
    """Put what was written beside in place, and keep what stood there."""
    kept = work.swap()
    get_run_logger().info("what was replaced is kept in %s", shown(", ".join(kept)) or "no directory: nothing was")
    return kept


@step(name="compare", run_name="compare {work.plan.into} with the listing")
def compare(work: ConfigRestore) -> Difference:
    """Hold what stands there now against the backup's listing."""
    found = work.compare()
    get_run_logger().info("%s as in the backup", plural(found.same, "entry"))
    return found


def plan_text(plan: ConfigPlan) -> str:
    """The plan, with a table of what would change: names and kinds of change, never contents."""
    return "\n".join([f"# Restore of {plan.target.source}", "", *_head(plan), "", *_changes(plan)])


def approval_text(plan: ConfigPlan) -> str:
    """What will be put over what."""
    safety = "A safety backup is made first." if plan.request.safety_backup else "NO safety backup is made."
    return "\n".join(
        [
            f"# Put {plan.target.source} back in place?",
            "",
            *_head(plan),
            "",
            *_changes(plan),
            "",
            f"{safety} Files that are only here stay as they are.",
            "",
            f"To approve, type the source's name: `{plan.target.source}`",
        ]
    )


def result_text(plan: ConfigPlan, result: ConfigResult) -> str:
    """What was done."""
    lines = [
        f"# {plan.target.source} is back in {shown(result.into)}",
        "",
        f"{result.written:,} written, {result.altered:,} altered, {result.equal:,} left as they were, from "
        f"`{result.entry.file}` ({result.entry.location}) in {duration(result.seconds)}.",
        "",
    ]
    if result.safety is not None:
        lines.append(f"- safety backup: `{result.safety.file}`")
    for kept, back in zip(result.kept, result.how_back, strict=True):
        lines.append(
            f"- what was replaced is kept in `{shown(kept)}` until you remove it; back by hand: `{shown(back)}`"
        )
    return "\n".join([*lines, *[f"- {note}" for note in result.notes], "", *_changes(plan)])


def _head(plan: ConfigPlan) -> list[str]:
    manifest = plan.manifest
    age = duration((names.now() - manifest.taken_at).total_seconds())
    lines = [
        f"- backup `{manifest.file}` from {plan.copies[0][0].location}, {age} old, taken "
        f"{names.both_zones(manifest.taken_at)}: {manifest.holds}",
        f"- into `{shown(plan.into)}`" + (f": {plan.difference.counted()}" if plan.difference else ""),
    ]
    if plan.request.paths:
        lines.append(f"- only {', '.join(f'`{shown(path)}`' for path in plan.request.paths)}")
    return [*lines, *[f"- {each}" for each in plan.drilled.lines()], *[f"- note: {note}" for note in plan.notes]]


def _changes(plan: ConfigPlan) -> list[str]:
    if plan.difference is None or not plan.difference.changes:
        return []
    rows = [
        f"| {change.kind} | `{_cell(shown(change.path))}` | {_cell(', '.join(change.what))} |"
        for change in plan.difference.changes[:_SHOWN]
    ]
    more = len(plan.difference.changes) - _SHOWN
    return ["| | path | what |", "|---|---|---|", *rows, *([f"| | and {more:,} more | |"] if more > 0 else [])]


def _cell(text: str) -> str:
    """Text that cannot end a cell or a line of a table."""
    return text.replace("|", "\\|").replace("`", "'").replace("\n", "\\n")
