"""Starts Prefect in a background process that can be stopped: ``python -m deployments.launch server start ...``.

A process that a script started with ``&`` inherits an ignored SIGINT, and a Prefect worker in that state
ignores SIGTERM as well. Signals are put back first. Files it makes are for this user only.

Where a webhook refuses what an automation of the server tells it, Prefect logs httpx's error, whose text is the whole
address; that is a secret, so only its kind and status are let into the log.
"""

from __future__ import annotations

import logging
import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Restore signals, close the umask, become ``prefect <arguments>``."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(0o077)
    logging.setLogRecordFactory(without_addresses(logging.getLogRecordFactory()))
    sys.argv = ["prefect", *sys.argv[1:]]
    runpy.run_module("prefect", run_name="__main__")


def without_addresses(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    """Log records as ``make`` makes them, but of an httpx error no more than what it is."""

    def made(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and type(error).__module__.partition(".")[0] == "httpx":
            status = getattr(getattr(error, "response", None), "status_code", "")
            record.msg, record.args = f"{record.getMessage()}: {type(error).__name__} {status}".rstrip(), None
            record.exc_info = None
        return record

    return made


if __name__ == "__main__":
    main()
