"""An n8n in a container of a compose project: its command runs in there, and its key is found there."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from engine import backup
from engine.config import SiteConfig
from engine.drill.run import DrillRequest, drill
from engine.errors import WrongKey
from engine.n8n.plan import N8nRequest, make_plan
from engine.site import Site, Target
from tests.functional.drilling import scratch_left
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers.docker import DockerEngine
from tests.servers.n8n import N8n, installed

KEY = "FAKE-encryption-key-inside-0123456789"


@pytest.mark.soak(sample=False)
def test_n8n_in_a_container_is_backed_up_and_restored_by_its_own_command_with_its_own_key(
    dockerd: DockerEngine, tmp_path: Path
) -> None:
    inside = N8n(tmp_path / "n8n", key=KEY, port=5678)
    inside.folder.mkdir()
    modules = installed()
    # the engine has no image of n8n, and can pull none: this host's libraries and the very same n8n
    here = {str(path): {"bind": str(path), "mode": "ro"} for path in (Path("/lib"), Path("/lib64"), Path("/usr"))}
    here[str(modules)] = {"bind": str(modules), "mode": "ro"}
    here[str(inside.folder)] = {"bind": str(inside.folder), "mode": "rw"}
    environment = {**inside.environment, "N8N_ENCRYPTION_KEY": KEY, "N8N_SECURE_COOKIE": "false"}
    program = str(modules / ".bin/n8n")
    container = dockerd.service(
        "workbench", "n8n", "busybox", name="workbench-n8n", environment=environment, command=[program, "start"],
        volumes=here,
    )  # fmt: skip
    try:
        inside.host = dockerd.address(container)
        _wait(inside)
        inside.api_key = inside.new_api_key(["workflow:list", "workflow:create", "tag:list", "credential:create"])
        secret = {"name": "token", "type": "httpHeaderAuth", "data": {"name": "X", "value": "FAKE-secret"}}
        inside.api("POST", "/credentials", secret)
        section = {
            "name": "n8n", "url": inside.url, "api_key": inside.api_key, "service": "n8n", "command": program,
            "docker_host": dockerd.host,
        }  # fmt: skip
        body = {
            "site": "workbench",
            "vault": {"root": str(tmp_path / "v"), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}},
            "n8n": section,
        }
        with Site(SiteConfig.model_validate(body)) as site:
            made = backup.backup_one(site, Target("n8n", "n8n"), tier="daily")
            assert made.manifest.holds == "0 workflows (0 active), 1 credential, 0 tags"
            assert b"".join(site.vault.read_part(made.entry, made.manifest, "key")).decode() == KEY
            plan = make_plan(site, N8nRequest())
            assert len(plan.credentials.same) == 1
            before = [each.name for each in dockerd.client().containers.list(all=True)]
            result = drill(site, DrillRequest())
            said = {each.what: each.said for piece in result.pieces() for each in piece.checks}
            assert result.verdict == "proven" and ", container backup-flows-scratch-" in result.sources[0].place, said
            assert said["credentials"] == "1 credential opened by n8n itself and compared: httpHeaderAuth"
            assert [each.name for each in dockerd.client().containers.list(all=True)] == before
            assert scratch_left(site) == []
        other = N8n(tmp_path / "other", key="FAKE-another-key-0123456789")
        other.folder.mkdir()
        body["n8n"] = [section, {"name": "other", **other.document}]
        with Site(SiteConfig.model_validate(body)) as site, pytest.raises(WrongKey):
            make_plan(site, N8nRequest("n8n", into="other"))
    finally:
        container.remove(force=True, v=True)


def _wait(n8n: N8n) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{n8n.url}/healthz/readiness", timeout=10).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError("n8n in its container does not come up")
