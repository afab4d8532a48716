"""Docker images made from Debian packages, for engines that can pull nothing.

Each imitates the official image of its server: same entry point variables, same directories, and no
program that the official one lacks. What is built is kept outside the tree, in
``$BACKUP_FLOWS_CACHE`` (else ``$XDG_CACHE_HOME/backup-flows``, else ``~/.cache/backup-flows``), as one
root file system archive per recipe, named after a hash of the recipe: a changed recipe is a new file.

    python -m tests.servers.images            # build whatever is missing
    python -m tests.servers.images mysql      # only this one; prints the archive's path
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENTRYPOINTS = Path(__file__).with_name("entrypoints")

# Programs that Debian's smallest system brings along and no official database image has.
NOT_IN_OFFICIAL = ("usr/bin/mysqlbinlog", "usr/bin/mariadb-binlog", "usr/bin/ps", "bin/ps", "usr/bin/pkill")

# Takes space, and nothing reads it.
BALLAST = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/mysql-test",
    "var/lib/apt/lists",
    "var/cache/apt",
    "var/cache/debconf",
    "var/log",
    "usr/lib/mysql-test",
    "usr/sbin/mysqld-debug",
    "usr/share/i18n",
    "usr/lib/x86_64-linux-gnu/libLLVM*",
    "usr/lib/x86_64-linux-gnu/libz3*",
    "usr/lib/postgresql/*/lib/llvmjit*",
    "usr/lib/postgresql/*/lib/bitcode",
)

# MySQL's image holds the minimal server on a slim system: what Debian's packages add to that goes.
_NOT_IN_OFFICIAL_MYSQL = (
    *(f"usr/bin/mysql{name}" for name in ("slap", "import", "show", "check", "analyze", "optimize", "repair")),
    *(f"usr/bin/{name}" for name in ("mysqldumpslow", "mysqld_multi", "mysqld_safe", "perror", "innochecksum")),
    *(f"usr/bin/{name}" for name in ("myisam*", "ibd2sdi", "setsid", "tar", "perl*", "flock")),
    "usr/lib/mysql/plugin/telemetry_client.so",
    "etc/mysql/conf.d/*",
    "etc/mysql/mysql.conf.d/*",
)


@dataclass(frozen=True)
class Recipe:
    """How one image is made.

    Attributes:
        name: What fixtures ask for.
        tag: The image's name in an engine.
        suite: Debian suite to bootstrap; empty for the busybox image.
        packages: Installed there, without recommendations.
        remove: Paths taken out again, relative to the root.
        make: Directories made, as ``(path, owner)``.
        changes: Dockerfile lines that make up the image's configuration.
    """

    name: str
    tag: str
    suite: str = ""
    packages: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    make: tuple[tuple[str, str], ...] = ()
    changes: tuple[str, ...] = ()

    @property
    def entrypoint(self) -> Path:
        """Shell script that becomes ``/usr/local/bin/docker-entrypoint.sh`` when an engine loads the image."""
        return ENTRYPOINTS / f"{self.name.rstrip('0123456789')}.sh"

    @property
    def key(self) -> str:
        """Twelve hex digits that change when what would be built changes."""
        # The leading number stands for the way of building.
        text = repr((2, self.suite, self.packages, self.remove, self.make, NOT_IN_OFFICIAL, BALLAST))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


_ENTRY = ('ENTRYPOINT ["docker-entrypoint.sh"]',)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("busybox", "backup-flows/busybox:1", changes=('CMD ["sh"]', "ENV PATH=/bin")),
        Recipe(
            "mysql",
            "backup-flows/mysql:9",
            suite="sid",
            packages=("mysql-server", "gzip", "openssl"),
            remove=_NOT_IN_OFFICIAL_MYSQL,
            make=(("var/lib/mysql", "mysql"), ("run/mysqld", "mysql"), ("docker-entrypoint-initdb.d", "root")),
            changes=(*_ENTRY, 'CMD ["mysqld"]', "EXPOSE 3306 33060", "VOLUME /var/lib/mysql"),
        ),
        Recipe(
            "mariadb",
            "backup-flows/mariadb:10.11",
            suite="bookworm",
            packages=("mariadb-server", "mariadb-backup", "zstd", "xz-utils"),
            remove=("etc/mysql/mariadb.conf.d/50-server.cnf", "root/.my.cnf"),
            make=(("var/lib/mysql", "mysql"), ("run/mysqld", "mysql"), ("docker-entrypoint-initdb.d", "root")),
            changes=(*_ENTRY, 'CMD ["mariadbd"]', "EXPOSE 3306", "VOLUME /var/lib/mysql", "ENV LANG=C.UTF-8"),
        ),
        Recipe(
            "postgres17",
            "backup-flows/postgres:17",
            suite="trixie",
            packages=("postgresql", "zstd", "xz-utils"),
            make=(
                ("var/lib/postgresql/data", "postgres"),
                ("run/postgresql", "postgres"),
                ("docker-entrypoint-initdb.d", "root"),
            ),
            changes=(
                *_ENTRY,
                'CMD ["postgres"]',
                "EXPOSE 5432",
                "STOPSIGNAL SIGINT",
                "VOLUME /var/lib/postgresql/data",
                "ENV LANG=C.UTF-8",
                "ENV PGDATA=/var/lib/postgresql/data",
                "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/17/bin",
            ),
        ),
    )
}


LARGE = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "ceph",
            "backup-flows/ceph:16",
            suite="bookworm",
            packages=("ceph-mon", "ceph-osd", "ceph-mgr", "radosgw", "ceph-common"),
            make=(("var/lib/ceph", "ceph"), ("run/ceph", "ceph")),
            changes=(*_ENTRY, "EXPOSE 8000", "ENV LANG=C.UTF-8"),
        ),
    )
}
"""Only needed by ``make soak``, and built when it asks for them."""
RECIPES |= LARGE


def cache_directory() -> Path:
    """Where slow builds are kept between runs; made when it is not there."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(os.environ.get("BACKUP_FLOWS_CACHE") or Path(base) / "backup-flows")
    path.mkdir(parents=True, exist_ok=True)
    return path


