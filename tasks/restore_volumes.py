"""Tasks of a restore of a volume: plan, put, compare, exchange. And what it shows a person, as Markdown."""

from __future__ import annotations

from prefect.logging import get_run_logger

from engine import names
from engine.config_files.source import shown
from engine.volumes.plan import VolumePlan, VolumeRequest, make_plan
from engine.volumes.restore import VolumeRestore, VolumeResult
from tasks.base import SiteHandle, step
from tasks.words import duration, plural, size


@step(name="plan", run_name="plan the restore of volume {request.volume} of {site.name} from {request.backup}")
def plan(site: SiteHandle, request: VolumeRequest) -> VolumePlan:
    """Find the backup, read its listing, and say what restoring it means. Changes nothing."""
    with site.open() as opened:
        made = make_plan(opened, request)
    for line in made.lines():
        get_run_logger().info(line)
    return made


@step(name="put", run_name="put {work.plan.manifest.file} into volume {work.plan.makes}", retries=0)
def put(work: VolumeRestore) -> None:
    """Make a volume and fill it; nothing that is there is touched."""
    work.put()
    get_run_logger().info("put %s from %s into volume %s", work.entry.file, work.entry.location, work.plan.makes)


@step(name="compare", run_name="compare volume {work.plan.makes} with the listing", retries=0)
def compare(work: VolumeRestore) -> int:
    """Read every file again, and hold it against the backup's listing."""
    count = work.compare()
    get_run_logger().info("%s as in the backup", plural(count, "entry"))
    return count


@step(name="exchange", run_name="put {work.plan.makes} in place of what {work.plan.into} holds", retries=0)
def exchange(work: VolumeRestore) -> list[str]:
    """Stop who uses the volume, exchange old and new data in one step, start them again and see that they run."""
    services = work.exchange()
    get_run_logger().info(
        "volume %s holds what was restored, volume %s what it held; %s",
        work.plan.into,
        work.plan.kept_as,
        ", ".join(services) or "no container ran with it",
    )
    return services


def plan_text(plan: VolumePlan) -> str:
    """The plan."""
    return "\n".join([f"# Restore of volume {plan.target.database}", "", *_head(plan)])


def approval_text(plan: VolumePlan) -> str:
    """What will be put in place of what."""
    return "\n".join(
        [
            f"# Replace what volume {plan.into} holds?",
            "",
            *_head(plan),
            "",
            "It is restored beside and compared first. Nothing is deleted.",
            "",
            f"To approve, type the volume's name: `{plan.into}`",
        ]
    )


def result_text(plan: VolumePlan, result: VolumeResult) -> str:
    """What was done."""
    lines = [
        f"# Volume {result.into} is restored",
        "",
        f"{plural(result.members, 'entry')} from `{result.entry.file}` ({result.entry.location}), each compared with "
        f"the listing, in {duration(result.seconds)}.",
        "",
    ]
    if result.kept_as:
        lines.append(f"- what it held is in volume `{result.kept_as}`, until somebody removes it")
    if result.services:
        lines.append(f"- containers stood still for {duration(result.stopped_seconds)}: {', '.join(result.services)}")
    return "\n".join([*lines, *[f"- {note}" for note in result.notes]])


def _head(plan: VolumePlan) -> list[str]:
    manifest = plan.manifest
    old = duration((names.now() - manifest.taken_at).total_seconds())
    lines = [
        f"- backup `{manifest.file}` from {plan.copies[0][0].location}, {old} old, taken "
        f"{names.both_zones(manifest.taken_at)}: {manifest.holds}, {size(plan.chosen.bytes)}",
    ]
    if plan.chosen.paths:
        lines.append(f"- only {', '.join(f'`{shown(path)}`' for path in plan.chosen.paths)}")
    if plan.replaces:
        lines.append(f"- in place of what volume `{plan.into}` holds, which is kept as volume `{plan.kept_as}`")
        lines.append(
            f"- stopped meanwhile and started again: {', '.join(plan.users) or 'nobody, no container runs with it'}"
        )
    else:
        lines.append(f"- into the new volume `{plan.into}`")
    return [*lines, *[f"- {each}" for each in plan.drilled.lines()], *[f"- note: {note}" for note in plan.notes]]
