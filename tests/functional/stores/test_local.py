"""The local store: the shared promises, and what only a file system can do wrong."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import DiskFull, IntegrityError, NotFound, StoreRefused, Unreadable
from engine.stores import LocalStore
from tests.functional.bad_files import bad_sector
from tests.functional.stores.suite import StoreSuite, noise


class Files:
    """The files under a root, seen with the file system's own means."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def keys(self) -> list[str]:
        return [
            str(path.relative_to(self.root))
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and ".backup-flows" not in path.parts
        ]

    def content(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def unfinished(self) -> list[str]:
        return [path.name for path in self.root.glob(".backup-flows/*/staging/*")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "vault"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return store_at(root)


@pytest.fixture
def outside(root: Path) -> Files:
    return Files(root)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB of its own."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may pass through, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def store_at(root: Path, site: str = "demo") -> LocalStore:
    return LocalStore(root, root / ".backup-flows" / site)


class TestLocalStore(StoreSuite):
    """Every promise that all stores make."""


def test_files_and_new_folders_are_for_their_owner_only(store: LocalStore, root: Path) -> None:
    store.put("a/b/c.json", b"x")
    with store.stage("a/d.enc") as staged:
        staged.write(b"x")
        staged.commit()
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}
    assert {path: mode for path, mode in modes.items() if mode != (0o600 if path.is_file() else 0o700)} == {}


def test_folders_that_are_there_keep_their_mode(store: LocalStore, root: Path) -> None:
    (root / "shared").mkdir(parents=True)
    (root / "shared").chmod(0o750)
    store.put("shared/a.json", b"x")
    assert stat.S_IMODE((root / "shared").stat().st_mode) == 0o750


def test_foreign_files_show_and_state_of_any_tool_does_not(store: LocalStore, root: Path) -> None:
    store.put("ours.json", b"x")
    for path in ("theirs/dump.sql", ".git/config", "theirs/.cache/x", ".backup-flows/other-site/locks/l"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"y")
    os.mkfifo(root / "pipe")
    (root / "dangling").symlink_to(root / "nowhere")
    assert [info.key for info in store.list()] == ["ours.json", "theirs/dump.sql"]


def test_a_folder_linked_into_itself_is_listed_once(store: LocalStore, root: Path) -> None:
    store.put("a/b.json", b"x")
    (root / "a" / "loop").symlink_to(root)
    assert [info.key for info in store.list()] == ["a/b.json"]


def test_a_listing_of_a_root_that_is_not_there_yet_is_empty(store: LocalStore) -> None:
    assert list(store.list()) == []
    assert store.free_bytes() is not None


def test_reading_goes_on_through_a_delete(store: LocalStore) -> None:
    data = noise(3_000_000)
    store.put("a.enc", data)
    chunks = store.read("a.enc")
    first = next(chunks)
    store.delete("a.enc")
    assert first + b"".join(chunks) == data


def test_a_full_disk_is_told_with_figures_and_leaves_nothing(small_disk: Path) -> None:
    store = store_at(small_disk)
    store.put("before.json", b"x")
    with (
        pytest.raises(DiskFull, match=r"no space left, [\d,]+ bytes free of 8,388,608") as caught,
        store.stage("a.enc") as staged,
    ):
        for _ in range(20):
            staged.write(noise(1_000_000))
        staged.commit()
    assert str(small_disk) in caught.value.remedy
    assert Files(small_disk).keys() == ["before.json"]
    assert Files(small_disk).unfinished() == []
    free = store.free_bytes()
    assert free is not None
    assert free > 7_000_000


def test_a_full_disk_refuses_a_manifest_too(small_disk: Path) -> None:
    store = store_at(small_disk)
    store.check()
    (small_disk / "filler").write_bytes(b"x" * (store.free_bytes() or 0))
    with pytest.raises(DiskFull):
        store.put("m.json", b"x" * 10_000)
    assert Files(small_disk).unfinished() == []


def test_a_read_only_root_is_refused_with_the_remedy(small_disk: Path) -> None:
    store = store_at(small_disk)
    store.put("before.json", b"x")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for attempt in (
        store.check,
        lambda: store.put("a.json", b"x"),
        lambda: store.stage("b.enc"),
        lambda: store.delete("before.json"),
    ):
        with pytest.raises(StoreRefused, match="read-only") as caught:
            attempt()
        assert "remount,rw" in caught.value.remedy
    assert store.get("before.json") == b"x"


def test_a_pipe_is_not_an_object(store: LocalStore, root: Path) -> None:
    store.put("a.json", b"x")
    os.mkfifo(root / "pipe")
    assert store.stat("pipe") is None
    with pytest.raises(NotFound):
        store.get("pipe")


def test_a_file_that_cannot_be_read_is_told_apart_from_a_root_that_cannot(store: LocalStore, root: Path) -> None:
    store.put("a.json", b"x")
    store.put("b.json", b"y")
    bad_sector(root / "a.json")
    with pytest.raises(Unreadable, match="Input/output error"):
        store.get("a.json")
    assert store.get("b.json") == b"y"


def test_a_process_without_room_for_another_open_file_says_nothing_of_a_file(store: LocalStore, root: Path) -> None:
    store.put("a.json", b"x")
    script = """
        import resource
        from engine.errors import StoreError
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        try:
            store.get("a.json")
        except StoreError as error:
            print(type(error).__name__, error)
    """
    assert run_child(script, root).startswith("StoreError Could not read")


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vault").write_bytes(b"")
    with pytest.raises(StoreRefused, match=str(tmp_path / "vault")):
        store_at(tmp_path / "vault").check()


def test_a_root_of_another_user_is_refused_with_the_remedy(open_directory: Path) -> None:
    root = open_directory / "vault"
    root.mkdir(mode=0o700)
    script = """
        import os, sys
        os.setgid(65534); os.setuid(65534)
        from engine.errors import StoreRefused
        try:
            store.check()
        except StoreRefused as error:
            print(error)
    """
    done = run_child(script, root)
    assert "permission denied" in done
    assert f"chown -R $(id -un) {root}" in done


def test_a_folder_on_another_file_system_is_refused_in_words(store: LocalStore, root: Path, small_disk: Path) -> None:
    root.mkdir()
    (root / "away").symlink_to(small_disk)
    with pytest.raises(StoreRefused, match="another file system"):
        store.put("away/a.json", b"x")
    assert Files(root).unfinished() == []


def test_a_sweep_spares_the_living_and_removes_what_the_dead_left(store: LocalStore, root: Path) -> None:
    script = "staged = store.stage('dead.enc'); staged.write(b'x' * 100); print('staged', flush=True); sys.stdin.read()"
    child = subprocess.Popen(command(script, root), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"staged\n"
    with store.stage("alive.enc") as mine:
        mine.write(b"y")
        assert store.sweep() == []
        assert len(Files(root).unfinished()) == 2
        child.send_signal(signal.SIGKILL)
        child.communicate()
        gone = store.sweep()
        assert len(gone) == 1
        assert gone[0].endswith("dead.enc")
        assert mine.commit().size == 1
    assert store.get("alive.enc") == b"y"
    assert Files(root).unfinished() == []


def test_sweeps_that_run_all_the_time_never_take_a_living_write(store: LocalStore) -> None:
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            store.sweep()

    store.check()
    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    for sweeper in sweepers:
        sweeper.start()
    try:
        for number in range(400):
            with store.stage(f"{number}.enc") as staged:
                staged.write(b"x")
                staged.commit()
    finally:
        stop.set()
        for sweeper in sweepers:
            sweeper.join()
    assert len(list(store.list())) == 400


@pytest.mark.parametrize("written", [10, 40_000_000])
def test_a_byte_that_changed_on_disk_before_the_commit_is_noticed(store: LocalStore, root: Path, written: int) -> None:
    with store.stage("a.enc") as staged:
        staged.write(noise(written))
        path = next(root.glob(".backup-flows/*/staging/*"))
        with path.open("r+b") as file:
            file.seek(written - 5)
            byte = file.read(1)
            file.seek(written - 5)
            file.write(bytes([byte[0] ^ 1]))
        with pytest.raises(IntegrityError, match="other bytes"):
            staged.commit()
    assert Files(root).keys() == []
    assert Files(root).unfinished() == []


def test_two_processes_that_publish_one_key_leave_one_winner(root: Path) -> None:
    script = """
        from engine.errors import StoreRefused
        mark = os.urandom(8)
        for n in range(60):
            with store.stage(f"k{n}.enc") as staged:
                staged.write(mark)
                try:
                    staged.commit()
                    print(n, mark.hex())
                except StoreRefused:
                    pass
    """
    children = [subprocess.Popen(command(script, root), stdout=subprocess.PIPE, text=True) for _ in range(3)]
    winners = "".join(child.communicate()[0] for child in children).split("\n")[:-1]
    assert sorted(int(line.split()[0]) for line in winners) == list(range(60))
    for line in winners:
        number, mark = line.split()
        assert (root / f"k{number}.enc").read_bytes().hex() == mark


def command(script: str, root: Path) -> list[str]:
    opening = f"""
        import os, sys
        from pathlib import Path
        from engine.stores import LocalStore
        store = LocalStore(Path({str(root)!r}), Path({str(root)!r}) / ".backup-flows" / "demo")
    """
    return [sys.executable, "-c", textwrap.dedent(opening) + textwrap.dedent(script)]


def run_child(script: str, root: Path) -> str:
    return subprocess.run(command(script, root), check=True, capture_output=True, text=True).stdout
