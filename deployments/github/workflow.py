"""Writes ``.github/workflows/pre-deploy-snapshot.yml``: the reusable workflow with the script inside of it.

A reusable workflow runs in the caller's repository and cannot tell its own; with the script inside, it needs no
checkout, no other action, and no permission at all. After a change of the script: python -m deployments.github.workflow
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
SCRIPT = HERE / "deploy_snapshot.py"
WORKFLOW = HERE.parents[1] / ".github" / "workflows" / "pre-deploy-snapshot.yml"
HEAD = """\
# A reusable workflow: a snapshot of a site's databases before a deployment, or the word how that deployment went.
# Made from deployments/github/deploy_snapshot.py by: python -m deployments.github.workflow
# How to call it, and what the job's exit codes mean: docs/deploy-snapshots.md
name: Pre-deploy snapshot
on:
  workflow_call:
    inputs:
      operation:
        description: snapshot, release (the deployment succeeded) or failed
        type: string
        default: snapshot
      site:
        description: Name of the site
        type: string
        required: true
      release:
        description: What is deployed, as people call it; by default the branch or tag
        type: string
        default: ""
      snapshot:
        description: For release and failed - the output `snapshot` of the job that took it
        type: string
        default: ""
      key:
        description: Key of the snapshot within its workflow run; by default the job
        type: string
        default: ""
      ui-url:
        description: Where people look; by default the API's address without /api
        type: string
        default: ""
      timeout:
        description: Seconds until a run that has not ended is cancelled
        type: number
        default: 900
      runner:
        description: Label of a runner that reaches the Prefect server
        type: string
        default: ubuntu-latest
    secrets:
      prefect-api-url:
        description: Address of the Prefect API, such as https://prefect.example.net/api
        required: true
      prefect-api-auth:
        description: user:password of the Prefect server, where it wants one
        required: false
    outputs:
      snapshot:
        description: What names this snapshot for release and failed
        value: ${{ jobs.pre-deploy.outputs.snapshot }}
      run-url:
        description: The run in the Prefect UI
        value: ${{ jobs.pre-deploy.outputs.run-url }}
permissions: {}
jobs:
  pre-deploy:
    name: ${{ inputs.operation }} of ${{ inputs.site }}
    runs-on: ${{ inputs.runner }}
    permissions: {}
    timeout-minutes: 120
    outputs:
      snapshot: ${{ steps.run.outputs.snapshot }}
      run-url: ${{ steps.run.outputs.run-url }}
    steps:
      - id: run
        name: ${{ inputs.operation }}
        env:
          PREFECT_API_URL: ${{ secrets.prefect-api-url }}
          PREFECT_API_AUTH_STRING: ${{ secrets.prefect-api-auth }}
          BACKUPS_UI_URL: ${{ inputs.ui-url }}
          BACKUPS_OPERATION: ${{ inputs.operation }}
          BACKUPS_SITE: ${{ inputs.site }}
          BACKUPS_RELEASE: ${{ inputs.release || github.ref_name }}
          BACKUPS_SNAPSHOT: ${{ inputs.snapshot }}
          BACKUPS_KEY: ${{ inputs.key }}
          BACKUPS_TIMEOUT: ${{ inputs.timeout }}
        # the script itself is the step's process, so that a cancelled job's signal reaches it
        shell: python3 {0}
        run: |
"""


def text() -> str:
    """The whole workflow."""
    lines = SCRIPT.read_text().splitlines()
    return HEAD + "".join(f"          {line}".rstrip() + "\n" for line in lines)


if __name__ == "__main__":
    WORKFLOW.write_text(text())
