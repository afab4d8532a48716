"""Tasks of archives: promote the newest verified recovery point of each period that is over."""

from __future__ import annotations

from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from engine import names
from engine.archiving import Archived
from engine.archiving import archive as promote_missing
from tasks.base import SiteHandle, step
from tasks.progress import told
from tasks.words import size


@step(name="archive", run_name="{tier} archive of {site.name}")
def archive(site: SiteHandle, tier: str) -> list[Archived]:
    """Read the chosen backups to their end once more and promote them; what stands already is left as it is."""
    log = get_run_logger()
    with site.open() as opened, told(f"{tier} archive") as progress:
        done = promote_missing(opened, tier, progress=progress, tell=lambda text: log.info("waiting: %s", text))
    for each in done:
        (log.error if each.failed else log.info)(each.verdict())
    return done


def publish(site: str, tier: str, done: list[Archived]) -> None:
    """Leave a table of what each period has."""
    rows = [
        {
            "period": str(each.period),
            "what": f"{manifest.source}/{manifest.database}",
            "archive": entry.file,
            "made from": manifest.origin.file if manifest.origin else "a backup of its own",
            "stored": size(manifest.stored_bytes),
            "now": "promoted" if (entry, manifest) in each.made else "stood already",
        }
        for each in done
        for entry, manifest in (*each.made, *each.stood)
    ]
    rows += [
        {"period": str(each.period), "what": str(lost), "archive": "NONE"} for each in done for lost in each.lacking
    ]
    create_table_artifact(
        key=f"{site}-{tier}-archive",
        table=rows or [{"period": "none", "what": "nothing is there yet"}],
        description=f"{tier} archive of {site}, {names.now():%Y-%m-%d %H:%M} UTC",
    )
