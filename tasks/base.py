"""How every task here is retried, named and kept from storing anything.

Settings by environment, for tests and for impatient people:
``BACKUP_FLOWS_RETRIES`` (3) and ``BACKUP_FLOWS_RETRY_SECONDS`` (10: waits about 10, 20 and 40 seconds).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from engine.cold.thaw import Thaw
from engine.config import SiteConfig
from engine.errors import BackupError, is_retryable
from engine.pacing import Pace
from engine.site import Site

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = int(os.environ.get("BACKUP_FLOWS_RETRIES", "3"))
RETRY_SECONDS = float(os.environ.get("BACKUP_FLOWS_RETRY_SECONDS", "10"))
JITTER = 0.5


_DONE = "Finished in state Completed()"


def _at_debug(record: logging.LogRecord) -> bool:
    """A filter: that a task completed is a detail; what it did stands in a line of its own, and its state in the UI.
    So a run's log tells its story in a few lines; ``PREFECT_LOGGING_LEVEL=DEBUG`` shows all of it."""
    if record.levelno == logging.INFO and record.msg == _DONE:
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
    return True


logging.getLogger("prefect.task_runs").addFilter(_at_debug)


class SiteHandle:
    """A site as tasks are given it.

    A plain object on purpose: Prefect walks through the fields of models and dataclasses that tasks get,
    which secrets should be spared, and which a model with a field called ``keys`` does not survive.
    """

    def __init__(self, config: SiteConfig, *, thaw: bool = False) -> None:
        """``thaw``: what is read from cold storage is asked for."""
        self.config = config
        self.name = config.site
        self.thaw = thaw
        self._paces: dict[str, Pace] = {}

    def open(self) -> Site:
        """The site with its vault and sources; to be used in a ``with``. All that are opened keep to one bandwidth."""
        site = Site(self.config)
        site.vault.thaw = Thaw() if self.thaw else None
        site.vault.paces = self._paces
        return site

    def __repr__(self) -> str:
        return f"SiteHandle({self.name!r})"


def worth_retrying(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Wrong credentials, a wrong key or a missing tool stay wrong: those stop at once."""
    try:
        state.result()
    except BaseException as error:
        return is_retryable(error)
    return False


def step(*, name: str, run_name: str, retries: int = RETRIES) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task of this project.

    Nothing is cached or persisted: arguments hold secrets, and a backup is never "already computed".

    Args:
        name: What it does, in a word or two.
        run_name: Template that says what and where, from the parameters: ``dump {target}``.
        retries: How often it is tried again; the wait doubles each time, with jitter.
    """

    def wrap(function: Callable[P, R]) -> Task[P, R]:
        made: Task[P, R] = task(
            name=name,
            task_run_name=run_name,
            retries=retries,
            retry_delay_seconds=exponential_backoff(RETRY_SECONDS) if retries else None,
            retry_jitter_factor=JITTER if retries else None,
            retry_condition_fn=worth_retrying if retries else None,
            cache_policy=NO_CACHE,
            persist_result=False,
        )(function)
        return made

    return wrap


def reason(error: BaseException) -> str:
    """Why, in one sentence."""
    if isinstance(error, BackupError):
        return error.message.rstrip(".")
    first = (str(error) or type(error).__name__).splitlines()[0]
    return f"{type(error).__name__}: {first}"
