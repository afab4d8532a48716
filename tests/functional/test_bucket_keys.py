"""Contents of buckets and the key ring, on a real S3 server: what still needs an old key is counted, proven and told,
and re-encryption leaves nothing behind that does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deployments.cli.main import run as backups
from engine import backup
from engine.backup import BackupResult
from engine.buckets import record
from engine.errors import WrongKey
from engine.keyring.proof import prove
from engine.keyring.uses import uses
from engine.site import Site
from tests.functional.bucket_machine import Machine, machine, put, source
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers.s3 import S3Server

NEW = "fake-new-passphrase-of-a-test-" + "n" * 16
BOTH = {"main": PASSPHRASE, "k2": NEW}
OBJECTS = {"a": b"a" * 300, "same": b"a" * 300, "b": b"b" * 300, "large": b"c" * 2_000_000}


@pytest.fixture
def shop(moto_s3: S3Server, tmp_path: Path) -> Iterator[Machine]:
    with machine(moto_s3, tmp_path / "vault", moto_s3) as made:
        put(made.server, made.bucket, OBJECTS)
        yield made


def ringed(shop: Machine, keys: dict[str, str], current: str) -> Machine:
    """The same bucket and vault with another ring."""
    vault = shop.config.vault
    ring = type(vault.keys).model_validate({"current": current, "keys": keys})
    config = shop.config.model_copy(update={"vault": vault.model_copy(update={"keys": ring})})
    return Machine(shop.server, shop.bucket, config, Site(config))


def listed(shop: Machine, made: BackupResult) -> dict[str, record.Record]:
    plain = shop.site.vault.read_part(made.entry, made.manifest)
    return {each.key: each for each in record.records(plain, made.entry.file)}


def site_file(shop: Machine, path: Path, keys: dict[str, str], current: str) -> str:
    """The site as a file, without its replica."""
    document = {
        "site": "shop",
        "vault": {"root": str(shop.site.vault.root), "keys": {"current": current, **keys}},
        "buckets": source(shop.server, shop.bucket),
    }
    path.write_text(yaml.safe_dump(document))
    path.chmod(0o600)
    return str(path)


def test_a_snapshot_that_leans_on_contents_of_an_old_key_says_so_and_the_ring_is_held_against_it(
    shop: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.back_up()
    two = ringed(shop, BOTH, "k2")
    put(shop.server, shop.bucket, {"new": b"new"})
    leaning = two.back_up()
    assert leaning.manifest.key_ids == {"main", "k2"} and leaning.manifest.contents["copied"] == 1
    found = uses(two.site.vault).by_key
    assert (found["main"].count, found["main"].leaning, found["k2"].count) == (2, 2, 1)
    assert prove(two.site.vault, "k2").opened[0].file == leaning.entry.file

    without = site_file(shop, tmp_path / "shop.yaml", {"k2": NEW}, "k2")
    assert backups(["key", "list", "-f", without, "--json"]) == 5
    told = json.loads(capsys.readouterr().out)
    states = {each["id"]: (each["state"], each["backups"], each["leaning"]) for each in told["keys"]}
    assert states["main"] == ("NOT IN THE RING", 1, 1), "the older list does not open at all"
    assert any("put 'main' back into the ring" in str(each) for each in told["errors"])
    assert backups(["key", "rotate", "-f", without]) == 5
    assert backups(["verify", "-f", without, "--backup", leaning.entry.file]) == 5
    assert "'main'" in capsys.readouterr().err


@pytest.mark.parametrize("keys", [{"k2": NEW}, {"main": PASSPHRASE + "another", "k2": NEW}])
def test_no_snapshot_leans_on_a_content_that_the_ring_does_not_open(shop: Machine, keys: dict[str, str]) -> None:
    shop.back_up()
    both = ringed(shop, BOTH, "k2").back_up()
    assert both.manifest.contents["keys"] == ["main"] and both.manifest.data.cipher.key_id == "k2"
    one = ringed(shop, keys, "k2")
    with pytest.raises(WrongKey, match="main"):
        prove(one.site.vault, "k2")
    made = one.back_up()
    assert (made.manifest.contents["copied"], made.manifest.key_ids) == (len(OBJECTS), {"k2"})
    backup.verify(one.site, made.entry)
    assert prove(one.site.vault, "k2").opened[0].file == made.entry.file
