"""Restores of machines, buckets and n8n from cold storage, on moto: asked for at once, waited for, and gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deployments.cli import run as cli_run
from deployments.cli.main import run
from engine import backup, names
from engine.archiving import Part
from engine.cold.move import move_all
from engine.config import SiteConfig
from engine.fallback import first_whole
from engine.n8n.parts import EXTENSION
from engine.promotion import promote
from engine.restore_site.plan import SiteRequest, make_plan
from engine.restore_site.run import require_readable
from engine.site import Site, Target
from engine.source import Facts
from tests.functional.bucket_machine import holds, put, source
from tests.functional.test_archives import SERVER
from tests.functional.test_cold import DAY, cooling, forget_locally, look_often, slow_thaws
from tests.functional.vault_helpers import PASSPHRASE, replica
from tests.servers.s3 import S3Server

FILES = {"etc": "colour = blue\n", "opt": "shape = round\n"}
LOOKS = 8
Command = Callable[..., dict[str, Any]]


@dataclass
class Host:
    """Two places with files, a bucket, and a site that backs them up to replicas."""

    root: Path
    server: S3Server
    bucket: str
    document: dict[str, Any]

    @property
    def file(self) -> Path:
        return self.root / "shop.yaml"

    def open(self) -> Site:
        return Site(SiteConfig.model_validate(self.document))

    def back_up(self, site: Site, tier: str = "monthly", only: tuple[str, ...] = ("etc", "opt", "media")) -> str:
        """One recovery point, by its id."""
        point = names.recovery_point()
        for name in only:
            target = Target(name, self.bucket if name == "media" else name)
            backup.backup_one(site, target, tier=tier, recovery_point=point)
        return point

    def spoil(self) -> None:
        for name in FILES:
            (self.root / name / "app.conf").write_text("spoilt\n")

    def reads(self) -> dict[str, str]:
        return {name: (self.root / name / "app.conf").read_text() for name in FILES}


def host(root: Path, server: S3Server, *replicas: dict[str, Any]) -> Host:
    bucket = server.new_bucket("media")
    put(server, bucket, {"a.txt": b"good", "folder/b": b"b"})
    for name, text in FILES.items():
        (root / name).mkdir()
        (root / name / "app.conf").write_text(text)
    made = Host(root, server, bucket, {
        "site": "shop",
        "vault": {
            "root": str(root / "vault"), "keys": {"current": "main", "keys": {"main": PASSPHRASE}},
            "replicas": list(replicas),
        },
        "config": [{"name": name, "paths": [str(root / name)]} for name in FILES],
        "buckets": [source(server, bucket)],
    })  # fmt: skip
    written = {**made.document, "vault": {**made.document["vault"], "keys": {"current": "main", "main": PASSPHRASE}}}
    made.file.write_text(json.dumps(written))
    return made


def copied(site: Site) -> None:
    """Everything to every replica, and nothing of it left here."""
    for each in site.vault.locations()[1:]:
        for entry in site.vault.lacking(each):
            site.vault.replicate(entry, each)
    forget_locally(site)


def states(site: Site, point: str) -> dict[str, list[str | None]]:
    """How the data of a recovery point's backups stands at the replica ``copy``, by target."""
    catalog, store = site.vault.catalog("copy"), site.vault.store("copy")
    found: dict[str, list[str | None]] = {}
    for entry in catalog.entries():
        manifest = catalog.load(entry)
        if manifest.recovery_point == point:
            how = [store.cold(entry.beside(part.file)) for part in manifest.files]
            found[manifest.source] = [each.state if each else None for each in how]
    return found


