"""A file that cannot be read is damage of that file: it is named and healed, and everything else gets its turn."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from engine import backup
from engine.catalog import Entry
from engine.config import ObjectStoreConfig
from engine.config_files.plan import ConfigRequest, make_plan
from engine.config_files.restore import run
from engine.drill.run import DrillRequest, drill
from engine.errors import StoreError, StoreRefused
from engine.site import Site, Target
from engine.vault_check import outcome_of, verify_vault
from tasks.base import SiteHandle
from tasks.vault_check import verify
from tests.functional.bad_files import as_another_user, bad_sector
from tests.functional.bucket_machine import SOURCE
from tests.functional.damaged_vault import COPY, DAY, HOUR, LATER, NOW, Bucket, Folder, digests, dump, log, vault_site
from tests.functional.test_cold_restores import host
from tests.functional.test_vault_check import ALL, assert_clean, found, told
from tests.functional.vault_helpers import replica
from tests.servers.digest_gate import failing_gate
from tests.servers.s3 import S3Server


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory on a disk of its own: the one in memory that every Linux has."""
    folder = Path(tempfile.mkdtemp(prefix="bf-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def filled(site: Site, count: int = 3, *places: str) -> list[Entry]:
    """Dumps of as many days, the newest first, copied."""
    entries = [dump(site.vault, days * DAY) for days in range(1, count + 1)]
    for place in places or (COPY,):
        for entry in entries:
            site.vault.replicate(entry, place)
    return entries


def companion(entry: Entry) -> str:
    return entry.beside(entry.name.companion("accounts", "sql.gz.enc"))


@pytest.mark.parametrize("part", ["data", "companion", "manifest", "mark"])
def test_a_bad_sector_is_healed_and_everything_else_gets_its_turn(
    part: str, tmp_path: Path, rclone_s3: S3Server
) -> None:
    with Site(vault_site(tmp_path / "vault", rclone_s3)) as site:
        first, second, third = filled(site)
        folder = Folder(tmp_path / "vault")
        whole = digests(folder)
        mark = next(each for each in folder.listed() if f"{first.file}.verified." in each)
        key = {"data": first.key, "companion": companion(first), "manifest": first.manifest_key, "mark": mark}[part]
        bad_sector(folder.root / key)
        folder.write(second.key, b"nothing like it")
        for left in (third.key, companion(third)):
            folder.delete(left)
        reports = verify_vault(site, ALL, now=LATER)
        assert [each.error for each in reports] == [None, None]
        about = mark if part == "mark" else first.key
        assert {each.what for each in found(reports)} == {about, second.key, third.key}, told(reports)
        (bad,) = [each for each in found(reports) if each.what == about]
        assert (bad.kind, "Input/output error" in bad.words) == ("mark" if part == "mark" else "damaged", True)
        assert bad.healed
        assert outcome_of(reports) == "healed" and digests(folder) == whole
        assert_clean(verify_vault(site, ALL, now=LATER))


def test_a_bad_sector_without_another_copy_is_named_and_counted_on_no_more(tmp_path: Path, rclone_s3: S3Server) -> None:
    with Site(vault_site(tmp_path / "vault", rclone_s3)) as site:
        alone, _ = dump(site.vault, DAY), dump(site.vault, 2 * DAY)
        bad_sector(tmp_path / "vault" / alone.key)
        report = verify_vault(site, ALL, location="local", now=LATER)[0]
        (finding,) = report.findings
        assert finding.open and finding.what == alone.key and (report.read, report.stored) == (1, 2)
        assert [each["kind"] for each in site.vault.marks(alone)] == ["verified", "broken"]


def test_contents_and_logs_with_bad_sectors_are_healed(tmp_path: Path, rclone_s3: S3Server) -> None:
    bucket = rclone_s3.new_bucket("media")
    rclone_s3.client().put_object(Bucket=bucket, Key="one", Body=b"object" * 100)
    with Site(vault_site(tmp_path / "vault", rclone_s3, bucket)) as site:
        backup.backup_one(site, Target(SOURCE, bucket), tier="daily")
        dump(site.vault, DAY)
        logs = [log(site.vault, number, NOW - (5 - number) * HOUR) for number in range(1, 4)]
        for entry in site.vault.lacking(COPY):
            site.vault.replicate(entry, COPY)
        folder = Folder(tmp_path / "vault")
        whole = digests(folder)
        (content,) = [each for each in folder.listed() if "/contents/" in each and each.endswith(".enc")]
        for key in (content, logs[1].manifest_key):
            bad_sector(folder.root / key)
        reports = verify_vault(site, ALL, now=LATER)
        assert {(each.what, each.healed) for each in found(reports)} == {
            (content, f"from {COPY}"), (logs[1].key, f"from {COPY}"),
        }, told(reports)  # fmt: skip
        assert digests(folder) == whole
        assert_clean(verify_vault(site, ALL, now=LATER))


def test_a_file_that_may_not_be_read_is_healed_and_a_folder_that_may_not_be_is_told_as_the_place(
    rclone_s3: S3Server,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        root = Path(name) / "vault"
        with Site(vault_site(root, rclone_s3)) as site:
            entries = filled(site, 2)
            whole = digests(Folder(root))
            with as_another_user(root):
                (root / entries[0].key).chmod(0)
                (report,) = verify_vault(site, ALL, location="local", now=LATER)
                (finding,) = report.findings
                assert (finding.what, finding.healed, report.error) == (entries[0].key, f"from {COPY}", None)
                assert "permission denied" in finding.words
                (root / "shop").chmod(0)
                (report,) = verify_vault(site, ALL, location="local", now=LATER)
                assert isinstance(report.error, StoreRefused) and report.findings == []
                (root / "shop").chmod(0o700)
            assert digests(Folder(root)) == whole


def test_a_bad_sector_of_a_second_disk_is_healed_from_the_first(
    tmp_path: Path, rclone_s3: S3Server, disk: Path
) -> None:
    config = vault_site(tmp_path / "vault", rclone_s3)
    usb = ObjectStoreConfig(name="usb", directory=str(disk), path="{site}/{source}/{tier}")
    config = config.model_copy(update={"vault": config.vault.model_copy(update={"replicas": [usb]})})
    with Site(config) as site:
        first, _ = filled(site, 2, "usb")
        bad_sector(disk / first.key)
        reports = verify_vault(site, ALL, now=LATER)
        assert [(each.location, each.what, each.healed) for each in found(reports)] == [
            ("usb", first.key, "from local")
        ]
        assert_clean(verify_vault(site, ALL, now=LATER))


def test_an_object_that_its_endpoint_cannot_give_is_healed_and_an_endpoint_in_trouble_is_told_as_the_place(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    lost: set[str] = set()
    trouble = {"all": False}

    def fails(method: str, path: str) -> bool:
        """Until it is written anew, that one object; or whatever is asked for."""
        key = path.split("?")[0]
        if method == "PUT":
            lost.discard(key)
        return trouble["all"] or (method == "GET" and key in lost)

    with failing_gate(rclone_s3.endpoint, fails) as address:
        given = {**replica(rclone_s3, COPY), "endpoint_url": address}
        with Site(vault_site(tmp_path / "vault", rclone_s3, replicas=[given])) as site:
            first, second = filled(site, 2)
            whole = digests(Bucket(rclone_s3, given["bucket"]))
            lost.add(f"/{given['bucket']}/{first.key}")
            (report,) = verify_vault(site, ALL, location=COPY, now=LATER)
            assert [(each.what, each.healed) for each in report.findings] == [(first.key, "from local")], told([report])
            assert "InternalError" in report.findings[0].words and report.error is None
            assert lost == set() and digests(Bucket(rclone_s3, given["bucket"])) == whole
            trouble["all"] = True
            (report,) = verify_vault(site, ALL, location=COPY, now=LATER)
            assert type(report.error) is StoreError and report.findings == []
            assert [each["kind"] for each in site.vault.marks(second)] == ["verified"]


def test_what_was_found_is_told_also_when_the_place_breaks_off_after_it(
    tmp_path: Path, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.progress.FIRST_SECONDS", 3600.0)  # no Prefect server is there to show it
    trouble = {"on": ""}

    def fails(method: str, path: str) -> bool:
        return bool(trouble["on"]) and trouble["on"] in path

    with failing_gate(rclone_s3.endpoint, fails) as address:
        given = {**replica(rclone_s3, COPY), "endpoint_url": address}
        config = vault_site(tmp_path / "vault", rclone_s3, replicas=[given])
        with Site(config) as site:
            (entry,) = filled(site, 1)
        Bucket(rclone_s3, given["bucket"]).write(entry.key, b"nothing like it")
        trouble["on"] = "site-file"
        with disable_run_logger():
            report = verify.fn(SiteHandle(config), COPY, ALL)
            assert [each.healed for each in report.findings] == ["from local"] and report.error is not None
            with pytest.raises(StoreError):  # nothing was found: it is worth another try
                verify.fn(SiteHandle(config), COPY, ALL)


@pytest.mark.parametrize("part", [0, 1])
def test_a_restore_and_a_drill_take_the_next_copy(part: int, tmp_path: Path, moto_s3: S3Server) -> None:
    shop = host(tmp_path, moto_s3, replica(moto_s3, COPY))
    with shop.open() as site:
        made = backup.backup_one(site, Target("etc", "etc"), tier="daily")
        site.vault.replicate(made.entry, COPY)
        bad_sector(site.vault.root / made.entry.beside(made.manifest.files[part].file))
        config_files_come_back(site, tmp_path)
        result = drill(site, DrillRequest(source="etc"))
        (piece,) = result.pieces()
        assert (result.verdict, piece.location) == ("proven", COPY), result.trouble()
        assert any("local is not usable" in each for each in piece.notes), piece.notes
        assert "broken" in {each["kind"] for each in site.vault.marks(made.entry)}


def config_files_come_back(site: Site, root: Path) -> None:
    done = run(site, make_plan(site, ConfigRequest(source="etc", into=str(root / "back"))))
    assert done.entry.location == COPY
    assert [path.read_text() for path in (root / "back").rglob("app.conf")] == ["colour = blue\n"]
