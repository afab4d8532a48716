"""The vault on a real disk and on real S3 servers: born whole or not at all, copied, read again, swept."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.errors import (
    BackupError,
    ConfigError,
    CredentialsRefused,
    DiskFull,
    IntegrityError,
    LockHeld,
    UnknownName,
    WrongKey,
)
from engine.signed import seal
from engine.source import Facts
from engine.vault import Vault
from engine.verify import verify_backup
from tests.functional.vault_helpers import DUMP, END, FACTS, PASSPHRASE, files, flip, inspect, make, replica, site
from tests.servers.s3 import S3Server
from tests.soak import SAMPLED, SEED


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(site(tmp_path / "root"))


@pytest.fixture(params=["moto", "rclone"])
def copied(request: pytest.FixtureRequest, tmp_path: Path, moto_s3: S3Server, rclone_s3: S3Server) -> Vault:
    """A vault with one replica, ``copy0``."""
    return Vault(site(tmp_path / "root", moto_s3 if request.param == "moto" else rclone_s3))


# A backup is born


def test_a_published_backup_is_found_loaded_and_read_back(vault: Vault) -> None:
    entry, manifest = make(vault)
    found, loaded = vault.catalog().find("mysql", "app")
    assert (found, loaded) == (entry, manifest)
    assert re.fullmatch(r"shop/mysql/daily/app_\d{8}_\d{6}\.sql\.gz\.enc", entry.key)
    assert b"".join(vault.read_part(entry, manifest)) == DUMP + END
    assert b"".join(vault.read_part(entry, manifest, "accounts")) == b"CREATE USER app;\n"
    assert manifest.rows == {"t": 30_000} and manifest.warnings == ["one"] and manifest.log.binlog_position == 4
    assert [part.role for part in manifest.files] == ["data", "accounts"]


def test_stock_openssl_and_gunzip_open_it(vault: Vault) -> None:
    entry, _ = make(vault)
    command = f"openssl enc -d -aes-256-cbc -pbkdf2 -pass env:TEST_PASS -in '{vault.root / entry.key}' | gunzip"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        check=True,
        env={**os.environ, "TEST_PASS": PASSPHRASE},
    )
    assert done.stdout == DUMP + END


def test_files_and_folders_are_for_their_owner_alone(vault: Vault) -> None:
    make(vault)
    for folder, _, names in os.walk(vault.root):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700, folder
        for name in names:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600, name


def test_nothing_in_the_vault_holds_the_passphrase(vault: Vault) -> None:
    make(vault)
    for name in files(vault.root):
        assert PASSPHRASE.encode() not in (vault.root / name).read_bytes()


def test_leaving_without_publishing_removes_every_byte(vault: Vault) -> None:
    with vault.begin(source="mysql", kind="mysql", tier="daily", database="app", ext="sql") as writer:
        writer.data().write(DUMP)
        writer.companion("accounts").write(b"x")
    with pytest.raises(KeyboardInterrupt):
        with vault.begin(source="mysql", kind="mysql", tier="daily", database="app", ext="sql") as writer:
            writer.data().write(DUMP * 5)
            raise KeyboardInterrupt
    assert files(vault.root) == []
    assert threading.active_count() == 1 or not [each for each in threading.enumerate() if each.name == "compress"]


def test_a_backup_without_data_or_with_an_empty_dump_is_refused(vault: Vault) -> None:
    for write in (False, True):
        with pytest.raises(IntegrityError):
            with vault.begin(source="mysql", kind="mysql", tier="daily", database="app", ext="sql") as writer:
                if write:
                    writer.data().write(b"")
                writer.publish(FACTS)
    assert files(vault.root) == []


def test_two_backups_in_one_second_get_names_of_their_own_also_while_both_are_open(vault: Vault) -> None:
    def begin(tier: str):  # type: ignore[no-untyped-def]
        return vault.begin(source="mysql", kind="mysql", tier=tier, database="app", ext="sql")

    with begin("daily") as one, begin("daily") as two, begin("hourly") as three:
        writers = (one, two, three)
        assert len({writer.file for writer in writers}) == 3
        for writer in writers:
            writer.data().write(b"x")
            writer.publish(FACTS)
    assert len(list(vault.catalog().entries())) == 3
    assert len({entry.name.taken_at for entry in vault.catalog().entries()}) == 3


@pytest.mark.parametrize("database", [".hidden", "a/b", "späti 'n\"quote", "日本語" * 21, "x" * 64, "..", "100%"])
def test_databases_with_odd_and_long_names_are_kept_and_found_by_their_true_name(vault: Vault, database: str) -> None:
    entry, manifest = make(vault, database=database)
    assert manifest.database == database
    assert vault.catalog().find("mysql", database)[0] == entry
    vault.mark(entry, "verified")
    assert len(vault.marks(entry)) == 1


@pytest.mark.parametrize(("compression", "ending"), [("gzip", ".sql.gz.enc"), ("zstd", ".sql.zst.enc")])
def test_the_configured_compression_and_iterations_are_used_and_told(
    tmp_path: Path, compression: str, ending: str
) -> None:
    vault = Vault(site(tmp_path, compression=compression, iterations=20_000, compression_level=1))
    entry, manifest = make(vault)
    assert entry.file.endswith(ending)
    assert (manifest.data.compression, manifest.data.cipher.iterations) == (compression, 20_000)
    assert b"".join(vault.read_part(entry, manifest)) == DUMP + END


def test_an_old_backup_opens_after_the_key_was_changed(tmp_path: Path) -> None:
    old = make(Vault(site(tmp_path)))
    both = Vault(site(tmp_path, keys={"main": PASSPHRASE, "new": "another-fake-" * 4}, current="new"))
    new = make(both)
    assert [manifest.data.cipher.key_id for _, manifest in (old, new)] == ["main", "new"]
    for entry, manifest in (old, new):
        assert b"".join(both.read_part(entry, both.catalog().load(entry))) == DUMP + END
        assert manifest == both.catalog().load(entry)


def test_unknown_sources_tiers_locations_and_parts_are_named_with_the_nearest(vault: Vault) -> None:
    entry, manifest = make(vault)
    for call, hint in (
        (lambda: vault.begin(source="mysq", kind="mysql", tier="daily", database="app", ext="sql"), "'mysql'"),
        (lambda: vault.begin(source="mysql", kind="mysql", tier="dayly", database="app", ext="sql"), "'daily'"),
        (lambda: vault.store("lokal"), "'local'"),
        (lambda: list(vault.read_part(entry, manifest, "acounts")), "'accounts'"),
    ):
        with pytest.raises(UnknownName) as error:
            call()
        assert hint in error.value.remedy


# Not enough room, not a root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_too_little_room_for_the_estimate_is_told_with_figures_before_anything_begins(small_disk: Path) -> None:
    vault = Vault(site(small_disk))
    with pytest.raises(DiskFull, match=r"the server holds about 100,000,000\) needs about 25,000,000 bytes") as error:
        vault.begin(source="mysql", kind="mysql", tier="daily", database="app", ext="sql", estimated_bytes=100_000_000)
    assert "df -h" in error.value.remedy and files(small_disk) == []


def test_too_little_room_for_another_like_the_last_one_is_told(small_disk: Path) -> None:
    vault = Vault(site(small_disk))
    make(vault, os.urandom(2_200_000), facts=Facts(server=FACTS.server))
    with pytest.raises(DiskFull, match=r"the last one has 2,\d{3},\d{3}\) needs about 2,6\d\d,\d{3}"):
        vault.begin(source="mysql", kind="mysql", tier="daily", database="app", ext="sql", estimated_bytes=1)


def test_a_disk_that_fills_up_leaves_nothing_half_written(small_disk: Path) -> None:
    vault = Vault(site(small_disk))
    first, _ = make(vault)
    with pytest.raises(DiskFull):
        with vault.begin(source="mysql", kind="mysql", tier="daily", database="app", ext="sql") as writer:
            for _ in range(20):
                writer.data().write(os.urandom(1_000_000))
            writer.publish(FACTS)
    assert [entry.key for entry in vault.catalog().entries()] == [first.key]
    assert len(files(small_disk)) == 3
    make(vault)


def test_a_relative_root_is_refused() -> None:
    with pytest.raises(ConfigError, match="'backups' is not an absolute path"):
        Vault(site(Path("backups")))


def test_a_root_that_is_a_file_or_lies_below_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=f"{tmp_path}/file is a file, not a directory"):
            Vault(site(root)).check()


def test_a_read_only_root_is_refused_and_the_way_out_told(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(ConfigError, match="is on a read-only file system") as error:
        Vault(site(small_disk)).check()
    assert "remount,rw" in error.value.remedy


def test_a_file_system_that_turns_read_only_later_is_noticed(small_disk: Path) -> None:
    vault = Vault(site(small_disk))
    vault.check()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(ConfigError, match="is on a read-only file system"):
        vault.check()
    with pytest.raises(BackupError):
        make(vault)


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that every user may look into; pytest closes its own whenever a session begins."""
    with tempfile.TemporaryDirectory(prefix="bf-test-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


_AS_NOBODY = """
import os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from engine.vault import Vault
from engine.errors import ConfigError
from tests.functional.vault_helpers import site
vault = Vault(site(Path(sys.argv[1])))
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    vault.check()
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize("made", ["root", "state"])
def test_a_root_of_another_user_is_refused_by_name(open_to_all: Path, made: str) -> None:
    root = open_to_all / "root"
    root.mkdir(mode=0o755)
    if made == "state":
        root.chmod(0o777)
        Vault(site(root)).check()
        root.joinpath(".backup-flows").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, str(root), str(Path(__file__).parents[2])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"nobody may not write to .*: it belongs to root", done.stdout)


def test_a_state_directory_that_others_may_write_to_is_refused(vault: Vault) -> None:
    vault.check()
    vault.state.chmod(0o777)
    with pytest.raises(ConfigError, match="Others may write"):
        vault.check()


def test_a_check_leaves_nothing_behind(vault: Vault) -> None:
    vault.check()
    vault.check()
    assert files(vault.root) == []


# Locks


def test_a_database_is_worked_on_by_one_run_at_a_time_and_the_other_is_told_whom(vault: Vault) -> None:
    with vault.lock("mysql", "app"):
        with vault.lock("mysql", "other"):
            pass
        with pytest.raises(LockHeld) as error, vault.lock("mysql", "app"):
            pass
    said = str(error.value)
    assert f"process {os.getpid()}" in said and "held it since 20" in said and os.uname().nodename in said
    with vault.lock("mysql", "app"):
        pass


def test_a_lock_dies_with_its_holder(vault: Vault) -> None:
    script = (
        "import sys; from pathlib import Path; from engine.vault import Vault\n"
        "from tests.functional.vault_helpers import site\n"
        "with Vault(site(Path(sys.argv[1]))).lock('mysql', 'app'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(vault.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None and child.stdin is not None and child.stdout.readline() == b"held\n"
    with pytest.raises(LockHeld, match=f"process {child.pid} "), vault.lock("mysql", "app"):
        pass
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    with vault.lock("mysql", "app"):
        pass


# Read again


def test_damage_is_refused_before_the_first_byte_and_named(vault: Vault) -> None:
    for at, says in ((3, "is damaged"), (5000, "is damaged"), (-1, "is damaged")):
        entry, manifest = make(vault)
        flip(vault.root / entry.key, at)
        with pytest.raises(IntegrityError, match=says):
            next(vault.read_part(entry, manifest))
    entry, manifest = make(vault)
    path = vault.root / entry.key
    path.write_bytes(path.read_bytes()[:-16])
    with pytest.raises(IntegrityError, match="is truncated"):
        next(vault.read_part(entry, manifest))


def test_a_wrong_key_is_told_apart_from_damage(vault: Vault) -> None:
    make(vault)
    other = Vault(site(vault.root, keys={"main": "another-fake-passphrase-" * 2}))
    with pytest.raises(WrongKey, match="written with another key"):
        other.catalog().find("mysql", "app")


def test_swapped_manifests_are_refused(vault: Vault) -> None:
    one, two = make(vault)[0], make(vault)[0]
    (vault.root / one.manifest_key).write_bytes((vault.root / two.manifest_key).read_bytes())
    with pytest.raises(IntegrityError, match="the two were swapped"):
        vault.catalog().load(one)


def test_data_swapped_under_a_right_manifest_is_refused(vault: Vault) -> None:
    (one, manifest), (two, _) = make(vault), make(vault, DUMP * 2)
    (vault.root / one.key).write_bytes((vault.root / two.key).read_bytes())
    with pytest.raises(IntegrityError, match="longer than it was"):
        next(vault.read_part(one, manifest))


def test_progress_is_told_in_bytes(vault: Vault) -> None:
    entry, manifest = make(vault)
    told: list[tuple[str, int, int | None]] = []
    list(vault.read_part(entry, manifest, progress=lambda *each: told.append(each)))
    assert told[-1] == (f"check {entry.file}", entry.size, entry.size)


# Copies


def test_a_copy_reads_back_from_the_replica_alone_and_its_spool_is_gone(copied: Vault) -> None:
    dump = os.urandom(16_000_000)  # more than is read ahead
    entry, manifest = make(copied, dump)
    stored = copied.replicate(entry, "copy0")
    assert (stored.size, stored.sha256) == (manifest.data.size, manifest.data.sha256)
    subprocess.run(["find", str(copied.root), "-name", "app_*", "-delete"], check=True)
    assert list(copied.catalog().entries()) == []
    there, found = copied.catalog("copy0").find("mysql", "app")
    assert found == manifest and there.location == "copy0"
    reading = copied.read_part(there, found)
    first = next(reading)
    (spool,) = (copied.state / "spool").iterdir()
    assert stat.S_IMODE(spool.stat().st_mode) == 0o600 and dump[:100] not in spool.read_bytes()
    assert first + b"".join(reading) == dump
    assert b"".join(copied.read_part(there, found, "accounts")) == b"CREATE USER app;\n"
    copied.read_part(there, found).close()
    assert list((copied.state / "spool").iterdir()) == []


def test_the_manifest_is_copied_word_for_word_and_the_copy_is_marked(copied: Vault) -> None:
    entry, _ = make(copied)
    copied.replicate(entry, "copy0")
    (there,) = copied.catalog("copy0").entries()
    assert copied.store("copy0").get(there.manifest_key) == (copied.root / entry.manifest_key).read_bytes()
    (mark,) = copied.marks(there)
    assert mark["kind"] == "copied" and mark["facts"]["proof"] in ("server-sha256", "read-back", "size+sample")


def test_copying_again_is_success_and_changes_nothing(copied: Vault) -> None:
    entry, _ = make(copied)
    first = copied.replicate(entry, "copy0")
    before = [(info.key, info.size) for info in copied.store("copy0").list()]
    again = copied.replicate(entry, "copy0")
    assert (again.key, again.size, again.sha256) == (first.key, first.size, first.sha256)
    assert [(info.key, info.size) for info in copied.store("copy0").list()] == before


def test_a_part_that_stays_away_beside_its_manifest_is_told_after_a_second_look(copied: Vault) -> None:
    entry, _ = make(copied)
    copied.replicate(entry, "copy0")
    copied.store("copy0").delete(entry.key)
    with pytest.raises(IntegrityError, match=f"has the manifest of {entry.file} but not {entry.file}") as caught:
        copied.replicate(entry, "copy0")
    assert caught.value.kept and caught.value.remedy.startswith("copy again")


@pytest.mark.parametrize("outcome", ["arrives", "withdrawn"])
def test_a_part_that_is_only_late_beside_its_manifest_is_no_damage(copied: Vault, outcome: str) -> None:
    entry, manifest = make(copied)
    copied.replicate(entry, "copy0")
    store = copied.store("copy0")
    data = store.get(entry.key)
    store.delete(entry.key)

    def another_run() -> None:
        time.sleep(0.5)
        if outcome == "withdrawn":
            store.delete(entry.manifest_key)
            return
        with store.stage(entry.key) as staged:
            staged.write(data)
            staged.commit()

    with ThreadPoolExecutor() as pool:
        other = pool.submit(another_run)
        copied.replicate(entry, "copy0")
        other.result()
    assert copied.catalog("copy0").find("mysql", "app")[1] == manifest and store.get(entry.key) == data


def test_a_copy_that_died_before_its_manifest_is_finished_by_the_next(copied: Vault) -> None:
    entry, manifest = make(copied)
    copied.replicate(entry, "copy0")
    copied.store("copy0").delete(entry.manifest_key)
    assert [each.key for each in copied.lacking("copy0")] == [entry.key]
    assert list(copied.catalog("copy0").entries()) == []
    assert copied.replicate(entry, "copy0").proof == "read-back"
    assert copied.catalog("copy0").find("mysql", "app")[1] == manifest


def test_something_else_under_the_same_key_is_refused_and_stays(copied: Vault) -> None:
    entry, _ = make(copied)
    with copied.store("copy0").stage(entry.key) as staged:
        staged.write(b"somebody else's")
        staged.commit()
    with pytest.raises(IntegrityError, match="holds another file as"):
        copied.replicate(entry, "copy0")
    assert copied.store("copy0").get(entry.key) == b"somebody else's"
    assert [info.key for info in copied.store("copy0").list()] == [entry.key]


def test_a_complete_copy_with_other_bytes_is_refused(copied: Vault) -> None:
    entry, _ = make(copied)
    copied.replicate(entry, "copy0")
    store = copied.store("copy0")
    data = bytearray(store.get(entry.key))
    data[20] ^= 1
    store.delete(entry.key)
    with store.stage(entry.key) as staged:
        staged.write(bytes(data))
        staged.commit()
    with pytest.raises(IntegrityError, match="holds another file as"):
        copied.replicate(entry, "copy0")


def test_a_damaged_local_backup_is_never_sent(copied: Vault) -> None:
    entry, _ = make(copied)
    flip(copied.root / entry.key, 4000)
    with pytest.raises(IntegrityError, match=r"is damaged.*nothing of it was copied|is damaged"):
        copied.replicate(entry, "copy0")
    assert list(copied.store("copy0").list()) == []
    assert files(copied.state) == []


def test_what_a_replica_lacks_is_known_by_names_alone(copied: Vault) -> None:
    entries = [make(copied, tier=tier)[0] for tier in ("daily", "hourly", "daily")]
    copied.replicate(entries[1], "copy0")
    before = copied.catalog().manifests_read + copied.catalog("copy0").manifests_read
    assert [entry.key for entry in copied.lacking("copy0")] == [entries[2].key, entries[0].key]
    assert copied.catalog().manifests_read + copied.catalog("copy0").manifests_read == before


def test_a_replica_with_folders_of_its_own_keeps_both_installations_keys(tmp_path: Path, moto_s3: S3Server) -> None:
    spaces = {**replica(moto_s3, "spaces"), "path": "backups/{directory}"}
    aws = {**replica(moto_s3, "aws"), "path": "{yyyy}/{mm}/{dd}"}
    vault = Vault(
        site(tmp_path, path="{site}/{directory}", directories={"mysql/daily": "database"}, replicas=[spaces, aws])
    )
    entry, manifest = make(vault)
    assert entry.key == f"shop/database/{entry.file}"
    for name, folder in (("spaces", "backups/database"), ("aws", f"{manifest.taken_at:%Y/%m/%d}")):
        assert vault.replicate(entry, name).key == f"{folder}/{entry.file}"
        assert vault.lacking(name) == []
        there, found = vault.catalog(name).find("mysql", "app")
        assert found == manifest
        assert b"".join(vault.read_part(there, found)) == DUMP + END
        assert verify_backup(vault, name, there, inspect).rows == {"t": 30_000}
        assert {mark["kind"] for mark in vault.marks(there)} == {"copied", "verified"}
    assert next(vault.catalog("aws").entries()).tier is None
    assert next(vault.catalog("aws").entries(tier="daily")).tier == "daily"


def test_a_wrong_secret_fails_at_once_in_words_and_leaves_no_journal(tmp_path: Path, rclone_s3: S3Server) -> None:
    vault = Vault(site(tmp_path, replicas=[{**replica(rclone_s3, "copy0"), "secret_key": "fake-and-wrong-secret"}]))
    entry, _ = make(vault)
    with pytest.raises(CredentialsRefused) as error:
        vault.replicate(entry, "copy0")
    assert not error.value.retryable
    assert files(vault.state) == []


# Marks


def test_marks_are_read_oldest_first_and_are_no_backups(vault: Vault) -> None:
    entry, _ = make(vault)
    for number in range(3):
        vault.mark(entry, "pinned", number=number)
    assert [mark["facts"]["number"] for mark in vault.marks(entry)] == [0, 1, 2]
    assert len(list(vault.catalog().entries())) == 1


def test_a_forged_a_moved_and_a_renamed_mark_are_refused(vault: Vault) -> None:
    (one, _), (two, _) = make(vault), make(vault)
    vault.mark(one, "broken", reason="test")
    (path,) = (vault.root / "shop/marks/mysql/daily").glob("*.broken.*")
    true = path.read_bytes()
    path.write_bytes(true.replace(b'"broken"', b'"verified"'))
    with pytest.raises(IntegrityError, match="altered after it was written"):
        vault.marks(one)
    path.write_bytes(true)
    renamed = path.rename(path.with_name(path.name.replace(".broken.", ".verified.")))
    with pytest.raises(IntegrityError, match="it was renamed"):
        vault.marks(one)
    renamed.rename(path.with_name(path.name.replace(one.file, two.file)))
    with pytest.raises(IntegrityError, match="written for another backup"):
        vault.marks(two)


def test_a_signed_manifest_is_no_mark(vault: Vault) -> None:
    entry, manifest = make(vault)
    forged = vault.root / f"shop/marks/mysql/daily/{entry.file}.verified.20250116_020000-00000000.json"
    forged.parent.mkdir(parents=True)
    forged.write_bytes(seal(manifest.model_dump(mode="json"), vault.keys, "main"))
    with pytest.raises(IntegrityError, match="written for another backup"):
        vault.marks(entry)


# Killed

_CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from engine.vault import Vault
from tests.functional.vault_helpers import DUMP, END, FACTS, site
left = int(sys.argv[2])
def deadly(call):
    def counted(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return counted
vault = Vault(site(Path(sys.argv[1])))
vault.check()
for name in ("link", "fsync", "unlink", "fdatasync"):
    setattr(os, name, deadly(getattr(os, name)))
with vault.begin(source="mysql", kind="mysql", tier="daily", database="app", ext="sql") as writer:
    writer.data().write(DUMP + END)
    writer.companion("accounts").write(b"CREATE USER app;")
    writer.publish(FACTS)
"""


def test_a_writer_killed_at_any_step_leaves_a_whole_backup_or_none_and_the_next_run_succeeds(tmp_path: Path) -> None:
    died = whole = 0
    every = 3 if SAMPLED else 1  # a third of the steps, by the seed
    for step in range(1 + SEED % every, 60, every):
        root = tmp_path / str(step)
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, str(root), str(step), str(Path(__file__).parents[2])],
            capture_output=True,
            check=False,
        )
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, child.stderr
        died += 1
        foreign = root / "shop/mysql/daily/app_20200101_000000.sql.gz.enc"
        foreign.parent.mkdir(parents=True, exist_ok=True)
        foreign.write_bytes(b"foreign")
        vault = Vault(site(root))
        for entry in vault.catalog().entries():
            whole += 1
            verify_backup(vault, "local", entry, inspect)
        vault.sweep()
        listed = {entry.key for entry in vault.catalog().entries()}
        for entry in vault.catalog().entries():
            verify_backup(vault, "local", entry, inspect)
        kept = [name for name in files(root) if "/marks/" not in name and name != str(foreign.relative_to(root))]
        assert len(kept) == 3 * len(listed), kept
        assert foreign.read_bytes() == b"foreign"
        assert make(vault)[0].key in {entry.key for entry in vault.catalog().entries()}
        assert vault.sweep() == []
    else:
        pytest.fail("the child never came to its end")
    assert died > 8 // every and whole > 0


