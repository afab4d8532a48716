"""Images: what retention keeps of them, which file may be one, and what proves one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from engine import names
from engine.config import SiteConfig
from engine.errors import IntegrityError
from engine.images import record, registries, saved
from engine.layout import layouts
from engine.manifest import Cipher, Manifest, StoredFile
from engine.retention.judge import Item, judge
from engine.retention.policy import Policy

pytestmark = pytest.mark.unit
NOW = datetime(2026, 3, 1, 4, tzinfo=UTC)
KEY = "fake-passphrase-for-tests-" + "x" * 20


@dataclass
class Books:
    """What signed documents would say."""

    needs: dict[str, frozenset[str] | None] = field(default_factory=dict)
    good: set[str] = field(default_factory=set)

    def images(self, item: Item) -> frozenset[str] | None:
        return self.needs.get(item.key)

    def proven(self, item: Item) -> bool:
        return item.key in self.good

    def point(self, item: Item) -> str:
        return ""


def _record(days: int, *needs: str, books: Books, readable: bool = True) -> Item:
    item = Item(f"r{days}", "images", "daily", "images", NOW - timedelta(days=days), "good")
    books.needs[item.key] = frozenset(needs) if readable else None
    books.good.add(item.key)
    return item


def _image(name: str, days: int, books: Books, good: bool = True, key: str = "") -> Item:
    item = Item(
        key or f"i-{name}", "images", names.IMAGE, name, NOW - timedelta(days=days), "good" if good else "unproven"
    )
    if good:
        books.good.add(item.key)
    return item


def _kept(items: list[Item], books: Books) -> dict[str, str]:
    made = judge(items, Policy({"daily": "30d"}), now=NOW, evidence=books)  # type: ignore[arg-type]
    return {each.item.key: each.reason for each in made if each.keep}


def test_an_image_stays_as_long_as_a_kept_record_needs_it_and_goes_with_the_last() -> None:
    books = Books()
    items = [_record(1, "new", books=books), _record(20, "new", "old", books=books), _record(40, "gone", books=books)]
    items += [_image(name, 50, books) for name in ("new", "old", "gone")]
    kept = _kept(items, books)
    assert "r40" not in kept and {"i-new", "i-old"} <= set(kept) and "i-gone" not in kept
    assert kept["i-old"] == "a record of containers that is kept needs this image"


def test_nobody_removes_an_image_while_a_record_cannot_be_read_or_none_is_there() -> None:
    books = Books()
    items = [_record(1, "a", books=books), _record(2, books=books, readable=False), _image("b", 50, books)]
    assert "i-b" in _kept(items, books)
    assert "i-b" in _kept([_image("b", 50, books)], books)


def test_a_new_image_waits_for_its_record_and_of_two_copies_the_newest_good_one_stays() -> None:
    books = Books()
    items = [_record(1, "a", books=books), _image("fresh", 1, books)]
    items += [_image("a", 9, books, key="older"), _image("a", 5, books, key="newer")]
    items.append(_image("a", 3, books, good=False, key="unproven"))
    assert set(_kept(items, books)) == {"r1", "i-fresh", "newer"}
    books.good.clear()
    assert {"older", "newer", "unproven"} <= set(_kept(items, books)), "where none is known to be good, all stay"


def test_records_and_images_are_told_from_other_archives_in_a_folder_they_share() -> None:
    body = {
        "site": "bench", "volumes": {"volumes": ["images"]}, "images": {}, "config": {"paths": ["/etc/a"]},
        "vault": {"root": "/v", "path": "{yyyy}", "keys": {"keys": {"main": KEY}}},
        "postgres": {"databases": ["images"]},
    }  # fmt: skip
    layout = layouts(SiteConfig.model_validate(body))["local"]
    stamp = "20260301_040000"
    pairs = {
        name: layout.place(f"2026/{name}")
        for name in (f"images_{stamp}.containers.json.gz.enc", f"images_{stamp}.tar.gz.enc")
    }
    found = {name: {source for source, _ in place.pairs} for name, place in pairs.items() if place}
    assert found[f"images_{stamp}.containers.json.gz.enc"] == {"images"}
    image = layout.place(f"2026/{'a' * 64}_{stamp}.tar.gz.enc")
    assert image is not None and {pair for pair in image.pairs if pair[0] == "images"} == {("images", names.IMAGE)}
    assert "image" not in layouts(SiteConfig.model_validate({**body, "images": []}))["local"].tiers


def _tar(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return out.getvalue()


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


LAYERS = [b"one" * 500, b"two" * 900]
CONFIG = json.dumps({"rootfs": {"diff_ids": [f"sha256:{_sha(each)}" for each in [*LAYERS, LAYERS[0]]]}}).encode()


def _image_files() -> tuple[dict[str, bytes], dict[str, str]]:
    """As ``docker save`` writes: the third layer is the first again, as a link."""
    stored = {"a/layer.tar": LAYERS[0], "b/layer.tar": LAYERS[1], f"{_sha(CONFIG)}.json": CONFIG}
    listed = [{"Config": f"{_sha(CONFIG)}.json", "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]}]
    return {**stored, "manifest.json": json.dumps(listed).encode()}, {"c/layer.tar": "../a/layer.tar"}


def _manifest(**contents: object) -> Manifest:
    part = StoredFile(file="f", size=1, sha256="", plain_size=1, cipher=Cipher(key_id="main"))
    return Manifest(
        site="s", source="images", kind="image", tier="image", database="d", file="f", started_at=NOW, finished_at=NOW,
        files=[part], contents=dict(contents),
    )  # fmt: skip


def _proven(files: dict[str, bytes], links: dict[str, str], identity: str = f"sha256:{_sha(CONFIG)}") -> int:
    return saved.verify(_manifest(id=identity), lambda role: [_tar(files, links)])


def test_a_saved_image_is_proven_by_the_digests_of_its_layers_in_either_layout() -> None:
    assert _proven(*_image_files()) == 3
    blobs = {f"blobs/sha256/{_sha(each)}": each for each in (*LAYERS, CONFIG)}
    layers = [f"blobs/sha256/{_sha(each)}" for each in (*LAYERS, LAYERS[0])]
    listed = [{"Config": f"blobs/sha256/{_sha(CONFIG)}", "Layers": layers}]
    assert _proven({**blobs, "manifest.json": json.dumps(listed).encode()}, {}) == 3


def _with_blobs(blobs: list[bytes], config: bytes = CONFIG) -> dict[str, bytes]:
    """As an engine writes that keeps layers as blobs, called by their own digests."""
    listed = [{"Config": f"blobs/sha256/{_sha(config)}", "Layers": [f"blobs/sha256/{_sha(each)}" for each in blobs]}]
    stored = {f"blobs/sha256/{_sha(each)}": each for each in (*blobs, config)}
    return {**stored, "manifest.json": json.dumps(listed).encode()}


def test_a_layer_that_is_whole_and_not_the_one_that_the_configuration_names_is_refused() -> None:
    layers = [*LAYERS, LAYERS[0]]
    packed = [gzip.compress(each[:100]) + gzip.compress(each[100:]) for each in layers]
    assert _proven(_with_blobs(layers), {}) == _proven(_with_blobs(packed), {}) == 3
    for other in (b"another layer" * 50, gzip.compress(b"another layer"), packed[0][:-9]):
        with pytest.raises(IntegrityError, match="is not what the image's configuration says"):
            _proven(_with_blobs([other, *layers[1:]]), {})
    another = json.dumps({"rootfs": {"diff_ids": [f"sha256:{_sha(each)}" for each in layers]}, "other": 1}).encode()
    with pytest.raises(IntegrityError, match="the configuration of another image"):
        _proven({**_with_blobs(layers, another), "there": CONFIG}, {})


def test_an_image_whose_id_is_that_of_an_index_is_proven_by_what_its_manifest_names() -> None:
    packed = [b"\x28\xb5\x2f\xfd" + each for each in (*LAYERS, LAYERS[0])]  # zstd: nothing here unpacks it
    layers = [{"digest": f"sha256:{_sha(each)}"} for each in packed]
    own = json.dumps({"config": {"digest": f"sha256:{_sha(CONFIG)}"}, "layers": layers}).encode()
    index = json.dumps({"manifests": [{"digest": f"sha256:{_sha(own)}"}]}).encode()
    files = {**_with_blobs(packed), "blobs/sha256/own": own, "blobs/sha256/index": index}
    assert _proven(files, {}, f"sha256:{_sha(index)}") == _proven(files, {}, f"sha256:{_sha(own)}") == 3
    with pytest.raises(IntegrityError, match="is not what the image's configuration says"):
        _proven({**files, **_with_blobs([b"other", *packed[1:]])}, {}, f"sha256:{_sha(index)}")


def test_a_saved_image_that_lacks_a_layer_holds_another_one_or_is_another_image_is_refused() -> None:
    files, links = _image_files()
    with pytest.raises(IntegrityError, match="lacks the layer b/layer.tar"):
        _proven({name: each for name, each in files.items() if name != "b/layer.tar"}, links)
    with pytest.raises(IntegrityError, match="the layer b/layer.tar is not what"):
        _proven({**files, "b/layer.tar": b"other"}, links)
    with pytest.raises(IntegrityError, match="does not hold the image"):
        _proven(files, links, "sha256:" + "0" * 64)
    with pytest.raises(IntegrityError, match="no readable manifest.json"):
        _proven({name: each for name, each in files.items() if name != "manifest.json"}, links)
    with pytest.raises(IntegrityError, match="cannot be read as a tar|no readable"):
        saved.verify(_manifest(id="sha256:x"), lambda role: [b"no tar at all"])


def test_a_record_reads_back_as_it_was_and_its_manifest_names_no_secret() -> None:
    container = record.Container(
        "web-1", "c" * 64, "web", "sha256:aa", "web:1", "2026", True, {"Env": ["PASSWORD=FAKE=x", "odd"]}, {}
    )
    made = record.Record(
        "bench", "2026-03-01T04:00:00Z", [container], [record.Image("sha256:aa", ["web:1"], saved=True)]
    )
    again = record.read([made.to_bytes()[:7], made.to_bytes()[7:]], "it")
    assert again == made and again.containers[0].environment == {"PASSWORD": "FAKE=x"}
    assert "FAKE" not in json.dumps(made.facts()) and made.facts()["saved"] == ["aa"]
    told = _manifest(**made.facts())
    assert record.verify(told, lambda role: [made.to_bytes()]) == 1
    with pytest.raises(IntegrityError, match="differ in: containers"):
        record.verify(_manifest(**{**made.facts(), "containers": 2}), lambda role: [made.to_bytes()])
    for broken in (b"{}", b"[1]", b"\xff", made.to_bytes().replace(b'"format": 1', b'"format": 2')):
        with pytest.raises(IntegrityError):
            record.read([broken], "it")


def test_digests_speak_of_a_registry_only_where_the_store_gives_them_to_nothing_else() -> None:
    """Drivers as the engines of Docker 20.10 and 29 tell them."""
    classic = {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]]}
    containerd = {"Driver": "overlayfs", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}
    built = record.Image("sha256:a1", ["app:1"], ["app@sha256:a1"], 7)
    asked: list[str] = []

    def has(reference: str) -> bool:
        asked.append(reference)
        return reference.startswith("registry.test/")

    assert registries.can_be_pulled(built, classic, has) and asked == [], "pushed or pulled, as ever"
    assert not registries.can_be_pulled(built, containerd, has) and asked == ["app@sha256:a1"]
    pushed = record.Image("sha256:a1", ["app:1"], ["app@sha256:a1", "registry.test/app@sha256:a1"], 7)
    assert registries.can_be_pulled(pushed, containerd, has)
    for info in (classic, containerd, {"DriverStatus": None}):
        assert not registries.can_be_pulled(record.Image("sha256:b2", ["app:2"]), info, has), "no digests at all"
