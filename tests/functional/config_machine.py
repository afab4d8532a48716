"""A machine's config files for the tests: a tree with all that is odd, and a site that backs it up."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path
from typing import Any

from engine.backup import BackupResult, backup_one
from engine.config import SiteConfig
from engine.config_files.plan import ConfigRequest, make_plan
from engine.config_files.restore import run
from engine.site import Site, Target
from tests.functional.vault_helpers import PASSPHRASE

TARGET = Target("config", "config")
ACL = struct.pack("<I" + "HHI" * 5, 2, 1, 6, 2**32 - 1, 2, 6, 1234, 4, 4, 2**32 - 1, 16, 6, 2**32 - 1, 32, 4, 2**32 - 1)
"""rw for the user 1234, as Linux keeps it: version 2, then tag, permissions and id of each entry."""
SECRET = "FAKE-secret-of-the-tests-0123456789"


class Machine:
    """A tree of config files below a directory, and a site that backs it up."""

    def __init__(self, root: Path) -> None:
        self.root = root / "machine"
        self.vault = root / "vault"
        self.paths = [self.root / "etc", self.root / "opt/app/.env", self.root / "opt/app/current"]
        self.exclude = ["*.log", f"{self.root}/etc/nginx/cache"]
        self.document: dict[str, Any] = {}
        make_tree(self.root)

    def config(self, **more: Any) -> SiteConfig:
        body = {
            "site": "workbench",
            "vault": {"root": str(self.vault), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}, **more},
            "config": {"paths": [str(path) for path in self.paths], "exclude": self.exclude},
        }
        return SiteConfig.model_validate(body)

    def open(self, **more: Any) -> Site:
        return Site(self.config(**more))

    def back_up(self, **more: Any) -> BackupResult:
        with self.open(**more) as site:
            return backup_one(site, TARGET, tier="daily", recovery_point="20250116_020000-00000000")

    def facts(self, below: Path | None = None) -> list[str]:
        """Everything about every file, as find tells it; excluded files left out."""
        return facts(below or self.root)


def make_tree(root: Path) -> None:
    """nginx, letsencrypt with its links, an .env, odd names, odd modes, odd owners."""
    nginx, ssl, app = root / "etc/nginx", root / "etc/letsencrypt", root / "opt/app/releases/42"
    for folder in (nginx / "sites-available", nginx / "sites-enabled", nginx / "empty", nginx / "cache"):
        folder.mkdir(parents=True)
    for folder in (ssl / "archive/example.org", ssl / "live/example.org", app):
        folder.mkdir(parents=True)
    (nginx / "nginx.conf").write_text("worker_processes 2;\n")
    (nginx / "sites-available/app").write_text("server { listen 80; }\n")
    (nginx / "sites-enabled/app").symlink_to(nginx / "sites-available/app")
    (nginx / "error.log").write_text("not wanted\n")
    (nginx / "cache/page").write_text("not wanted\n")
    for name in ("cert", "privkey"):
        (ssl / f"archive/example.org/{name}1.pem").write_text(f"FAKE {name} {SECRET}\n" * 40)
        (ssl / f"live/example.org/{name}.pem").symlink_to(f"../../archive/example.org/{name}1.pem")
    (ssl / "archive/example.org/privkey1.pem").chmod(0o600)
    odd = nginx / "odd"
    odd.mkdir()
    for name in ("ünïcødé 🙂", "with space", "-rf", "new\nline", "tab\there", "x" * 200, "quote'\"`$(id)"):
        (odd / name).write_text(name)
    (odd / os.fsdecode(b"latin1-\xe9\xff")).write_bytes(bytes(range(256)))
    (odd / "dangling").symlink_to("nowhere\nat all")
    (odd / "empty file").touch()
    (odd / "script").write_text("#!/bin/sh\n")
    (odd / "script").chmod(0o4750)
    (odd / "hard one").write_text("two names\n")
    os.link(odd / "hard one", nginx / "hard two")
    os.mkfifo(odd / "pipe", 0o640)
    os.setxattr(odd / "with space", "user.origin", b"by \x00 hand\n=%\xff")
    os.setxattr(odd / "with space", "system.posix_acl_access", ACL)
    with open(odd / "large", "wb") as large:
        large.write(os.urandom(9_000_001))
    (root / "opt/app/.env").write_text(f"BACKUP_ENCRYPTION_KEY={SECRET}\n")
    (root / "opt/app/.env").chmod(0o600)
    (app / "compose.yaml").write_text("services: {}\n")
    (root / "opt/app/current").symlink_to("releases/42")
    os.chown(nginx / "sites-available/app", 33, 33)
    os.chown(odd / "dangling", 1000, 1001, follow_symlinks=False)
    (root / "opt/app").chmod(0o2750)
    os.utime(odd / "script", ns=(0, 981_173_106_123_456_789))
    os.utime(odd / "empty file", ns=(0, -1_500_000_000))
    for folder in (nginx / "empty", odd, root / "opt"):
        os.utime(folder, ns=(0, 1_000_000_000_000_000_001))


def facts(root: Path) -> list[str]:
    """Path, type, mode, owner, time, link target, inode's name count, and digest of all below a directory."""
    form = r"%P\t%y\t%m\t%U:%G\t%T@\t%l"
    names = ["(", "-type", "d", "-printf", form + r"\0", ")", "-o", "-printf", form + r"\t%n\0"]
    found = subprocess.run(["find", ".", "-mindepth", "1", *names], cwd=root, capture_output=True, check=True).stdout
    sums = subprocess.run(
        "find . -type f -print0 | sort -z | xargs -0 sha256sum -z",
        shell=True,
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout
    lines = [line.decode("utf-8", "backslashreplace") for line in (found + sums).split(b"\0") if line]
    return sorted(line for line in lines if not any(each in line for each in ("error.log", "nginx/cache")))


def shell(command: str, **env: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "BACKUP_ENCRYPTION_KEY": PASSPHRASE, **env}
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{command}"], env=given, capture_output=True, text=True,
        errors="backslashreplace", check=False,
    )  # fmt: skip


def change(machine: Machine) -> None:
    """What a bad evening does to a machine."""
    nginx = machine.root / "etc/nginx"
    (nginx / "nginx.conf").write_text("worker_processes 9;\n")
    (nginx / "sites-enabled/app").unlink()
    (nginx / "sites-enabled/app").symlink_to("elsewhere")
    (nginx / "hard two").unlink()
    (nginx / "odd/hard one").write_text("changed under both names\n")
    (machine.root / "opt/app/.env").chmod(0o644)
    os.chown(nginx / "sites-available/app", 0, 0)
    (machine.root / "etc/letsencrypt/archive/example.org/cert1.pem").unlink()
    (nginx / "new.conf").write_text("only here\n")


def restored(machine: Machine, into: str, **more: Any) -> Any:
    with machine.open() as site:
        return run(site, make_plan(site, ConfigRequest(into=into, **more)), approved=True)
