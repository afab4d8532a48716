"""Programs on this host, each in a session of its own that cannot outlive us.

A small shell stands between: it waits at the gate if there is one, starts the program, and keeps a
guard that reads a pipe whose other end only we hold. When we die, even by SIGKILL, the pipe closes
and the guard kills the whole group. Secret files are memory files (memfd), so none touches a disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator

from engine.errors import BackupError, Cancelled, ToolFailed, ToolMissing
from engine.processes import diagnose
from engine.processes.base import CHUNK, Command, Completed
from engine.stopping import on_stop

OUTPUT_LIMIT = 16 * 1024 * 1024
_LITTLE = 64 * 1024
_NAP = 0.001  # a pipe with room for CHUNK is not full within that

_GUARDED = r"""
life=$1; gate=$2; shift 2
if [ "$gate" != - ]; then read -r _ <"/proc/self/fd/$gate" || exit 125; fi
exec 9<&0 </dev/null
"$@" <&9 9<&- &
child=$!
exec 9<&-
( read -r _ <"/proc/self/fd/$life"; kill -KILL 0 ) >/dev/null 2>&1 &
guard=$!
wait "$child"; status=$?
kill "$guard" 2>/dev/null
exit "$status"
"""


class LocalProcess:
    """A program on this host; see ``engine.processes.base.Process``."""

    def __init__(self, command: Command, argv: list[str], env: dict[str, str], timeout: float | None) -> None:
        self.command = command
        self._lock = threading.Lock()
        self._ended: Completed | BackupError | None = None
        self._stderr = bytearray()
        self._stdout = bytearray()
        life_read, self._life = _pipe()
        gate_read, self._gate = _pipe() if command.gated else (-1, -1)
        files = {name: _memory_file(name, text) for name, text in command.secret_files.items()}
        kept = [life_read, *files.values()] + ([gate_read] if command.gated else [])
        argv = [_with_files(part, files) for part in argv]
        try:
            self._child = subprocess.Popen(
                ["/bin/sh", "-c", _GUARDED, "sh", str(life_read), str(gate_read) if command.gated else "-", *argv],
                stdin=subprocess.PIPE if command.feeds else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
                start_new_session=True,
                pass_fds=kept,
                bufsize=0,
            )
        except BaseException:
            os.close(self._life)
            if command.gated:
                os.close(self._gate)
            raise
        finally:
            for handle in kept:
                os.close(handle)
        self._roomy = False
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, CHUNK)
                    self._roomy = True
        self._threads = [threading.Thread(target=self._keep_stderr, daemon=True)]
        if command.feeds and not command.converses:
            self._threads.append(threading.Thread(target=self._keep_stdout, daemon=True))
        for thread in self._threads:
            thread.start()
        self._timed_out = self._stopped = False
        self._forget = on_stop(self._stop)
        self._timer = threading.Timer(timeout, self._expire) if timeout is not None else None
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        self._timeout = timeout

    def open_gate(self) -> None:
        """Let a gated program go on."""
        if self._gate >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._gate, b"go\n")
            os.close(self._gate)
            self._gate = -1

    def chunks(self) -> Iterator[bytes]:
        """Standard output until the program closes it.

        A dump program writes 4 KiB at a time. To be woken for each would cost more than all that is done
        with it: where little came, and the pipe has room, more is waited for.
        """
        assert self._child.stdout is not None
        handle = self._child.stdout.fileno()
        while data := os.read(handle, CHUNK):
            yield data
            if self._roomy and len(data) < _LITTLE:
                time.sleep(_NAP)

    def write(self, data: bytes) -> None:
        """Feed standard input. Raises what ``wait`` raises when the program has ended."""
        assert self._child.stdin is not None, "the command was not started with feeds=True"
        view = memoryview(data)
        handle = self._child.stdin.fileno()
        try:
            while view:
                view = view[os.write(handle, view) :]
        except BrokenPipeError:
            self.wait()
            raise ToolFailed(f"{self.command.name} on this host ended before it had read everything.") from None

    def close_input(self) -> None:
        """No more input follows."""
        if self._child.stdin is not None and not self._child.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()

    def wait(self) -> Completed:
        """Wait for the end and check the exit status."""
        if isinstance(self._ended, BackupError):
            raise self._ended
        if self._ended is not None:
            return self._ended
        self.close_input()
        if not self.command.feeds or self.command.converses:
            self._keep_stdout()
        status = self._child.wait()
        for thread in self._threads:
            thread.join()
        self._close()
        if self._timed_out:
            self._ended = ToolFailed(
                f"{self.command.name} on this host was stopped after {self._timeout:.0f} s.",
                remedy="raise timeout_seconds if the work is really that long",
            )
        elif self._stopped:
            self._ended = Cancelled(f"{self.command.name} on this host was stopped with the run that started it.")
        elif status != 0:
            self._ended = diagnose.failure(
                self.command, "this host", status if status > 0 else 128 - status, bytes(self._stderr)
            )
        else:
            self._ended = Completed(bytes(self._stdout), bytes(self._stderr))
        if isinstance(self._ended, BackupError):
            raise self._ended
        return self._ended

    def kill(self) -> None:
        """End the whole session at once. Safe to repeat."""
        self._kill_group()
        self._child.wait()
        for thread in self._threads:
            thread.join(5)
        self._close()
        if self._ended is None:
            self._ended = ToolFailed(f"{self.command.name} on this host was stopped.")

    def __enter__(self) -> LocalProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        unfinished = self._ended is None
        if unfinished:
            self.kill()
        if unfinished and exc[0] is None:
            raise ToolFailed(f"{self.command.name} was left without its exit status being checked.")

    def _expire(self) -> None:
        self._timed_out = True
        self._kill_group()

    def _stop(self) -> None:
        self._stopped = True
        self._kill_group()

    def _kill_group(self) -> None:
        with self._lock:
            if self._child.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._child.pid, signal.SIGKILL)

    def _keep_stderr(self) -> None:
        assert self._child.stderr is not None
        while data := os.read(self._child.stderr.fileno(), 65536):
            self._stderr += data
            del self._stderr[: -diagnose.TAIL]

    def _keep_stdout(self) -> None:
        assert self._child.stdout is not None
        while data := os.read(self._child.stdout.fileno(), CHUNK):
            if len(self._stdout) < OUTPUT_LIMIT:
                self._stdout += data

    def _close(self) -> None:
        self._forget()
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:  # one thread may wait while another kills: neither may close a number that is used anew
            handles, self._life, self._gate = (self._life, self._gate), -1, -1
        for handle in handles:
            if handle >= 0:
                os.close(handle)
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class LocalRunner:
    """Programs on this host.

    Args:
        path: Directories to look in before PATH.
    """

    def __init__(self, path: Iterable[str] = ()) -> None:
        self._path = os.pathsep.join([*path, os.environ.get("PATH", os.defpath)])

    def describe(self) -> str:
        return "this host"

    def find(self, names: Iterable[str]) -> str | None:
        """Path of the first of these programs, or None."""
        return next((found for name in names if (found := shutil.which(name, path=self._path))), None)

    def start(self, command: Command, *, timeout: float | None = None) -> LocalProcess:
        """Start a program. Raises ToolMissing."""
        program = self.find([command.argv[0]])
        if program is None:
            raise ToolMissing(
                f"{command.name} is not on this host.",
                remedy=f"install it, or set tools_path to the directory that holds {command.argv[0]}",
            )
        env = diagnose.environment(os.environ, {"PATH": self._path, **command.env})
        return LocalProcess(command, [program, *command.argv[1:]], env, timeout)

    def run(self, command: Command, *, input: bytes = b"", timeout: float | None = 60.0) -> Completed:
        """Start, feed, wait."""
        with self.start(command, timeout=timeout) as process:
            if command.feeds:
                process.write(input)
                process.close_input()
            process.open_gate()
            return process.wait()


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    return _out_of_the_way(reading), writing


def _out_of_the_way(handle: int) -> int:
    """The same file under a number that the shell's own redirections (0 to 9) do not touch."""
    moved = fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(handle)
    return moved


def _memory_file(name: str, text: str) -> int:
    handle = _out_of_the_way(os.memfd_create(name))
    os.fchmod(handle, 0o600)  # clients refuse option files that others may write
    os.write(handle, text.encode())
    return handle


def _with_files(part: str, files: dict[str, int]) -> str:
    for name, handle in files.items():
        part = part.replace("{" + name + "}", f"/proc/self/fd/{handle}")
    return part
