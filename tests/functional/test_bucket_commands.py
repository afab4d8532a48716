"""Buckets on the command line, and by hand with stock tools."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.cli import exits
from deployments.cli.main import run
from tests.functional.bucket_machine import holds, put, source
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers.s3 import S3Server

BY_HAND = Path(__file__).parents[2] / "docs" / "restore-by-hand.md"
Command = Callable[..., dict[str, Any]]


@pytest.fixture
def bucket(moto_s3: S3Server) -> str:
    name = moto_s3.new_bucket("media")
    put(moto_s3, name, {"a.txt": b"good", "folder/b": b"b", "zero": b""})
    return name


@pytest.fixture
def site_file(moto_s3: S3Server, bucket: str, tmp_path: Path) -> Path:
    document = {
        "site": "workbench",
        "vault": {"root": str(tmp_path / "backups"), "keys": {"main": PASSPHRASE}},
        "buckets": source(moto_s3, bucket, name="buckets"),
    }
    file = tmp_path / "workbench.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.fixture
def backups(site_file: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command with ``--json``; its exit code stands beside what it printed."""

    def command(*arguments: str, code: int = exits.OK) -> dict[str, Any]:
        done = run([*arguments, "-f", str(site_file), "--json"])
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert done == code, told
        return told

    return command


def test_a_bucket_is_backed_up_listed_verified_damaged_and_put_back_by_commands(
    backups: Command, moto_s3: S3Server, bucket: str, site_file: Path
) -> None:
    assert backups("check")["ok"]
    made = backups("backup", "--tier", "daily")["backups"][0]
    assert made["database"] == bucket and made["holds"] == "3 objects, 3 copied anew"
    assert [each["database"] for each in backups("list")["backups"]] == [bucket]
    assert backups("status")["databases"][0]["newest"]
    (verified,) = backups("verify", "--backup", "all")["verified"]
    assert "every content, read and decrypted" in verified["report"]["checks"]
    before = holds(moto_s3, bucket)
    client = moto_s3.client()
    client.put_object(Bucket=bucket, Key="a.txt", Body=b"broken")
    client.delete_object(Bucket=bucket, Key="folder/b")
    plan = backups("restore-bucket", "--into", bucket, "--dry-run")["plan"]
    assert (plan["new"], plan["same"], plan["overwritten"]) == (1, 1, ["a.txt"])
    told = backups("restore-bucket", "--into", bucket, code=exits.REFUSED)
    assert f"--confirm {bucket}" in told["error"]["remedy"]
    assert client.get_object(Bucket=bucket, Key="a.txt")["Body"].read() == b"broken"
    done = backups("restore-bucket", "--into", bucket, "--confirm", bucket)
    assert (done["written"], done["same"]) == (2, 1) and done["safety"]
    assert holds(moto_s3, bucket) == before
    beside = backups("restore-bucket", "--object", "a.txt")
    assert set(holds(moto_s3, beside["into"])) == {"a.txt"}
    (place,) = backups("prune")["places"]
    assert place["contents"][0]["problem"] == "" and place["contents"][0]["kept"] == 4


def test_an_object_comes_back_by_hand_with_openssl_gunzip_and_jq(
    backups: Command, bucket: str, site_file: Path, tmp_path: Path
) -> None:
    made = backups("backup")["backups"][0]
    vault = tmp_path / "backups"
    (file,) = vault.rglob(made["file"])
    contents = vault / "workbench/contents/workbench/buckets" / bucket
    commands = "".join(re.findall(r"```sh\n# the list\n(.*?)```", BY_HAND.read_text(), re.DOTALL))
    commands = re.sub(r"CONTENTS=\S+", f"CONTENTS={contents}", commands)
    env = {**os.environ, "BACKUP_ENCRYPTION_KEY": PASSPHRASE, "FILE": str(file), "KEY": "a.txt"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "object").read_bytes() == b"good" and "folder/b" in done.stdout
    digests = re.findall(r"\b[0-9a-f]{64}\b", done.stdout)
    assert len(digests) == 2 and digests[0] == digests[1]
