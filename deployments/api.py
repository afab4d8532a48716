"""The few calls of the Prefect REST API that the demo and the tests make: start a run, watch it, read what it left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from engine.errors import BackupError, CredentialsRefused, Unreachable

FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


@dataclass(frozen=True)
class Run:
    """A flow run as the server shows it."""

    id: str
    name: str
    state: str
    state_name: str
    message: str
    seconds: float

    @property
    def first_line(self) -> str:
        """Why, in one line."""
        return self.message.splitlines()[0] if self.message else ""


class PrefectApi:
    """A Prefect server's REST API with basic authentication.

    Args:
        url: Such as ``http://127.0.0.1:4200/api``.
        auth: ``user:password``, or empty.
        timeout: Seconds for one answer. Generous: a server on SQLite beside other work can be slow.
    """

    def __init__(self, url: str, auth: str = "", *, timeout: float = 120.0) -> None:
        user, _, password = auth.partition(":")
        self._client = httpx.Client(base_url=url, auth=(user, password) if auth else None, timeout=timeout)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request; a busy server (503, a SQLite server under a burst) is asked again.

        Raises:
            BackupError: The server refused, with its own words. Unreachable, CredentialsRefused.
        """
        for attempt in range(6):
            try:
                reply = self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                raise Unreachable(f"The Prefect server does not answer: {error}") from None
            if reply.status_code != 503:
                break
            time.sleep(0.2 * 2**attempt)
        if reply.status_code in {401, 403}:
            raise CredentialsRefused("The Prefect server refused the login.")
        if reply.is_error:
            raise BackupError(f"The Prefect server answered {reply.status_code} to {method} {path}: {reply.text[:500]}")
        return reply.json() if reply.content else None

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a run of ``flow/deployment``; gives its id."""
        found = self.call("GET", f"/deployments/name/{deployment}")
        made = self.call(
            "POST",
            f"/deployments/{found['id']}/create_flow_run",
            {"parameters": parameters, "enforce_parameter_schema": True},
        )
        return str(made["id"])

    def run(self, run_id: str) -> Run:
        """The run as it is now."""
        shown = self.call("GET", f"/flow_runs/{run_id}")
        state = shown.get("state") or {}
        return Run(
            run_id,
            shown["name"],
            state.get("type", ""),
            state.get("name", ""),
            state.get("message") or "",
            float(shown.get("total_run_time") or 0),
        )

    def wait(
        self,
        run_id: str,
        *,
        until: frozenset[str] = FINAL,
        timeout: float = 600.0,
        tell: Callable[[str], None] = lambda line: None,
    ) -> Run:
        """Wait for one of these state types, telling every task as it ends.

        Raises:
            BackupError: Not reached within ``timeout`` seconds.
        """
        told: set[str] = set()
        deadline = time.monotonic() + timeout
        while True:
            now = self.run(run_id)
            for task in self.tasks(run_id):
                if task["state_type"] in FINAL and task["id"] not in told:
                    told.add(task["id"])
                    tell(f"{task['name']}: {task['state_name'].lower()} in {task['total_run_time']:.1f} s")
            if now.state in until or now.state in FINAL:
                return now
            if time.monotonic() > deadline:
                raise BackupError(
                    f"The run {now.name!r} is still {now.state_name} after {timeout:.0f} s.",
                    remedy="is the worker running? see logs/worker.log",
                )
            time.sleep(0.5)

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        """Its task runs, in the order in which they began."""
        found: list[dict[str, Any]] = self.call(
            "POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}, "sort": "EXPECTED_START_TIME_ASC"}
        )
        return found

    def logs(self, run_id: str) -> list[str]:
        """Its log, oldest first."""
        lines: list[str] = []
        while True:
            page = self.call(
                "POST",
                "/logs/filter",
                {
                    "logs": {"flow_run_id": {"any_": [run_id]}},
                    "sort": "TIMESTAMP_ASC",
                    "offset": len(lines),
                    "limit": 200,
                },
            )
            lines += [each["message"] for each in page]
            if len(page) < 200:
                return lines

    def artifacts(self, run_id: str) -> list[dict[str, Any]]:
        """What it left to read; ``data`` of tables is JSON text."""
        found: list[dict[str, Any]] = self.call(
            "POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        )
        return found

    def approve(self, run_id: str, **answer: Any) -> dict[str, Any]:
        """Resume a paused run with this answer; gives the server's verdict (``status`` ACCEPT or REJECT)."""
        verdict: dict[str, Any] = self.call("POST", f"/flow_runs/{run_id}/resume", {"run_input": answer})
        return verdict

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
