"""Waiting for a person's word before data is replaced."""

from __future__ import annotations

from collections.abc import Callable

from prefect import pause_flow_run
from prefect.artifacts import create_markdown_artifact
from prefect.input import RunInput
from prefect.logging import get_run_logger

from engine.errors import ConfirmationNeeded

APPROVAL_SECONDS = 24 * 3600
POLL_SECONDS = 2


def approve(
    doing: str, form: type[RunInput], check: Callable[[str], bool], confirm: str, text: str, *, artifact: str
) -> bool:
    """True once it is approved: at once with the right ``confirm``; else the run pauses until somebody typed it into
    ``form``.

    Args:
        doing: What waits for approval, such as ``replacing mysql/workset``.
        form: Asks for ``confirm``.
        check: True when what was typed approves, False when it is empty; raises ConfirmationNeeded when it names
            something else.
        text: Shows what will be replaced by what: in the form, and as the artifact ``artifact``.

    Raises:
        ConfirmationNeeded: The wrong name was given, or none.
    """
    log = get_run_logger()
    if check(confirm):
        log.info("%s was confirmed by parameter", doing)
        return True
    create_markdown_artifact(key=artifact, markdown=text, description=f"Waits for approval: {doing}")
    log.warning("waiting for approval of %s", doing)
    given = pause_flow_run(
        wait_for_input=form.with_initial_data(description=text), timeout=APPROVAL_SECONDS, poll_interval=POLL_SECONDS
    )
    if not check(str(getattr(given, "confirm", "")).strip()):
        raise ConfirmationNeeded(
            f"{doing[:1].upper()}{doing[1:]} was not confirmed: no name was given.", kept="nothing was changed"
        )
    log.info("%s was approved", doing)
    return True
