"""Which directories of the host containers have, and no backup has."""

from __future__ import annotations

import pytest

from engine.images.binds import uncovered
from engine.images.record import Container, Record

pytestmark = pytest.mark.unit


def _record(*binds: str, mounts: tuple[dict[str, str], ...] = ()) -> Record:
    host = {"Binds": list(binds), "Mounts": list(mounts)}
    return Record("bench", "now", [Container("web", "1", "web", "i", "i", "c", True, {}, host)], [])


def test_only_what_is_wholly_in_a_backup_or_belongs_to_every_host_is_not_told() -> None:
    covered = [(["/srv/app", "/etc/nginx/"], ["*.log", "/srv/app/cache", "/srv/app/tmp*"])]
    for path, is_told in (
        ("/srv/app", False), ("/srv/app/", False), ("/srv/app/conf/site.yaml", False), ("/etc/nginx", False),
        ("/srv", True), ("/srv/apple", True), ("/srv/app/cache/deep", True), ("/srv/app/tmp1/x", True),
        ("/srv/app/web.log", True), ("/var/backups/shop", False), ("/usr/share", False), ("/usrlocal", True),
        ("/var/run/docker.sock", False), ("/srv/x/y.sock", False), ("/", False), ("/etc/localtime", False),
    ):  # fmt: skip
        found = uncovered(_record(f"{path}:/inside:ro"), covered, spare=["/var/backups"])
        assert found == ({path: ["web"]} if is_told else {}), path
    assert uncovered(_record("a_volume:/data", "/b:/b"), []) == {"/b": ["web"]}
    newer = ({"Type": "bind", "Source": "/c"}, {"Type": "volume", "Source": "v"}, {"Type": "tmpfs"})
    assert uncovered(_record(mounts=newer), []) == {"/c": ["web"]}
