"""Tasks of a restore of a whole machine: plan, and one task for each step. And what it shows a person, as Markdown."""

from __future__ import annotations

from prefect.logging import get_run_logger

from engine.config import SiteConfig
from engine.restore_site import report, run
from engine.restore_site.plan import SitePlan, SiteRequest, make_plan
from engine.restore_site.run import MachineRestore, SiteResult
from tasks.base import SiteHandle, step


@step(name="plan", run_name="plan the restore of the machine {site.name}")
def plan(site: SiteHandle, request: SiteRequest) -> SitePlan:
    """Find the recovery point, look at the machine, and say what restoring it means. Changes nothing."""
    with site.open() as opened:
        made = make_plan(opened, request)
    for line in made.lines():
        get_run_logger().info(line)
    return made


@step(name="thaw", run_name="see that all of {site.name} can be read")
def require_readable(site: SiteHandle, plan: SitePlan) -> None:
    """Ask for the thaw of all that stands in cold storage; a run that has to wait for it ends here for now."""
    with site.open() as opened:
        run.require_readable(opened, plan)


@step(name="restore", run_name="{title}", retries=0)
def restore(work: MachineRestore, key: str, title: str) -> str:
    """One step of the plan; done once, however often the flow is run."""
    done = work.do(next(each for each in work.plan.steps if each.key == key))
    get_run_logger().info("%s: %s", key, done.said)
    for note in done.notes:
        get_run_logger().info("%s: %s", key, note)
    return done.said


def plan_text(plan: SitePlan) -> str:
    """The plan."""
    return "\n".join([f"# Restore of the machine {plan.site}", "", *_marked(plan.lines())])


def approval_text(plan: SitePlan) -> str:
    """What will be done here, and what approves it."""
    head = f"# Restore the machine {plan.site} on this host?"
    return "\n".join([head, "", *_marked(plan.lines()), "", f"To approve, type: `{plan.confirmation}`"])


def headline(plan: SitePlan, result: SiteResult) -> str:
    """What it came to, in one sentence."""
    return report.headline(plan, result)


def result_text(config: SiteConfig, plan: SitePlan, result: SiteResult) -> str:
    """What came back, and what is left."""
    told = report.lines(config, plan, result)
    return "\n".join([f"# {told[0]}", "", *_marked(told[1:])])


def verdict(result: SiteResult) -> str:
    """Why it is not wholly back: the reasons first, then what is safe and what to do."""
    reasons = [f"{key}: {error.message.rstrip('.')}" for key, error in result.failures.items()]
    lines = ["; ".join(reasons) + ".", f"Kept safe: {len(result.done)} steps are done, and are not done again"]
    remedies = dict.fromkeys(error.remedy for error in result.failures.values() if error.remedy)
    return "\n".join([*lines, *(f"Next: {each}" for each in remedies), "Then start this again: it goes on from here."])


def _marked(lines: list[str]) -> list[str]:
    """Lines as a list; indented ones below."""
    return [f"  - {each.strip().removeprefix('- ')}" if each.startswith("  ") else f"- {each}" for each in lines]
