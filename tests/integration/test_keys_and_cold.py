"""Keys and cold storage through their deployments: another key becomes current and proven, a run waits for a thaw."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from deployments import site_file
from engine import names
from engine.backup import backup_one
from engine.cold.move import move_all
from engine.site import Site as Opened
from engine.site import Target
from tests.functional.bucket_machine import SOURCE, holds, put, source
from tests.functional.test_cold import slow_thaws
from tests.functional.vault_helpers import replica
from tests.integration.installation import Installation, until
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.soak(sample=False)
NEW = "FAKE-another-encryption-key-of-the-tests-01"


def test_a_key_is_rotated_and_a_restore_from_cold_storage_comes_back_by_itself(
    prefect: Installation, moto_s3: S3Server, tmp_path: Path
) -> None:
    site = prefect.site("cold")
    for server in ("mysql", "postgres"):
        del site.document[server]
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "app.conf").write_text("colour = blue\n")
    site.document["config"] = {"paths": [str(tmp_path / "etc")]}
    site.document["vault"]["keys"]["k20260301"] = "${ITEST_NEW_KEY}"
    site.document["vault"]["replicas"] = [{**replica(moto_s3, "cold"), "cold_class": "GLACIER"}]
    site.env["ITEST_NEW_KEY"] = NEW
    site.write()
    done = prefect.apply(site)
    assert done.returncode == 0, done.stdout + done.stderr

    with Opened(site_file.load(site.file, {**site.env})) as opened:
        old, _ = (backup_one(opened, Target("config", "config"), tier="monthly").entry for _ in range(2))
        for entry in opened.vault.lacking("cold"):
            opened.vault.replicate(entry, "cold")
        (moved,) = move_all(opened, now=names.now() + timedelta(days=100))
        assert moved.moved == [old.file]
        cold = next(each for each in opened.vault.catalog("cold").entries() if each.file == old.file)
        for part in opened.vault.catalog("cold").load(cold).files:
            for _ in range(6):  # moto counts the looks from an object's birth
                opened.vault.store("cold").stat(cold.beside(part.file))

    run = prefect.run(f"rotate-key/{site.name}", key="k20260301", re_encrypt=True, count=1)
    assert run.state == "COMPLETED", run.message
    assert "k20260301 is the current key now, before main; the ring opens the newest 1 backup" in run.first_line
    assert "1 backup re-encrypted, 1 left" in run.first_line
    assert NEW not in prefect.markdown(run.id, f"{site.name}-keys")

    with slow_thaws(moto_s3, 3):
        into = tmp_path / "back"
        run_id = prefect.api.start(f"restore-config/{site.name}", backup=old.file, location="cold", into=str(into))
        until(lambda: _names(prefect, run_id).count("AwaitingThaw") >= 1, "the run to wait for its thaw")
        run = prefect.api.wait(run_id, timeout=480)
    assert run.state == "COMPLETED", run.message
    assert [each.read_text() for each in into.rglob("app.conf")] == ["colour = blue\n"]
    said = [each["message"] for each in _states(prefect, run_id) if each["name"] == "AwaitingThaw"]
    assert "3 to 5 hours (standard retrieval" in said[0]


def test_the_restore_of_a_bucket_waits_for_its_list_and_goes_on_by_itself(
    prefect: Installation, moto_s3: S3Server
) -> None:
    """No rule of ours moves a list to cold storage; one of the bucket's own may."""
    site = prefect.site("coldlist")
    for server in ("mysql", "postgres"):
        del site.document[server]
    bucket = moto_s3.new_bucket("media")
    put(moto_s3, bucket, {"a.txt": b"good"})
    site.document["buckets"] = source(moto_s3, bucket)
    site.document["vault"]["replicas"] = [replica(moto_s3, "cold")]
    site.write()
    done = prefect.apply(site)
    assert done.returncode == 0, done.stdout + done.stderr
    with Opened(site_file.load(site.file, {**site.env})) as opened:
        opened.vault.replicate(backup_one(opened, Target(SOURCE, bucket), tier="daily").entry, "cold")
        (cold,) = opened.vault.catalog("cold").entries()
        assert opened.vault.store("cold").freeze(cold.key, "GLACIER")
        for _ in range(6):
            opened.vault.store("cold").stat(cold.key)
    with slow_thaws(moto_s3, 6):
        into = f"{bucket}-back"
        run_id = prefect.api.start(f"restore-bucket/{site.name}", location="cold", into=into)
        until(lambda: _names(prefect, run_id).count("AwaitingThaw") >= 1, "the run to wait for its thaw")
        run = prefect.api.wait(run_id, timeout=480)
    assert run.state == "COMPLETED", run.message
    assert holds(moto_s3, into) == holds(moto_s3, bucket)


def _states(prefect: Installation, run_id: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = prefect.api.call("GET", f"/flow_run_states/?flow_run_id={run_id}")
    return found


def _names(prefect: Installation, run_id: str) -> list[str]:
    return [each["name"] for each in _states(prefect, run_id)]
