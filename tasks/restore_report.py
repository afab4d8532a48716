"""What a restore shows a person: the plan, what an approval is about, and what was done. Markdown."""

from __future__ import annotations

from engine import names
from engine.restore import RestorePlan, RestoreResult
from tasks.words import duration, plural, size


def plan_text(plan: RestorePlan) -> str:
    """The plan, with a table of rows now and in the backup."""
    return "\n".join([f"# Restore of {plan.target}", "", *_paragraphs(plan.lines()), "", *_side_by_side(plan)])


def approval_text(plan: RestorePlan) -> str:
    """What will be replaced by what: sizes, ages, counts."""
    manifest, before = plan.manifest, plan.before
    stored = f"{size(manifest.data.plain_size)} dumped, {size(manifest.stored_bytes)} stored"
    what, holds = plan.replaced
    safety = " A safety backup is made first." if plan.request.safety_backup else " NO safety backup is made."
    age = duration((names.now() - manifest.taken_at).total_seconds())
    return "\n".join(
        [
            f"# Replace {plan.target}?",
            "",
            "| | replaced | by |",
            "|---|---|---|",
            f"| what | {what}, with {holds} | `{manifest.file}` from {plan.entry.location} |",
            f"| age | now | {age} old, taken {names.both_zones(manifest.taken_at)} |",
            *(f"| drills | | {each} |" for each in plan.proof_lines()),
            f"| size | {size(before.bytes)} | {stored} |",
            f"| tables | {before.tables} | {len(manifest.rows)} |",
            f"| rows | {sum(before.rows.values()):,} | {manifest.total_rows:,} |",
            "",
            f"{plan.previous}{safety}",
            *[f"\n**Note:** {note}" for note in plan.notes],
            "",
            f"To approve, type the database's name: `{plan.target.database}`",
        ]
    )


def result_text(plan: RestorePlan, result: RestoreResult) -> str:
    """What was done, table by table."""
    compared = result.comparison
    lines = [
        f"# {plan.target} is back as {result.into}",
        "",
        f"{result.rows:,} of {plural(sum(compared.expected.values()), 'row')} from `{result.entry.file}` "
        f"({result.entry.location}) in {duration(result.seconds)}{result.but}.",
        "",
    ]
    if result.swap is not None:
        lines.append(
            f"- writes waited {result.swap.paused_seconds * 1000:.0f} ms; "
            + (f"previous data: `{result.swap.kept_as}`" if result.swap.kept_as else "nothing stood there before")
        )
    if result.safety is not None:
        lines.append(f"- safety backup: `{result.safety.file}`")
    if result.lacks_full is not None:
        lines.append(f"- **{result.lacks_full.message}** Next: {result.lacks_full.remedy}")
    lines += [f"- {note}" for note in result.notes]
    lines += ["", "| table | in the backup | restored |", "|---|---:|---:|"]
    lines += [
        f"| {table} | {count:,} | {compared.found.get(table, 0):,} |"
        for table, count in sorted(compared.expected.items())
    ]
    return "\n".join(lines)


def _side_by_side(plan: RestorePlan) -> list[str]:
    tables = sorted({*plan.manifest.rows, *plan.before.rows})
    rows = [
        f"| {table} | {_count(plan.before.rows.get(table))} | {_count(plan.manifest.rows.get(table))} |"
        for table in tables[:200]
    ]
    return ["| table | rows now | rows in the backup |", "|---|---:|---:|", *rows]


def _count(rows: int | None) -> str:
    return "-" if rows is None else f"{rows:,}"


def _paragraphs(lines: list[str]) -> list[str]:
    return [f"- {line.strip()}" for line in lines]
