"""Restores of n8n that are killed at every step: what was there or what was saved is there, once, active after the next
sweep, and the next run ends it."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import backup
from engine.n8n.instance import Instance
from engine.n8n.parts import opened
from engine.n8n.plan import N8nRequest, make_plan
from engine.n8n.restore import N8nRestore, run
from engine.processes.local import LocalProcess
from tests.functional.test_n8n import TARGET, says, site_of, webhook
from tests.servers.n8n import N8n
from tests.soak import SEED

STEPS = ["credentials", "workflow", "compare", "activate"]
AMID = 4
"""How many die amid an import."""


@pytest.mark.timeout(3600)
@pytest.mark.soak(sample=False)
def test_a_restore_of_n8n_that_is_killed_anywhere_leaves_old_or_new_and_the_next_one_ends(
    tmp_path: Path, counted_trials: Callable[[int], None]
) -> None:
    lots = random.Random(f"{SEED}/n8n kills")
    amid = [(lots.choice(STEPS[:2]), lots.uniform(0, 4)) for _ in range(AMID)]
    with N8n(tmp_path / "n8n").running() as n8n:
        work = n8n.api("POST", "/workflows", webhook("orders", "orders", [says("good")]))["id"]
        n8n.api("POST", f"/workflows/{work}/activate")
        token = n8n.api("POST", "/credentials", _token("FAKE-good"))["id"]
        with site_of(tmp_path / "v", {"name": "n8n", **n8n.document}) as site:
            backup.backup_one(site, TARGET, tier="daily")
            instance = Instance(site.config.n8n[0], site.name)
            for step, seconds in [*((each, -1.0) for each in STEPS), *amid]:
                n8n.api("PUT", f"/workflows/{work}", webhook("orders", "orders", [says("bad")]))
                n8n.api("POST", f"/workflows/{work}/activate")
                instance.bring_in("credentials", [{**_sealed(instance, token), "name": "bad token"}])
                assert n8n.webhook("orders").json() == {"said": "bad"}
                version = n8n.api("GET", f"/workflows/{work}")["versionId"]
                plan = make_plan(site, N8nRequest(activate=True)) if step == STEPS[0] and seconds < 0 else None
                assert plan is None or plan.halted == {work: version}
                assert _dies(tmp_path, n8n, step, seconds), (step, seconds)
                (left,) = n8n.api("GET", "/workflows")["data"]
                assert left["id"] == work and _says(left) in ("good", "bad"), (step, seconds)
                found = _sealed(instance, token)
                assert found["name"] in ("token", "bad token") and opened(found, n8n.key)["value"] == "FAKE-good"
                assert site.sweep().problems == []
                assert n8n.webhook("orders").json() == {"said": _says(left)}, (step, seconds)
                run(site, make_plan(site, N8nRequest(activate=True, safety_backup=False)), approved=True)
                assert n8n.webhook("orders").json() == {"said": "good"}, (step, seconds)
                assert [each["id"] for each in n8n.api("GET", "/workflows")["data"]] == [work], "once"
                assert _sealed(instance, token)["name"] == "token"
    counted_trials(len(STEPS) + AMID)


def _token(value: str) -> dict[str, Any]:
    return {"name": "token", "type": "httpHeaderAuth", "data": {"name": "X", "value": value}}


def _sealed(instance: Instance, credential: str) -> dict[str, Any]:
    (found,) = (each for each in instance.export("credentials") if each["id"] == credential)
    return found


def _says(workflow: dict[str, Any]) -> str:
    (node,) = (each for each in workflow["nodes"] if each["type"].endswith(".set"))
    return str(node["parameters"]["assignments"]["assignments"][0]["value"])


def _dies(folder: Path, n8n: N8n, step: str, seconds: float) -> bool:
    """A restore in a process of its own that is killed before a step; or so many seconds after an import of that kind
    was given all that it reads, or at the import's end. True when it was."""
    child = os.fork()
    if child == 0:
        try:
            for owner, name in ((Instance, "bring_in"), (N8nRestore, "compare"), (N8nRestore, "activate")):
                _deadly(owner, name, step, seconds)
            with site_of(folder / "v", {"name": "n8n", **n8n.document}) as site:
                run(site, make_plan(site, N8nRequest(activate=True, safety_backup=False)), approved=True)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _deadly(owner: type, name: str, step: str, seconds: float) -> None:
    real = getattr(owner, name)

    def dying(self: Any, *arguments: Any) -> Any:
        if step in (name, *arguments[:1]):
            if seconds < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            close = LocalProcess.close_input

            def closing(process: LocalProcess) -> None:
                close(process)
                threading.Thread(target=_die_in, args=(seconds,), daemon=True).start()

            LocalProcess.close_input = closing  # type: ignore[method-assign]
            real(self, *arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *arguments)

    setattr(owner, name, dying)


def _die_in(seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)