@pytest.fixture
def backups(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command with ``--json``; its exit code stands beside what it printed."""
    monkeypatch.setattr(cli_run, "THAW_POLL_SECONDS", 0.01)

    def command(*arguments: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        done = run([*arguments, "--json"])
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert done == code, told
        return told

    return command


@pytest.mark.sampled
def test_a_machine_in_cold_storage_is_asked_for_at_once_and_comes_back_when_all_of_it_is_there(
    tmp_path: Path, moto_s3: S3Server, backups: Command
) -> None:
    shop = host(tmp_path, moto_s3, cooling(moto_s3))
    with shop.open() as site, slow_thaws(moto_s3, LOOKS):
        point, _ = shop.back_up(site), shop.back_up(site)
        copied(site)
        (moved,) = move_all(site, now=names.now() + 100 * DAY)
        assert len(moved.moved) == 2 and moved.error is None
        for entry in site.vault.catalog("copy").entries():
            look_often(site, entry, LOOKS)
        cold = states(site, point)
        assert cold["media"] == [None], "a bucket's list stays warm, as its contents do"
        assert {state for name in FILES for state in cold[name]} == {"cold"}
        shop.spoil()
        restore = ["restore-site", "-f", str(shop.file), "--recovery-point", point]
        notes = backups(*restore, "--dry-run")["plan"]["notes"]
        told = [each for each in notes if "has to be thawed first (3 to 5 hours; standard retrieval" in each]
        assert sorted(each.split(": ")[0] for each in told) == ["etc/etc", "opt/opt"]
        assert states(site, point) == cold, "a plan asks for nothing"
        error = backups(*restore, "--confirm", "shop", code=6)["error"]
        assert error["class"] == "Thawing" and "run the same again" in error["remedy"]
        assert "1 more of this recovery point have to be waited for" in error["message"]
        asked = states(site, point)
        assert {state for name in FILES for state in asked[name]} == {"thawing"}, "all at once, every part"
        assert shop.reads() == dict.fromkeys(FILES, "spoilt\n"), "nothing was begun"
        done = backups(*restore, "--confirm", "shop", "--wait")
        assert done["finished"] and shop.reads() == FILES


@pytest.mark.sampled
def test_what_stands_warm_in_any_place_is_taken_from_there_and_nothing_is_asked_for(
    tmp_path: Path, moto_s3: S3Server, backups: Command
) -> None:
    shop = host(tmp_path, moto_s3, cooling(moto_s3), replica(moto_s3, "warm"))
    with shop.open() as site:
        point, _ = shop.back_up(site), shop.back_up(site)
        copied(site)
        (moved,) = move_all(site, now=names.now() + 100 * DAY)
        assert len(moved.moved) == 2
        cold = states(site, point)
        plan = make_plan(site, SiteRequest(recovery_point=point))
        assert not [each for each in plan.notes if "cold storage" in each]
        for piece in plan.point.pieces.values():
            expected = ["copy", "warm"] if piece.target.source == "media" else ["warm", "copy"]
            assert [entry.location for entry, _ in piece.copies] == expected
            # what a step reads by itself (a record of containers, accounts) is read as it stands in the plan
            read, _ = first_whole(piece.copies, lambda *copy: b"".join(site.vault.read_part(*copy)), [])
            assert read
        require_readable(site, plan)
        shop.spoil()
        done = backups("restore-site", "-f", str(shop.file), "--recovery-point", point, "--confirm", "shop")
        assert done["finished"] and shop.reads() == FILES
        assert states(site, point) == cold


@pytest.mark.sampled
@pytest.mark.sampled
def test_the_backup_that_an_archive_was_made_from_is_taken_while_it_stands_warm(
    tmp_path: Path, moto_s3: S3Server
) -> None:
    shop = host(tmp_path, moto_s3, cooling(moto_s3))
    with shop.open() as site:
        parts: list[Part] = []
        points = [shop.back_up(site, "daily", ("etc",)) for _ in range(2)]
        for entry in reversed(list(site.vault.catalog().entries(tier="daily"))):
            parts.append(promote(site.vault, entry, site.vault.catalog().load(entry), "monthly"))
            site.vault.mark(parts[-1][0], "verified", sha256=parts[-1][1].data.sha256)
        copied(site)
        (moved,) = move_all(site, now=names.now() + 100 * DAY)
        (archive,) = [manifest for _, manifest in parts if manifest.recovery_point == points[0]]
        assert moved.moved == [archive.file]
        request = SiteRequest(recovery_point=points[0], only=("etc",))
        (piece,) = make_plan(site, request).point.pieces.values()
        assert (piece.manifest.tier, piece.frozen) == ("daily", None)
        assert archive.origin is not None and piece.manifest.file == archive.origin.file
        (daily,) = [entry for entry, _ in piece.copies]
        site.vault.mark(daily, "broken", reason="a test")
        plan = make_plan(site, request)
        assert plan.point.pieces[piece.target].manifest.file == archive.file
        assert any(f"{archive.file} is in cold storage in copy" in each for each in plan.notes)


@pytest.mark.sampled
def test_a_snapshot_of_a_bucket_whose_list_has_gone_cold_is_thawed_and_put_back(
    tmp_path: Path, moto_s3: S3Server, backups: Command
) -> None:
    """No rule of ours moves a list; one of the bucket's own may."""
    shop = host(tmp_path, moto_s3, replica(moto_s3, "copy"))
    with shop.open() as site, slow_thaws(moto_s3, LOOKS):
        point = shop.back_up(site, "daily", ("media",))
        copied(site)
        (entry,) = site.vault.catalog("copy").entries()
        assert site.vault.store("copy").freeze(entry.key, "GLACIER")
        look_often(site, entry, LOOKS)
        restore = ["restore-bucket", "-f", str(shop.file), "--into", "media-back"]
        error = backups(*restore, "--dry-run", code=1)["error"]
        assert error["class"] == "Cold" and f"backups thaw {entry.file}" in error["remedy"]
        assert states(site, point) == {"media": ["cold"]}, "a plan asks for nothing"
        assert backups(*restore, code=6)["error"]["class"] == "Thawing"
        assert states(site, point) == {"media": ["thawing"]}
        assert "media-back" not in [each["Name"] for each in moto_s3.client().list_buckets()["Buckets"]]
        done = backups(*restore, "--wait")
        assert done["written"] == 2 and holds(moto_s3, "media-back") == holds(moto_s3, shop.bucket)


@pytest.mark.sampled
def test_an_n8n_in_cold_storage_is_asked_for_before_any_n8n_is_spoken_to(
    tmp_path: Path, moto_s3: S3Server, backups: Command
) -> None:
    shop = host(tmp_path, moto_s3, replica(moto_s3, "copy"))
    nobody = {"url": "http://127.0.0.1:9", "api_key": "FAKE-api-key", "encryption_key": "FAKE-encryption-key"}
    shop.document["n8n"] = [nobody]
    shop.file.write_text(json.dumps({**json.loads(shop.file.read_text()), "n8n": nobody}))
    with shop.open() as site, slow_thaws(moto_s3, LOOKS):
        with site.vault.begin(source="n8n", kind="n8n", tier="daily", database="n8n", ext=EXTENSION) as writer:
            writer.data().write(b"never read here")
            writer.publish(Facts(server=SERVER, dump_format="n8n"))
        copied(site)
        (entry,) = site.vault.catalog("copy").entries()
        assert site.vault.store("copy").freeze(entry.key, "GLACIER")
        look_often(site, entry, LOOKS)
        restore = ["restore-n8n", "-f", str(shop.file)]
        assert backups(*restore, "--dry-run", code=1)["error"]["class"] == "Cold"
        assert backups(*restore, code=6)["error"]["class"] == "Thawing"
        (how,) = [site.vault.store("copy").cold(entry.key)]
        assert how is not None and how.state == "thawing"
