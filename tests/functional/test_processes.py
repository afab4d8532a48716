"""Client programs end when they must, wherever they run, and their exit status is always known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.errors import CredentialsRefused, ToolFailed, ToolMissing
from engine.processes import Command, ContainerRunner, LocalRunner, Runner
from tests.servers import DockerEngine


def sh(script: str, *args: str, **options: object) -> Command:
    return Command(("sh", "-c", script, "sh", *args), **options)  # type: ignore[arg-type]


@pytest.fixture(params=["host", "container"])
def runner(request: pytest.FixtureRequest) -> Runner:
    if request.param == "host":
        return LocalRunner()
    return request.getfixturevalue("sleeping_container")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def sleeping_container(dockerd: DockerEngine) -> Iterator[ContainerRunner]:
    """A container that does nothing, of an image that has little more than a shell."""
    client = dockerd.client()
    container = client.containers.run(dockerd.load("busybox"), ["sleep", "100000"], detach=True, init=False)
    yield ContainerRunner(client, container)
    container.remove(force=True)


@pytest.fixture
def marks(tmp_path: Path) -> Iterator[str]:
    """A word that stands in the argv of what a test starts, to find it again."""
    yield f"mark-{os.getpid()}-{time.monotonic_ns()}"


def running(mark: str) -> list[int]:
    """Processes of this machine (containers included) with that word in their arguments, but ourselves."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def eventually(check: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.05)
    return False


def test_output_and_errors_come_apart(runner: Runner) -> None:
    done = runner.run(sh("echo out; echo err >&2"))
    assert done.stdout == b"out\n"
    assert done.stderr == b"err\n"


def test_a_failing_program_says_why(runner: Runner) -> None:
    with pytest.raises(ToolFailed, match="status 3.*the last words"):
        runner.run(sh("echo the last words >&2; exit 3"))


def test_a_killed_program_is_not_a_success(runner: Runner) -> None:
    with pytest.raises(ToolFailed, match="signal 9"):
        runner.run(sh("kill -KILL $$"))


def test_a_missing_program_is_named(runner: Runner) -> None:
    with pytest.raises(ToolMissing, match="no-such-program"):
        runner.run(Command(("no-such-program",)))


def test_find_gives_the_first_that_is_there(runner: Runner) -> None:
    found = runner.find(["no-such-program", "sh", "cat"])
    assert found is not None and found.rsplit("/", 1)[-1] == "sh"
    assert runner.find(["no-such-program"]) is None


def test_what_is_written_comes_back_whole(runner: Runner) -> None:
    block = os.urandom(1 << 20)
    with runner.start(Command(("sha256sum",), feeds=True)) as process:
        for _ in range(40):
            process.write(block)
        process.close_input()
        digest = process.wait().text.split()[0]
    import hashlib

    assert digest == hashlib.sha256(block * 40).hexdigest()


def test_long_output_streams_in_order(runner: Runner) -> None:
    with runner.start(sh("seq 1 2000000")) as process:
        data = b"".join(process.chunks())
        process.wait()
    assert data == b"".join(b"%d\n" % n for n in range(1, 2000001))


def test_both_streams_can_be_long_without_a_deadlock(runner: Runner) -> None:
    with runner.start(sh("i=0; while [ $i -lt 20000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done")) as process:
        lines = b"".join(process.chunks()).splitlines()
        assert process.wait().stderr.endswith(b"err 19999\n")
    assert len(lines) == 20000


def test_a_program_that_stops_reading_is_a_failure(runner: Runner) -> None:
    with pytest.raises(ToolFailed), runner.start(sh("head -c 10 >/dev/null; exit 0", feeds=True)) as process:
        for _ in range(200):
            process.write(b"x" * (1 << 20))
        process.wait()


def test_a_gated_program_waits(runner: Runner) -> None:
    with runner.start(sh("date +%s", gated=True)) as process:
        time.sleep(2)
        opened = int(time.time())
        process.open_gate()
        assert int(process.wait().text) >= opened


