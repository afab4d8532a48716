"""Restoring onto a machine whose buckets and config files are still there: the plan says what would be overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine import names
from engine.backup import backup_one
from engine.config import SiteConfig
from engine.restore_site.plan import SiteRequest, make_plan
from engine.site import Site
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers.s3 import S3Server


def test_what_is_still_there_is_named_before_anything_is_approved(tmp_path: Path, rclone_s3: S3Server) -> None:
    bucket, tree = rclone_s3.new_bucket("still"), tmp_path / "etc"
    rclone_s3.client().put_object(Bucket=bucket, Key="a", Body=b"one")
    tree.mkdir()
    (tree / "app.conf").write_text("one")
    (tree / "gone.conf").write_text("two")
    endpoint = {"endpoint_url": rclone_s3.endpoint, "addressing": "path", "region": rclone_s3.region}
    site_file: dict[str, Any] = {
        "site": "still",
        "vault": {"root": str(tmp_path / "vault"), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}},
        "config": {"paths": [str(tree)]},
        "buckets": {
            **endpoint, "buckets": [bucket], "access_key": rclone_s3.access_key, "secret_key": rclone_s3.secret_key,
        },
    }  # fmt: skip
    with Site(SiteConfig.model_validate(site_file)) as site:
        point = names.recovery_point()
        for target in site.targets():
            backup_one(site, target, tier="daily", recovery_point=point)
        (tree / "app.conf").write_text("another secret")
        (tree / "gone.conf").unlink()
        told = "\n".join(make_plan(site, SiteRequest()).lines())
        assert f"bucket {bucket} is there" in told and f"there is already {tree}" in told
        assert f"changed: {tree}/app.conf (content" in told and f"added: {tree}/gone.conf" in told
        assert "1 added, " in told and "secret" not in told
        (tree / "app.conf").unlink()
        tree.rmdir()
        rclone_s3.client().delete_object(Bucket=bucket, Key="a")
        rclone_s3.client().delete_bucket(Bucket=bucket)
        told = "\n".join(make_plan(site, SiteRequest()).lines())
        assert "is there" not in told and "there is already" not in told
