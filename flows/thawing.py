"""A run that has to wait for cold storage lets go of its worker, and comes back by itself."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.logging import get_run_logger
from prefect.states import Failed, Scheduled
from prefect.utilities.engine import propose_state_sync

from engine import names
from engine.errors import Thawing

NAME = "AwaitingThaw"
COME_BACK_SECONDS = float(os.environ.get("BACKUP_FLOWS_THAW_SECONDS", "900"))
"""How long a run sleeps before it looks again."""


def come_back(error: Thawing) -> State[Any]:
    """Suspend the run: it is scheduled anew, begins from its start then, and finds out how far the thaw is. A run
    without a deployment has no worker to take it up again, and fails with what to do.

    Raises:
        Pause: The process ends, the run does not.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    get_run_logger().warning(str(error))
    if run is None or run.deployment_id is None:
        return Failed(message=str(error))
    at = names.now() + timedelta(seconds=COME_BACK_SECONDS)
    wanted: State[Any] = Scheduled(scheduled_time=at, name=NAME, message=error.message)
    with get_client(sync_client=True) as client:
        state = propose_state_sync(client, wanted, flow_run_id=run.id)
    if not state.is_scheduled():
        return Failed(message=str(error))
    raise Pause(state=state)
