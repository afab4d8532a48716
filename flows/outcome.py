"""How a flow run ends: its state's first line is the reason, in words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ParamSpec

from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun, FlowPauseTimeout
from prefect.logging import get_run_logger
from prefect.states import Failed

from engine.errors import BackupError, Thawing
from flows.thawing import come_back

P = ParamSpec("P")


def _tells_more(record: logging.LogRecord) -> bool:
    """A filter: after a flow has ended Failed in its own words, Prefect logs the traceback of how it learnt of that.
    What nobody foresaw is another exception, and keeps its traceback."""
    return not (record.exc_info and isinstance(record.exc_info[1], FailedRun))


logging.getLogger("prefect.flow_runs").addFilter(_tells_more)


def outcome(work: Callable[P, State[Any]], *args: P.args, **kwargs: P.kwargs) -> State[Any]:
    """Run the body of a flow; a failure that is understood becomes a Failed state that explains itself.

    Anything else is a defect and goes up with its traceback.
    """
    try:
        return work(*args, **kwargs)
    except Thawing as error:
        return come_back(error)
    except BackupError as error:
        get_run_logger().error(str(error))
        return Failed(message=str(error))
    except FlowPauseTimeout:
        text = "Nobody approved this in time.\nKept safe: nothing was changed\nNext: start it again, or pass confirm"
        get_run_logger().error(text)
        return Failed(message=text)
