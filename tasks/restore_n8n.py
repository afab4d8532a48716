"""Tasks of a restore of n8n: plan, safety backup, bring in, compare, activate. And what it shows, as Markdown."""

from __future__ import annotations

from prefect.logging import get_run_logger

from engine import names
from engine.catalog import Entry
from engine.n8n.plan import N8nPlan, N8nRequest, make_plan
from engine.n8n.restore import N8nRestore, N8nResult
from tasks.base import SiteHandle, step
from tasks.words import duration, plural

_SHOWN = 200


@step(name="plan", run_name="plan the restore of n8n {request.source} of {site.name} from {request.backup}")
def plan(site: SiteHandle, request: N8nRequest) -> N8nPlan:
    """Find the backup, read it, and ask the n8n it goes into. Changes nothing."""
    with site.open() as opened:
        made = make_plan(opened, request)
    for line in made.lines()[:50]:
        get_run_logger().info(line)
    return made


@step(name="safety backup", run_name="safety backup of {work.plan.into}")
def safety_backup(work: N8nRestore) -> Entry | None:
    """Back up and prove the n8n in which something is overwritten."""
    entry = work.safety_backup()
    get_run_logger().info("safety backup: %s", entry.file if entry else "none, nothing is overwritten")
    return entry


@step(name="bring in", run_name="bring {work.plan.manifest.file} into {work.plan.into}", retries=0)
def bring_in(work: N8nRestore) -> None:
    """Import credentials and workflows under their own ids, inactive."""
    work.bring_in()
    get_run_logger().info("brought %s into %s", work.plan.manifest.file, work.plan.into)


@step(name="compare", run_name="compare {work.plan.into} with the backup", retries=0)
def compare(work: N8nRestore) -> int:
    """Export again, and open every credential with this n8n's own key."""
    count = work.compare()
    get_run_logger().info("%s as in the backup, each credential opened", plural(count, "workflow or credential"))
    return count


@step(name="activate", run_name="make active in {work.plan.into} what was", retries=0)
def activate(work: N8nRestore) -> list[str]:
    """Make active again what was."""
    done = work.activate()
    get_run_logger().info("%s made active", plural(len(done), "workflow"))
    return done


def plan_text(plan: N8nPlan) -> str:
    """The plan."""
    return "\n".join([f"# Restore of {plan.target.source}", "", *_head(plan), "", *_overwritten(plan)])


def approval_text(plan: N8nPlan) -> str:
    """What will be overwritten."""
    safety = "What is there is backed up first." if plan.request.safety_backup else "NOTHING is backed up first."
    return "\n".join(
        [
            f"# Overwrite {plan.differing:,} in {plan.into}?",
            "",
            *_head(plan),
            "",
            *_overwritten(plan),
            "",
            f"{safety} What is only there stays as it is.",
            "",
            f"To approve, type the name: `{plan.into}`",
        ]
    )


def result_text(plan: N8nPlan, result: N8nResult) -> str:
    """What was done."""
    lines = [
        f"# {plan.target.source} is restored into {result.into}",
        "",
        f"{plural(result.workflows, 'workflow')} and {plural(result.credentials, 'credential')} brought in, "
        f"{result.same:,} left as they were, {plural(len(result.activated), 'workflow')} made active, from "
        f"`{result.entry.file}` ({result.entry.location}) in {duration(result.seconds)}.",
        "",
    ]
    if result.safety is not None:
        lines.append(f"- safety backup: `{result.safety.file}`")
    return "\n".join([*lines, *[f"- {note}" for note in result.notes], "", *_overwritten(plan)])


def _head(plan: N8nPlan) -> list[str]:
    manifest = plan.manifest
    age = duration((names.now() - manifest.taken_at).total_seconds())
    counts = [
        f"{len(lot.new)} new {what}s, {len(lot.same)} there as they were, {len(lot.differing)} overwritten"
        for what, lot in (("workflow", plan.workflows), ("credential", plan.credentials))
    ]
    return [
        f"- backup `{manifest.file}` from {plan.copies[0][0].location}, {age} old, taken "
        f"{names.both_zones(manifest.taken_at)}: {manifest.holds}, n8n {manifest.contents.get('version')}",
        f"- into {plan.into} at {plan.where}",
        *[f"- {each}" for each in counts],
        f"- made active again: {plural(len(plan.activated), 'workflow')}",
        *[f"- {each}" for each in plan.drilled.lines()],
        *[f"- note: {note}" for note in plan.notes],
    ]


def _overwritten(plan: N8nPlan) -> list[str]:
    if not plan.differing:
        return []
    rows = [f"| {_cell(each)} |" for each in plan.named[:_SHOWN]]
    more = plan.differing - _SHOWN
    return ["| overwritten |", "|---|", *rows, *([f"| and {more:,} more |"] if more > 0 else [])]


def _cell(text: str) -> str:
    """Text that cannot end a cell or a line of a table."""
    return text.replace("|", "\\|").replace("`", "'").replace("\n", " ")
