"""How a flow run ends: its state's first line is the reason, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec

from prefect.client.schemas.objects import State
from prefect.exceptions import FlowPauseTimeout
from prefect.logging import get_run_logger
from prefect.states import Failed

from engine.errors import BackupError, Thawing
from flows.thawing import come_back

P = ParamSpec("P")


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
