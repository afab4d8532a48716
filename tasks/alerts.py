"""Telling people: through Prefect's notification blocks, tried again when an address does not answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx
from prefect.blocks.abstract import NotificationBlock
from prefect.logging import get_run_logger

from blocks.alerts import load_alert
from engine.errors import BackupError, Unreachable
from engine.watch.remember import memory
from tasks.base import SiteHandle, reason, step
from tasks.limited import within

PATIENCE = 30.0
"""Seconds that an address may take for one message; the next one's turn comes then."""
Message = tuple[str, str]
"""Subject and text."""
_TEST = "is its address right, and may this host reach it? Try: backups alert -f SITE --to {}"
_SAID = {
    r"error=(\d{3})": "",
    r"authenticat|\b53[0-9]\b|username and password": "the mail server refuses the login",
    r"\b55[0-9]\b|recipient|relay": "the mail server refuses the recipient or the sender",
    r"refused": "the connection is refused",
    r"name or service|getaddrinfo|not known|resolve": "its host name is not known",
    r"timed? ?out": "it does not answer in time",
    r"certificate|ssl": "its certificate is not accepted",
    r"unreachable|connection": "it cannot be reached",
}
"""What a service's client says, and what of it may be said: its own text may hold the address, which is a secret."""


@step(name="alert", run_name="alert {address}: {subject}")
def send(address: str, subject: str, text: str) -> None:
    """Send one message. Raises what ``deliver`` does."""
    deliver(address, subject, text)


def deliver(address: str, subject: str, text: str) -> None:
    """Hand one message to a notification block.

    Raises:
        Unreachable: The address does not take it. UnknownName: There is no such block.
    """
    hand_over(load_alert(address), address, subject, text)


def hand_over(block: NotificationBlock, address: str, subject: str, text: str) -> None:
    """As ``deliver``, to a block that is at hand."""
    name = address.rpartition("-alert-")[2]
    with _overheard() as said:
        try:
            within(PATIENCE, partial(_notify, block, subject, text))
            return
        except Exception as error:  # whatever a service's client raises
            why = _why(error, said)
        raise Unreachable(
            f"{address} did not take the message: {why}.",
            kept="it is kept, and tried again by the next watch; no backup waits for it",
            remedy=_TEST.format(name),
        )


def _notify(block: NotificationBlock, subject: str, text: str) -> None:
    with block.raise_on_failure():
        block.notify(text, subject)


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """What Apprise logs meanwhile, for nobody else: the reason is there alone, and so are addresses. Its log stays
    apart for good, since a message that was given up may still be under way."""
    said: list[str] = []
    listener = logging.Handler(logging.DEBUG)
    listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.isEnabledFor = lambda level: True  # type: ignore[method-assign]  # Prefect sets the level to warnings
    logger.addHandler(listener)
    try:
        yield said
    finally:
        logger.removeHandler(listener)
        del logger.isEnabledFor  # the instance's, not the class's


def _why(error: Exception, overheard: list[str]) -> str:
    """In words that hold nothing of the address."""
    if isinstance(error, httpx.HTTPStatusError):
        return _answered(error.response.status_code)
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return "it does not answer in time"
    said = "\n".join([*overheard, str(error)])
    for pattern, words in _SAID.items():
        if found := re.search(pattern, said, re.IGNORECASE):
            return _answered(int(found[1])) if found.groups() else words
    return f"its client gives no reason ({type(error).__name__})"


def _answered(status: int) -> str:
    return f"it answers {status}" + ("; was it withdrawn at the service?" if status in (401, 403, 404, 410) else "")


def tell(site: SiteHandle, untold: dict[str, list[Message]]) -> dict[str, str]:
    """Send each address what is for it, the oldest first; gives, by address, why not all could be sent, which the next
    watch tries again. A failing address holds up neither another one nor the watch."""
    failed: dict[str, str] = {}
    for address, waiting in untold.items():
        for message in waiting:
            try:
                send(address, *message)
            except BackupError as error:
                get_run_logger().error("alert not sent: %s", error)
                failed[address] = reason(error)
                break
            _told(site, address, message)
    return failed


def _told(site: SiteHandle, address: str, message: Message) -> None:
    """It is not to be told again."""
    with site.open() as opened, memory(opened.vault.state) as known:
        waiting = [each for each in known.untold.get(address, []) if tuple(each) != message]
        known.untold = {**known.untold, address: waiting} if waiting else {
            name: each for name, each in known.untold.items() if name != address
        }  # fmt: skip