def archive(name: str) -> Path:
    """The root file system archive of a recipe, built when it is not in the cache.

    Two processes that want the same one wait for one build.

    Raises:
        subprocess.CalledProcessError: A step of the build failed; its log is named in the output.
    """
    recipe = RECIPES[name]
    directory = cache_directory() / "images"
    directory.mkdir(exist_ok=True)
    target = directory / f"{name}-{recipe.key}.tar"
    if target.exists():
        return target
    with _locked(directory / f"{name}.lock"):
        if not target.exists():
            unfinished = target.with_suffix(".tar.part")
            if recipe.suite:
                _build(recipe, unfinished)
            else:
                _build_busybox(unfinished)
            unfinished.rename(target)
            for old in directory.glob(f"{name}-*.tar"):
                if old != target:
                    old.unlink()
    return target


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build_busybox(target: Path) -> None:
    """Debian's static busybox, a link for each of its applets, and the few files programs look for."""
    busybox = shutil.which("busybox") or "/bin/busybox"
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    with tempfile.TemporaryDirectory() as root, tarfile.open(target, "w") as tar:
        for name in ("bin", "etc", "root", "tmp", "var"):
            Path(root, name).mkdir()
        Path(root, "tmp").chmod(0o1777)
        Path(root, "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
        Path(root, "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
        shutil.copy2(busybox, Path(root, "bin/busybox"))
        for applet in applets:
            if applet != "busybox":
                Path(root, "bin", applet).symlink_to("busybox")
        tar.add(root, arcname=".")


def _build(recipe: Recipe, target: Path) -> None:
    """Bootstrap a Debian, install the server, take out what official images lack, pack it."""
    log = target.with_suffix(".log")
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache_directory()) as work, log.open("wb") as out:
        # debootstrap needs a place where device nodes and set-uid programs work; the system's temporary
        # directory is often mounted without.
        root = Path(work, "root")
        print(f"Building image {recipe.tag} (a minute or two, once per machine), log: {log}", file=sys.stderr)
        mirror = debian_mirror()
        _run(["debootstrap", "--variant=minbase", recipe.suite, str(root), mirror], out)
        _prepare(root)
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "Acquire::Retries=5"]
        try:
            _run(["chroot", str(root), *apt, "update"], out)
            _run(["chroot", str(root), *apt, "install", "--no-install-recommends", *recipe.packages], out)
        finally:
            _unmount_below(root)
        _finish(recipe, root)
        _run(["tar", "--numeric-owner", "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*",
              "-C", str(root), "-cf", str(target), "."], out)  # fmt: skip
    log.unlink()


def _run(argv: list[str], out: object) -> None:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)  # type: ignore[call-overload]


def _prepare(root: Path) -> None:
    """Settings before the server's packages arrive: start nothing, make no cluster, trust an old mirror."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    (root / "etc/apt/apt.conf.d/90build").write_text('Acquire::Check-Valid-Until "false";\n')
    (root / "etc/postgresql-common").mkdir(exist_ok=True)
    (root / "etc/postgresql-common/createcluster.conf").write_text("create_main_cluster = false\n")


def _finish(recipe: Recipe, root: Path) -> None:
    for pattern in (*NOT_IN_OFFICIAL, *BALLAST, *recipe.remove, "usr/sbin/policy-rc.d"):
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    accounts = [line.split(":") for line in (root / "etc/passwd").read_text().splitlines()]
    owners = {fields[0]: (int(fields[2]), int(fields[3])) for fields in accounts}
    for relative, owner in recipe.make:
        path = root / relative
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        os.chown(path, *owners[owner])
    (root / "var/log").mkdir(exist_ok=True)


def _unmount_below(root: Path) -> None:
    """Package scripts may leave /proc mounted inside; removing the tree would then reach the host's."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{root}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=True)


def debian_mirror() -> str:
    """The mirror this machine itself takes Debian from.

    Raises:
        RuntimeError: apt knows no Debian mirror.
    """
    fields = "$(REPO_URI)|$(ORIGIN)|$(COMPONENT)|$(LABEL)"
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for line in listing.splitlines():
        uri, origin, component, label = line.split("|")
        if (origin, component, label) == ("Debian", "main", "Debian"):
            return uri
    raise RuntimeError("apt on this machine knows no Debian mirror; run apt-get update first")


def main(names: list[str]) -> None:
    """Build what is missing and print where it is."""
    for name in names or [each for each in RECIPES if each not in LARGE]:
        print(archive(name))


if __name__ == "__main__":
    main(sys.argv[1:])
