"""Which sources are protected and proven, what went wrong, what it costs: one page on the week."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from blocks import load_site
from engine.errors import BackupError
from flows.outcome import outcome
from flows.parameters import SiteName
from tasks import weekly
from tasks.base import SiteHandle


def _run_name() -> str:
    return f"report of {runtime.flow_run.parameters.get('site')}"


@flow(name="weekly-report", flow_run_name=_run_name, persist_result=False)
def weekly_report(
    site: SiteName,
    days: Annotated[int, Field(ge=1, le=366)] = 7,
    weeks: Annotated[int, Field(ge=1, le=260)] = 13,
) -> State[Any]:
    """Make the report of the week: its first line says how many sources are protected and proven, and which are not.

    The short text is under Artifacts as SITE-report. The page, with plots, is written to report.directory of the site
    file, or into the vault's own state directory; the run's message says where. Everything is read from the vault and
    its copies; one that cannot be asked is told of.

    Args:
        site: Name of the site block, such as workset.
        days: How far back incidents are told.
        weeks: How far back sizes, times and drills go.
    """
    return outcome(_report, site, days, weeks)


def _report(site: str, days: int, weeks: int) -> State[None]:
    made = weekly.make(SiteHandle(load_site(site)), days, weeks)
    weekly.publish(made)
    if isinstance(made.page, BackupError):
        return Failed(message=f"{made.page}\nThe short text is the artifact {site}-report: {made.report.verdict.said}")
    return Completed(message=f"{made.report.verdict.said}\nPage: {made.page}")
