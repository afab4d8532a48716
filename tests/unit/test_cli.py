"""The command line, as far as it goes without a server: help, usage errors, documents, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.cli import exits
from engine import errors
from tests.servers import preloaded

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "backup",
    "list",
    "status",
    "verify",
    "decrypt",
    "restore",
    "restore-cluster",
    "restore-site",
    "recover-site-file",
    "find-event",
    "adopt",
    "check",
    "snapshot",
    "release",
    "archive",
    "pin",
    "drill",
    "report",
    "verify-vault",
    "prune",
    "sweep",
    "apply",
    "up",
    "down",
]
SITE = """\
site: tiny
vault:
  root: {root}
  keys: {{main: not-a-real-key-but-long-enough-for-a-test}}
mysql: {{host: 127.0.0.1, port: 1, databases: [shop]}}
"""


def backups(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a person would, in an empty environment."""
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "200", "TZ": "UTC"}
    return preloaded.backups(*arguments, cwd=cwd or ROOT, timeout=60, env={**bare, **env})


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SITE.format(root=tmp_path / "vault"))
    return path


def test_the_help_names_every_command_and_every_exit_code() -> None:
    shown = backups("--help")
    assert shown.returncode == 0
    for name in COMMANDS:
        assert f" {name} " in shown.stdout
    for code, meaning in exits.MEANINGS.items():
        assert f"{code}  {meaning}" in shown.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_the_shared_options(name: str) -> None:
    shown = backups(name, "--help")
    assert shown.returncode == 0
    assert f"backups {name}" in shown.stdout.split("Example")[-1], "no example"
    for option in ("--file", "-f", "--json", "--quiet", "--debug"):
        assert option in shown.stdout


def test_help_starts_neither_prefect_nor_the_engines_heavy_parts() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, deployments.cli.main; print(*{m.split('.')[0] for m in sys.modules})"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    ).stdout.split()
    assert not {"prefect", "boto3", "botocore", "docker", "pydantic", "cryptography", "psycopg", "pymysql"} & set(
        loaded
    )


def test_the_documentation_names_every_command_and_exit_code() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert [name for name in COMMANDS if f"`{name}" not in text] == []
    assert [code for code in exits.MEANINGS if f"| {code}" not in text] == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), 2),
        (errors.UnknownName("x"), 2),
        (errors.ConfirmationNeeded("x"), 4),
        (errors.RestoreRefused("x"), 4),
        (errors.IntegrityError("x"), 5),
        (errors.SnapshotMismatch("x"), 5),
        (errors.WrongKey("x"), 5),
        (errors.Unreachable("x"), 1),
        (errors.CredentialsRefused("x"), 1),
        (errors.DiskFull("x"), 1),
        (errors.LockHeld("x"), 1),
        (errors.ToolMissing("x"), 1),
        (errors.Cancelled("x"), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: errors.BackupError, code: int) -> None:
    assert exits.of(error) == code


def test_an_unknown_option_is_a_usage_error_in_words_and_as_json() -> None:
    assert backups("list", "--nope").returncode == 2
    shown = backups("list", "--nope", "--json")
    told = json.loads(shown.stdout)
    assert (shown.returncode, told["exit_code"], told["error"]["class"]) == (2, 2, "UsageError")
    assert "--nope" in told["error"]["message"] and told["warnings"] == []


def test_an_unset_environment_name_ends_with_2_and_lists_all_of_them(tmp_path: Path) -> None:
    shown = backups("list", "-f", "workset", cwd=tmp_path)
    assert shown.returncode == 2 and shown.stdout == ""
    assert "uses 6 names that are not set" in shown.stderr and "Next: export them" in shown.stderr


def test_the_same_as_json_is_one_document_and_nothing_on_standard_error(tmp_path: Path) -> None:
    shown = backups("status", "-f", "workset", "--json", cwd=tmp_path)
    told = json.loads(shown.stdout)
    assert (shown.returncode, shown.stderr) == (2, "")
    assert (told["command"], told["ok"], told["exit_code"]) == ("status", False, 2)
    assert set(told["error"]) == {"class", "message", "kept", "remedy", "retryable"}
    assert "DO_SPACES_KEY" in told["error"]["message"]


def test_a_setting_in_square_brackets_is_printed_whole(tmp_path: Path, site: Path) -> None:
    site.write_text(site.read_text() + "postgres: [{pasword: x}]\n")
    assert "postgres[0].pasword is no setting" in backups("list", "-f", str(site)).stderr


def test_without_a_site_file_the_program_says_how_to_name_one(tmp_path: Path) -> None:
    shown = backups("list", cwd=tmp_path)
    assert shown.returncode == 2 and "BACKUPS_SITE" in shown.stderr


def test_an_unknown_tier_is_answered_with_the_nearest(site: Path) -> None:
    shown = backups("backup", "-f", str(site), "--tier", "dialy")
    assert shown.returncode == 2 and "Did you mean 'daily'?" in shown.stderr


def test_a_traceback_shows_only_with_debug(site: Path) -> None:
    arguments = ("list", "-f", str(site), "--source", "mysq")
    plain, debug = backups(*arguments), backups(*arguments, "--debug")
    assert plain.returncode == debug.returncode == 2
    assert "Did you mean 'mysql'?" in plain.stderr
    assert "Traceback" not in plain.stderr and "Traceback" in debug.stderr


def test_decrypt_will_not_mix_json_and_the_backup_on_standard_output(site: Path) -> None:
    shown = backups("decrypt", "-f", str(site), "latest", "--json")
    assert shown.returncode == 2 and "--output" in json.loads(shown.stdout)["error"]["remedy"]


def test_no_colour_codes_reach_a_pipe(site: Path) -> None:
    shown = backups("list", "-f", str(site), "--source", "mysq", FORCE_COLOR="", TERM="xterm-256color")
    assert "\x1b[" not in shown.stdout + shown.stderr
