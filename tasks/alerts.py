"""Telling people: through Prefect's notification blocks, tried again when an address does not answer."""

from __future__ import annotations

from prefect.logging import get_run_logger

from blocks.alerts import load_alert
from engine.errors import BackupError, Unreachable
from engine.watch.remember import memory
from tasks.base import SiteHandle, reason, step

Message = tuple[str, str]
"""Subject and text."""
_MOST = 50
"""So many messages are kept for an address that does not answer; the oldest go."""


@step(name="alert", run_name="alert {address}: {subject}")
def send(address: str, subject: str, text: str) -> None:
    """Send one message. Raises what ``deliver`` does."""
    deliver(address, subject, text)


def deliver(address: str, subject: str, text: str) -> None:
    """Hand one message to a notification block.

    Raises:
        Unreachable: The address does not take it. UnknownName: There is no such block.
    """
    block = load_alert(address)
    try:
        with block.raise_on_failure():
            block.notify(text, subject)
    except Exception as error:  # whatever a service's client raises; its text may hold the address, which is a secret
        raise Unreachable(f"{address} did not take the message ({type(error).__name__}).") from None


def tell(site: SiteHandle, messages: dict[str, list[Message]]) -> list[str]:
    """Send each address what is for it, and first what it did not take before. Gives what could not be sent, in words;
    the next watch tries it again. A failing address holds up neither another one nor the watch."""
    with site.open() as opened, memory(opened.vault.state) as known:
        waiting = known.untold
        known.untold = {}
    failed: list[str] = []
    left: dict[str, list[Message]] = {}
    for address in dict.fromkeys((*waiting, *messages)):
        queue = [*waiting.get(address, []), *messages.get(address, [])]
        while queue:
            try:
                send(address, *queue[0])
            except BackupError as error:
                get_run_logger().error("alert not sent: %s", error)
                failed.append(reason(error))
                left[address] = queue[-_MOST:]
                break
            queue.pop(0)
    if left:
        with site.open() as opened, memory(opened.vault.state) as known:
            known.untold = left
    return failed
