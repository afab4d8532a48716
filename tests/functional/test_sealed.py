"""The site file, sealed into recovery points: got back with a bucket, its credentials and the key, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments import recovery, site_file
from deployments.cli.main import run
from engine import names, sealed
from engine.errors import ConfigError
from engine.site import Site
from tests.functional.config_machine import shell
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.functional
TEXT = """\
# the machine of the tests, with a remark about ${NOBODY}
site: bench
vault:
  root: {root}/vault
  keys: {{current: main, main: "${{BACKUP_ENCRYPTION_KEY}}"}}
  path: "backups/{{site}}/{{source}}/{{tier}}"
  replicas:
    - name: spaces
      bucket: ${{DO_SPACES_BUCKET}}
      endpoint_url: {endpoint}
      region: ${{DO_SPACES_REGION}}
      access_key: ${{DO_SPACES_KEY}}
      secret_key: ${{DO_SPACES_SECRET}}
      addressing: path
config:
  paths: [{root}/etc]
mysql:
  host: 127.0.0.1
  port: ${{APP_DB_PORT}}
  password: ${{APP_DB_PASSWORD}}
  databases: [app]
"""
PASSWORD = "FAKE-database-password-0123456789"
Backups = Callable[..., dict[str, Any]]


@pytest.fixture
def backups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Backups:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        done = run([*arguments, "--json"])
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert done == code, document
        return document

    return call


@pytest.fixture
def bucket(rclone_s3: S3Server) -> dict[str, str]:
    return {
        "BACKUPS_BUCKET": rclone_s3.new_bucket(), "BACKUPS_ENDPOINT": rclone_s3.endpoint,
        "BACKUPS_REGION": rclone_s3.region, "BACKUPS_ACCESS_KEY": rclone_s3.access_key,
        "BACKUPS_SECRET_KEY": rclone_s3.secret_key, "BACKUP_ENCRYPTION_KEY": PASSPHRASE,
    }  # fmt: skip


def _machine(root: Path, bucket: dict[str, str]) -> tuple[Path, dict[str, str]]:
    """A site file, and the environment that it is used in."""
    (root / "etc").mkdir()
    (root / "etc/.env").write_text(f"APP_DB_PASSWORD={PASSWORD}\nAPP_DB_PORT=1\n")
    file = root / "there.yaml"
    file.write_text(TEXT.replace("${NOBODY}", "$NOBODY").format(root=root, endpoint=bucket["BACKUPS_ENDPOINT"]))
    environment = {
        "DO_SPACES_BUCKET": bucket["BACKUPS_BUCKET"], "DO_SPACES_REGION": bucket["BACKUPS_REGION"],
        "DO_SPACES_KEY": bucket["BACKUPS_ACCESS_KEY"], "DO_SPACES_SECRET": bucket["BACKUPS_SECRET_KEY"],
        "BACKUP_ENCRYPTION_KEY": PASSPHRASE, "APP_DB_PASSWORD": PASSWORD, "APP_DB_PORT": "1",
    }  # fmt: skip
    return file, environment


def test_a_site_file_comes_back_from_the_bucket_and_says_what_the_machine_was(
    tmp_path: Path, bucket: dict[str, str], backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, environment = _machine(tmp_path, bucket)
    with monkeypatch.context() as there:
        for name, value in environment.items():
            there.setenv(name, value)
        point = backups("backup", "-f", str(file), "--source", "config")["recovery_point"]
        sealed_here = tmp_path / f"vault/backups/bench/site-file/bench.{point}.json"
        assert PASSWORD not in sealed_here.read_text() and "APP_DB" not in sealed_here.read_text()
        # by stock tools alone
        command = f'{_READ} "$FILE" | base64 -d | openssl enc -d -aes-256-cbc -pbkdf2 -pass env:BACKUP_ENCRYPTION_KEY'
        assert shell(f"{command} | gunzip", FILE=str(sealed_here)).stdout == file.read_text()
    for name, value in bucket.items():
        monkeypatch.setenv(name, value)
    told = backups("recover-site-file")
    assert (told["site"], told["recovery_point"]) == ("bench", point)
    assert (tmp_path / "bench.yaml").read_text() == file.read_text()
    assert (tmp_path / "bench.yaml").stat().st_mode & 0o777 == 0o600
    assert told["names"] == sorted({*environment} | {"BACKUP_ENCRYPTION_KEY"}) and "DO_SPACES_KEY" in told["unset"]
    assert backups("recover-site-file")["file"] == told["file"], "the same again is no harm"
    (tmp_path / "bench.yaml").write_text("site: other\n")
    assert "says something else" in backups("recover-site-file", code=4)["error"]["message"]
    _resolved(tmp_path, bucket)
    _refused(backups, monkeypatch)


_READ = "python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))[\"sealed\"])'"


def _resolved(root: Path, bucket: dict[str, str]) -> None:
    """What it refers to is taken from what was given, and from the .env in the backup."""
    place = recovery.Bucket.of(bucket, addressing="path")
    found = recovery.recover(place, PASSPHRASE)
    config = recovery.resolve(found, place, PASSPHRASE, bucket, root / "x" / "bench.yaml")
    assert config.mysql[0].password is not None and config.mysql[0].password.get_secret_value() == PASSWORD
    assert found.sources == dict.fromkeys(
        ("APP_DB_PASSWORD", "APP_DB_PORT"), f"{root}/etc/.env in the backup of config"
    )
    (replica,) = config.vault.replicas
    assert (replica.name, replica.bucket, replica.path) == ("spaces", bucket["BACKUPS_BUCKET"], None)
    with Site(config) as site:
        assert len(list(site.vault.catalog("spaces").entries())) == 1, "the catalogue is rebuilt from the bucket"


def _refused(backups: Backups, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other:
        other.setenv("BACKUP_ENCRYPTION_KEY", "another-key-that-is-long-enough-for-a-test")
        assert (
            "was written with another key"
            in backups("recover-site-file", "--out", "k.yaml", code=5)["error"]["message"]
        )
        other.delenv("BACKUP_ENCRYPTION_KEY")
        other.delenv("BACKUPS_BUCKET")
        message = backups("recover-site-file", code=2)["error"]["message"]
        assert message.endswith("are not set: BACKUPS_BUCKET, BACKUP_ENCRYPTION_KEY.")
    assert (
        "has no site file of 'bensch'" in backups("recover-site-file", "--site", "bensch", code=2)["error"]["message"]
    )
    early = backups("recover-site-file", "--at", "2020-01-01T00:00:00Z", code=2)["error"]
    assert "from then or before" in early["message"] and "the oldest is of" in early["remedy"]


def test_sealed_site_files_go_with_the_backups_they_belong_to_and_the_newest_stay(
    tmp_path: Path, bucket: dict[str, str]
) -> None:
    file, environment = _machine(tmp_path, bucket)
    with Site(site_file.load(file, environment)) as site:
        vault = site.vault
        now = datetime(2026, 3, 1, 2, tzinfo=UTC)
        points = [f"{now - timedelta(days=day):{names.STAMP}}-0000aaaa" for day in range(40)]
        for point in points:
            sealed.seal_site(vault, "site: bench\n", point, "daily")
        assert len(sealed.copy_sealed(vault, "spaces")) == 40 and sealed.copy_sealed(vault, "spaces") == []
        for place in ("local", "spaces"):
            assert len(sealed.expire(vault, place, now - timedelta(days=30))) == 8
            assert len(sealed.expire(vault, place, now + timedelta(days=9))) == 29
            left = list(sealed.listed(vault.store(place), site="bench"))
            assert [each.point for each in left] == sorted(points)[-3:]
        assert sealed.seal_site(vault, "x", names.recovery_point(), "hourly") != ""
        lately = sealed.seal_site(vault, "x", names.recovery_point(), "hourly")
        assert sealed.seal_site(vault, "x", names.recovery_point(), "hourly") == lately, "one a day of hourly runs"
        written = tmp_path / "out.yaml"
        written.write_text(sealed.written_out(site.config))
    assert PASSWORD not in written.read_text() and PASSPHRASE not in written.read_text()
    with pytest.raises(ConfigError, match="MYSQL_MYSQL_PASSWORD"):
        site_file.load(written, {})
    again = site_file.load(written, dict.fromkeys(recovery.names_in(written.read_text()), "x" * 40))
    assert (again.mysql[0].port, again.config, again.vault.path) == (1, site.config.config, site.config.vault.path)