def test_secret_files_reach_the_program_and_no_disk(runner: Runner) -> None:
    command = Command(
        ("sh", "-c", 'cat "$1"; cat "$2"', "sh", "{one}", "{two}"),
        secret_files={"one": "password=fake-secret-one\n", "two": 'it\'s "fake" $two\n'},
    )
    assert runner.run(command).stdout == b'password=fake-secret-one\nit\'s "fake" $two\n'
    left = runner.run(sh("ls -a /tmp /dev/shm 2>/dev/null | grep backup-flows-[0-9] || true"))
    assert left.stdout == b""


def test_secrets_are_blotted_out_of_errors(runner: Runner) -> None:
    command = Command(
        ("sh", "-c", 'echo "no: $DB_PASSWORD" >&2; cat "$1" >&2; exit 1', "sh", "{cnf}"),
        env={"DB_PASSWORD": "fake-secret-env"},
        secret_files={"cnf": "[client]\npassword=fake-secret-file\n"},
    )
    with pytest.raises(ToolFailed) as caught:
        runner.run(command)
    assert "fake-secret" not in str(caught.value) and "***" in str(caught.value)


def test_clients_words_become_the_right_error(runner: Runner) -> None:
    with pytest.raises(CredentialsRefused):
        runner.run(sh("echo \"ERROR 1045 (28000): Access denied for user 'a'@'b' (using password: YES)\" >&2; exit 1"))


def test_kill_ends_the_program_and_its_children(runner: Runner, marks: str) -> None:
    process = runner.start(sh("sh -c 'sleep 300; :' $1 & sleep 300; :", marks))
    assert eventually(lambda: len(running(marks)) >= 2)
    process.kill()
    process.kill()
    assert eventually(lambda: not running(marks))


def test_leaving_on_an_error_kills(runner: Runner, marks: str) -> None:
    with pytest.raises(RuntimeError), runner.start(sh("sleep 300; :", marks)):
        assert eventually(lambda: bool(running(marks)))
        raise RuntimeError
    assert eventually(lambda: not running(marks))


def test_leaving_without_asking_for_the_status_is_an_error(runner: Runner) -> None:
    with pytest.raises(ToolFailed, match="without its exit status"), runner.start(sh("echo hello")):
        pass


def test_a_timeout_kills_and_says_so(runner: Runner, marks: str) -> None:
    with pytest.raises(ToolFailed, match="stopped after 1 s"):
        runner.run(sh("sleep 300; :", marks), timeout=1)
    assert eventually(lambda: not running(marks))


@pytest.mark.parametrize("feeds", [False, True], ids=["writes", "feeds"])
def test_nothing_outlives_us_when_we_are_killed(
    runner: Runner, marks: str, feeds: bool, request: pytest.FixtureRequest
) -> None:
    if isinstance(runner, ContainerRunner):
        host = request.getfixturevalue("dockerd").host
        client = f"docker.DockerClient(base_url={host!r})"
        where = f"ContainerRunner(client := {client}, client.containers.get({runner.container.id!r}))"
    else:
        where = "LocalRunner()"
    body = "cat >/dev/null; :" if feeds else "sleep 300; :"
    code = textwrap.dedent(f"""
        import docker, time
        from engine.processes import Command, ContainerRunner, LocalRunner
        process = {where}.start(Command(("sh", "-c", {body!r}, "sh", {marks!r}), feeds={feeds}))
        print("started", flush=True)
        time.sleep(300)
    """)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline() == b"started\n"
        assert eventually(lambda: len([p for p in running(marks) if p != child.pid]) >= 1)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert eventually(lambda: not running(marks)), running(marks)


def test_the_first_words_of_a_quick_program_are_never_lost(runner: Runner) -> None:
    said = [runner.run(Command(("echo", str(number)))).text for number in range(60)]
    assert said == [str(number) for number in range(60)]
