"""``backups status --check``: one line and an exit code as monitoring plugins have them, and figures for Prometheus."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.cli.run import Outcome, Run
from engine import names

if TYPE_CHECKING:
    from engine.watch.findings import Finding, Look


def check(run: Run, metrics: Path | None) -> Outcome:
    """Look at everything that the watch looks at. Needs no Prefect server.

    The exit code is that of a monitoring plugin: 0 ok, 1 warning, 2 critical, 3 unknown; also when the site itself
    cannot be looked at. Source of the line's form: the guidelines of the Monitoring Plugins project.
    """
    from engine.watch import metrics as exposition
    from engine.watch.findings import Level
    from engine.watch.look import look
    from engine.watch.remember import recall

    try:
        with run.site() as site:
            now = names.now()
            known = recall(site.vault.state)
            found = known.hardened(look(site, disk=known.disk, now=now), now)
            runbooks = site.config.watch.runbooks
        if metrics is not None:
            exposition.write(metrics, found, now)
    except Exception as failure:  # whatever it is: nothing but 3 may say that nobody knows
        error = run.foresee(failure, "looking at the site")
        _line(run, f"BACKUPS UNKNOWN - {' '.join(error.message.split())}")
        return Outcome(code=int(Level.UNKNOWN), errors=[error])
    _line(run, first_line(found))
    for each in found.trouble:
        run.out.say(f"{each.level.word.upper()} {each.id}: {each.said} ({runbooks}{each.condition})")
    told = [{**each.as_dict(), "runbook": f"{runbooks}{each.condition}"} for each in found.findings]
    return Outcome({"level": found.level.word, "findings": told}, int(found.level))


def first_line(found: Look) -> str:
    """What is wrong, and the figures behind every condition."""
    figures = " ".join(_figure(each) for each in found.findings if each.value is not None)
    return f"BACKUPS {found.level.name} - {found.site}: {_one_line(found.sentence())} | {figures}"


def _figure(finding: Finding) -> str:
    limits = [f"{each:g}" if each is not None else "" for each in (finding.warning, finding.critical)]
    label = re.sub(r"['=]", "_", finding.id)
    return f"'{label}'={finding.value:g}{finding.unit};{limits[0]};{limits[1]}".rstrip(";")


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def _line(run: Run, text: str) -> None:
    """Said even with ``--quiet``: whoever asks this way reads it."""
    if not run.json:
        print(text)
