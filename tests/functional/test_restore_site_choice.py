"""What a restore of a machine takes and says: the site file of its recovery point, all of it or a part, and the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.main import run
from engine import sealed
from engine.errors import UnknownName
from tests.functional.vault_helpers import PASSPHRASE, flip
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.functional
STATE = "restore-site.json"
Backups = Callable[..., dict[str, Any]]
_TEXT = """\
site: bench
vault:
  root: {root}/vault
  keys: {{current: main, main: "${{BACKUP_ENCRYPTION_KEY}}"}}
{replica}config:
"""
_REPLICA = """\
  replicas:
    - {{name: spaces, bucket: "${{BACKUPS_BUCKET}}", endpoint_url: "{endpoint}", addressing: path,
       path: "kept/{{yyyy}}/{{mm}}/{{dd}}", access_key: "${{BACKUPS_ACCESS_KEY}}",
       secret_key: "${{BACKUPS_SECRET_KEY}}"}}
"""


@pytest.fixture
def backups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Backups:
    (tmp_path / "person").mkdir()
    monkeypatch.chdir(tmp_path / "person")
    monkeypatch.setenv("BACKUP_ENCRYPTION_KEY", PASSPHRASE)

    def call(*arguments: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        done = run([*arguments, "--json"])
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert done == code, document
        return document

    return call


def _machine(root: Path, *sources: str, replica: str = "") -> Path:
    """A site file with a source of config files for each name, and what they back up."""
    lines = [f"  - {{name: {each}, paths: [{root}/of-{each}]}}\n" for each in sources]
    for each in sources:
        (root / f"of-{each}").mkdir(exist_ok=True)
        (root / f"of-{each}/f").write_text(each)
    (root / "there.yaml").write_text(_TEXT.format(root=root, replica=replica) + "".join(lines))
    return root / "there.yaml"


def _lose(root: Path) -> None:
    for each in [*root.glob("of-*"), root / "vault"]:
        shutil.rmtree(each)


def test_a_recovery_point_comes_back_by_the_site_file_of_its_own_time(
    tmp_path: Path, rclone_s3: S3Server, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("BUCKET", rclone_s3.new_bucket()), ("ENDPOINT", rclone_s3.endpoint), ("REGION", rclone_s3.region),
        ("ACCESS_KEY", rclone_s3.access_key), ("SECRET_KEY", rclone_s3.secret_key),
    ):  # fmt: skip
        monkeypatch.setenv(f"BACKUPS_{name}", value)
    replica = _REPLICA.format(endpoint=rclone_s3.endpoint)
    points = []
    for sources in (("etc", "www"), ("etc", "later")):
        file = _machine(tmp_path, *sources, replica=replica)
        points.append(backups("backup", "-f", str(file))["recovery_point"])
    # with the newest site file in hand: what it does not name is told
    (left,) = backups("restore-site", "-f", str(file), "--recovery-point", points[0], "--without", "later",
                      "--dry-run")["plan"]["left"]  # fmt: skip
    assert "does not name, and it is not restored: www" in left
    _lose(tmp_path)
    (tmp_path / "of-www").write_text("in the way")  # the first run gets no further than to etc
    asked = ("restore-site", "--addressing", "path")
    first = backups(*asked, "--recovery-point", points[0], "--confirm", "bench", code=1)
    assert [each["done"] for each in first["steps"]] == [True, False] and first["plan"]["left"] == []
    # gone on with: by the same site file, though the newest is looked for first
    (tmp_path / "of-www").unlink()
    again = backups(*asked, "--confirm", "bench")
    assert again["finished"] and again["recovery_point"] == points[0]
    assert [(tmp_path / f"of-{each}/f").exists() for each in ("etc", "www", "later")] == [True, True, False]
    # and the newest point by the newest, which has a source that the older one did not know
    plan = backups(*asked, "--dry-run", "--recovery-point", points[1])["plan"]
    assert [each["key"] for each in plan["steps"]] == ["etc/etc", "later/later"]


def _states(root: Path) -> list[str]:
    return sorted(each.name for each in (root / "vault/.backup-flows/bench").glob("restore-site*"))


def test_a_part_is_never_told_as_the_machine_and_does_not_end_a_restore_of_all(
    tmp_path: Path, backups: Backups, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(_machine(tmp_path, "aa", "bb", "cc"))

    def restore(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert run(["restore-site", *arguments, "--confirm", "bench", "-f", file]) == code
        return capsys.readouterr().out

    backups("backup", "-f", file)
    for nothing in (("--only", "aa", "--without", "aa"), ("--without", "aa", "--without", "bb", "--without", "cc")):
        refused = backups("restore-site", *nothing, "--confirm", "bench", "-f", file, code=2)["error"]["message"]
        assert refused.startswith("There is nothing to restore (") and "without aa" in refused
    assert _states(tmp_path) == []
    told = restore("--only", "aa")
    assert told.splitlines()[-1] and "The chosen part of the machine bench is back (only aa)" in told
    (finished,) = _states(tmp_path)
    for each in ("aa", "bb", "cc"):
        shutil.rmtree(tmp_path / f"of-{each}")
    (tmp_path / "of-bb").write_text("in the way")
    assert "The machine bench is NOT wholly back yet" in restore(code=1), "aa is done: not as if nothing was changed"
    # the part that was done already does not end it, nor does any other
    part = backups("restore-site", "--only", "aa", "--confirm", "bench", "-f", file)
    assert (part["finished"], part["later"], part["plan"]["later"]) == (False, ["bb/bb"], ["bb/bb"])
    told = restore("--only", "aa")
    assert "What was asked for is done (only aa), the machine bench is NOT wholly back yet" in told
    assert "run it again without --only for bb/bb" in told and _states(tmp_path) == sorted([finished, STATE])
    (tmp_path / "of-bb").unlink()
    assert "\nThe machine bench is back: " in "\n" + restore() and (tmp_path / "of-bb/f").read_text() == "bb"
    assert STATE not in _states(tmp_path)


def test_what_a_restore_of_a_part_does_not_hold_is_refused_and_what_is_left_out_is_told(
    tmp_path: Path, backups: Backups
) -> None:
    file = str(_machine(tmp_path, "aa", "bb"))
    backups("backup", "-f", file)
    shutil.rmtree(tmp_path / "of-aa")
    (tmp_path / "of-aa").write_text("in the way")
    backups("restore-site", "--only", "aa", "--confirm", "bench", "-f", file, code=1)
    asked = ("restore-site", "--confirm", "bench", "-f", file)
    assert "There is nothing to restore (only bb)" in backups(*asked, "--only", "bb", code=2)["error"]["message"]
    assert _states(tmp_path) == [STATE]
    (tmp_path / "of-aa").unlink()
    left = backups(*asked, "--anew", "--without", "bb")["left"]
    assert "what was left out is not restored: bb" in left and (tmp_path / "of-aa/f").exists()


def test_the_site_file_of_a_recovery_point_is_its_own_or_the_one_before_or_the_oldest() -> None:
    every = [
        sealed.Sealed(at, "bench", f"{at:%Y%m%d_%H%M%S}-0000aaaa", str(at.day))
        for at in (datetime(2026, 3, day, 2, tzinfo=UTC) for day in (2, 3, 4))
    ]
    for point, day in (
        ("20260303_020000-0000aaaa", "3"), ("20260303_020000-0000ffff", "3"), ("20260303_230000-0000aaaa", "3"),
        ("20260301_020000-0000aaaa", "2"), ("20270101_020000-0000aaaa", "4"), ("no such", "4"),
    ):  # fmt: skip
        assert sealed.choose(every, point=point).key == day, point
    with pytest.raises(UnknownName):
        sealed.choose(every, before=datetime(2026, 3, 1, tzinfo=UTC))


def test_a_lost_object_fails_the_restore_by_name_and_keeps_nothing_else_away(
    tmp_path: Path, moto_s3: S3Server, backups: Backups
) -> None:
    bucket, client = moto_s3.new_bucket("media"), moto_s3.client()
    for key in ("a", "b", "c"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode() * 50)
    path = _machine(tmp_path, "etc")
    access = f'access_key: {moto_s3.access_key}, secret_key: "{moto_s3.secret_key}"'
    path.write_text(
        path.read_text()
        + f"buckets: {{endpoint_url: '{moto_s3.endpoint}', {access}, buckets: [{bucket}]}}\n"
        + f"health: [{{url: '{moto_s3.endpoint}/moto-api/'}}]\n"
    )
    file = str(path)
    backups("backup", "--tier", "daily", "-f", file)
    lines = (tmp_path / "list").as_posix()
    backups("decrypt", "latest", "--source", "buckets", "--output", lines, "-f", file)
    stored = {each["key"]: each["stored"] for each in map(json.loads, Path(lines).read_text().splitlines()[1:])}
    (content,) = (tmp_path / "vault").rglob(f"{stored['a']}.gz.enc")
    flip(content, 60)
    for key in ("a", "b", "c"):
        client.delete_object(Bucket=bucket, Key=key)
    client.delete_bucket(Bucket=bucket)
    told = backups("restore-site", "--confirm", "bench", "-f", file, code=5)
    failed = [each for each in told["steps"] if not each["done"]]
    assert [each["key"] for each in failed] == [f"buckets/{bucket}"] and "a (the content" in failed[0]["error"], told
    assert told["steps"][-1]["done"] and told["steps"][-1]["key"] != failed[0]["key"], "what comes after it is done"
    assert [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["b", "c"]
    told = backups("restore-bucket", "--into", bucket, "-f", file, code=5)
    assert "the 2 other objects are there" in told["error"]["kept"]
