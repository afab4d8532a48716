"""Starts Prefect in a background process that can be stopped: ``python -m deployments.launch server start ...``.

A process that a script started with ``&`` inherits an ignored SIGINT, and a Prefect worker in that state
ignores SIGTERM as well. Signals are put back first. Files it makes are for this user only.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys


def main() -> None:
    """Restore signals, close the umask, become ``prefect <arguments>``."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(0o077)
    sys.argv = ["prefect", *sys.argv[1:]]
    runpy.run_module("prefect", run_name="__main__")


if __name__ == "__main__":
    main()