def test_a_sweep_leaves_a_living_writer_alone(vault: Vault) -> None:
    with vault.begin(source="mysql", kind="mysql", tier="daily", database="app", ext="sql") as writer:
        writer.data().write(DUMP + END)
        assert Vault(site(vault.root)).sweep() == []
        entry, _ = writer.publish(FACTS)
    verify_backup(vault, "local", entry, lambda manifest, chunks: None)


def test_a_sweep_removes_a_dead_readers_spool_and_not_a_living_ones(copied: Vault) -> None:
    entry, manifest = make(copied, os.urandom(16_000_000))
    copied.replicate(entry, "copy0")
    (there,) = copied.catalog("copy0").entries()
    reading = copied.read_part(there, manifest)
    next(reading)
    dead = copied.state / "spool" / "read-dead.spool"
    dead.write_bytes(b"x")
    assert copied.sweep() == ["local: read-dead.spool (spooled)"]
    assert sum(map(len, reading)) > 0


_COPYING_CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from engine.config import SiteConfig
from engine.vault import Vault
vault = Vault(SiteConfig.model_validate_json(sys.stdin.read()))
put, left = vault.store("copy0").put, int(sys.argv[3])
def dying(*args):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    put(*args)
vault.store("copy0").put = dying
vault.replicate(next(vault.catalog().entries()), sys.argv[1])
"""


@pytest.mark.parametrize("step", [1, 2, 3], ids=["before its marks", "between its marks", "before its manifest"])
def test_a_copy_that_is_killed_is_swept_and_the_next_one_says_all_that_was_said_of_it(
    step: int, tmp_path: Path, moto_s3: S3Server
) -> None:
    config = site(tmp_path, moto_s3)
    vault = Vault(config)
    entry, _ = make(vault)
    vault.mark(entry, "pinned", reason="court order")
    said = config.model_dump(mode="json")
    said["vault"]["keys"]["keys"]["main"] = PASSPHRASE
    said["vault"]["replicas"][0] |= {"access_key": moto_s3.access_key, "secret_key": moto_s3.secret_key}
    import json

    child = subprocess.run(
        [sys.executable, "-c", _COPYING_CHILD, "copy0", str(Path(__file__).parents[2]), str(step)],
        input=json.dumps(said),
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    parts = {entry.key, entry.beside(entry.name.companion("accounts", "sql.gz.enc"))}
    assert {info.key for info in vault.store("copy0").list() if "/marks/" not in info.key} == parts
    assert list(vault.catalog("copy0").entries()) == []
    assert len(vault.sweep()) == 2
    assert [info.key for info in vault.store("copy0").list() if "/marks/" not in info.key] == []
    vault.replicate(entry, "copy0")
    assert vault.lacking("copy0") == []
    (there,) = vault.catalog("copy0").entries()
    assert {mark["kind"] for mark in vault.marks(there)} == {"copied", "pinned"}


def test_a_replica_that_is_down_does_not_stop_a_sweep(tmp_path: Path, moto_s3: S3Server) -> None:
    down = {**replica(moto_s3, "copy0"), "endpoint_url": "http://127.0.0.1:9"}
    vault = Vault(site(tmp_path, replicas=[down]))
    make(vault)
    (said,) = vault.sweep()
    assert said.startswith("copy0: could not be swept")


def test_a_name_says_when_the_backup_began_in_utc(vault: Vault) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    entry, manifest = make(vault)
    assert before <= entry.name.taken_at <= datetime.now(UTC)
    assert manifest.started_at >= before and manifest.finished_at >= manifest.started_at
