"""Does what was restored answer? Each address that the site names is asked over HTTP until it does, or its time is
over."""

from __future__ import annotations

import time

import httpx

from engine import stopping
from engine.config import HealthCheck
from engine.errors import ToolFailed
from engine.restore_site.state import Done
from engine.restore_site.work import Work

_ANSWER_SECONDS = 10.0


def check_all(work: Work) -> Done:
    """Every check of the site.

    Raises:
        ToolFailed: Some never answered as they should; names each, with what it said last.
    """
    good: list[str] = []
    wrong: list[str] = []
    for check in work.site.config.health:
        work.tell(f"asking {check.shown}")
        told = ask(check)
        (wrong if told else good).append(f"{check.shown}: {told}" if told else check.shown)
    if wrong:
        raise ToolFailed(
            f"Not everything answers: {'; '.join(wrong)}.",
            kept="everything is restored and every container runs",
            remedy="look at the logs of what does not answer; run this again to ask again",
        )
    return Done(f"answering: {', '.join(good)}", {"answering": len(good)})


def ask(check: HealthCheck) -> str:
    """Ask until the answer is right; what was wrong with the last one, empty when nothing is."""
    deadline = time.monotonic() + check.seconds
    with httpx.Client(timeout=_ANSWER_SECONDS, follow_redirects=check.status == 0, verify=check.verify_tls) as client:
        while True:
            stopping.check("waiting for an answer")
            told = _once(client, check)
            if not told or time.monotonic() > deadline:
                return told
            time.sleep(1)


def _once(client: httpx.Client, check: HealthCheck) -> str:
    try:
        answer = client.get(check.url)
    except httpx.HTTPError as error:
        return f"no answer ({type(error).__name__})"
    right = answer.status_code == check.status if check.status else answer.status_code < 400
    if not right:
        return f"it answers {answer.status_code}"
    if check.contains and check.contains not in answer.text:
        return f"its answer does not contain {check.contains!r}"
    return ""
