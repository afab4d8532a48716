"""The GitHub workflow and action: no injection, pinned actions, least permissions, and as their schema says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOW = ".github/workflows/pre-deploy-snapshot.yml"
ACTION = "deployments/github/action.yml"
INJECTED = """
on: {issues: {types: [opened]}}
jobs: {one: {runs-on: ubuntu-latest, steps: [{run: 'echo "${{ github.event.issue.title }}"'}]}}
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
