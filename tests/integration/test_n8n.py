"""A site with an n8n: its deployments back it up, and put it back with approval."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.functional.test_n8n import SECRET, says, webhook
from tests.integration.installation import Installation
from tests.servers.n8n import N8n


@pytest.mark.soak(sample=False)
def test_n8n_is_backed_up_with_the_rest_and_a_workflow_overwritten_after_an_approval(
    prefect: Installation, tmp_path: Path
) -> None:
    with N8n(tmp_path / "n8n").running() as n8n:
        work = n8n.api("POST", "/workflows", webhook("orders", "orders", [says("good")]))["id"]
        n8n.api("POST", f"/workflows/{work}/activate")
        data = {"name": "X", "value": SECRET}
        n8n.api("POST", "/credentials", {"name": "token", "type": "httpHeaderAuth", "data": data})
        site = prefect.site("n8n")
        site.document["n8n"] = n8n.document
        site.write()
        done = prefect.apply(site)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"n8n-instance/{site.name}-n8n" in done.stdout

        run = prefect.run(f"daily-full/{site.name}", timeout=900)
        assert run.state == "COMPLETED", run.message
        assert "2 databases and 1 n8n backed up and verified: 4,400 rows, 1 workflow" in run.first_line

        n8n.api("PUT", f"/workflows/{work}", webhook("orders", "orders", [says("bad")]))
        run_id = prefect.api.start(f"restore-n8n/{site.name}", activate=True)
        assert prefect.api.wait(run_id, until=frozenset({"PAUSED"}), timeout=900).state == "PAUSED"
        assert f"| workflow orders ({work}) |" in prefect.markdown(run_id, f"{site.name}-restore-n8n-approval")
        assert prefect.api.approve(run_id, confirm="n8n")["status"] == "ACCEPT"
        run = prefect.api.wait(run_id, timeout=900)
        assert run.state == "COMPLETED", run.message
        assert "1 workflow and 0 credentials brought in, 1 workflow made active" in run.first_line
        assert n8n.webhook("orders").json() == {"said": "good"}
        shown = "\n".join(prefect.log(run))
        assert SECRET not in shown and n8n.key not in shown and n8n.api_key not in shown
