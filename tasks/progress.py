"""Tells a Prefect run how far a long step is: a progress artifact, and a log line now and then."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Iterator
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from engine.progress import Progress
from tasks.words import rate, size

FIRST_SECONDS = 2.0
EVERY_SECONDS = 5.0
LOG_SECONDS = 60.0


class RunProgress:
    """Shows progress in the UI, a few times a minute at most. Never fails the work it reports on.

    An artifact appears only for a step that lasts longer than two seconds.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._context = contextvars.copy_context()
        self._logger = get_run_logger()
        self._artifact: UUID | None = None
        self._begun = self._logged = time.monotonic()
        self._next = self._begun + FIRST_SECONDS
        self._percent = 0.0
        self._step = ""

    def __call__(self, step: str, done: int, total: int | None = None) -> None:
        """See ``engine.progress.Progress``."""
        now = time.monotonic()
        self._step = step
        if now < self._next:
            return
        self._next = now + EVERY_SECONDS
        if total:
            self._percent = min(99.0, 100.0 * done / total)
        text = f"{self._title}: {step}, {size(done)}{f' of {size(total)}' if total else ''}"
        self._show(f"{text}, {rate(done, now - self._begun)}")
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            self._logger.info(text)

    def finish(self) -> None:
        """The step is over, and went well."""
        if self._artifact is not None:
            self._percent = 100.0
            self._show(f"{self._title}: done in {time.monotonic() - self._begun:.0f} s")

    def _show(self, text: str) -> None:
        with contextlib.suppress(Exception):
            # A copy: the callback may come from a thread of its own while another call is inside.
            self._context.copy().run(self._send, text)

    def _send(self, text: str) -> None:
        if self._artifact is None:
            self._artifact = create_progress_artifact(progress=self._percent, description=text)
        else:
            update_progress_artifact(self._artifact, progress=self._percent, description=text)


@contextlib.contextmanager
def told(title: str) -> Iterator[Progress]:
    """Progress of one step, finished when the block ends well."""
    progress = RunProgress(title)
    yield progress
    progress.finish()
