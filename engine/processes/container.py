"""Programs inside a container, through the Docker engine's exec: no TTY, streams kept apart.

The same small shell as on this host stands between. A program that only writes is watched through its
own standard input: the engine closes that when our connection goes, and the guard ends the group. A
program that reads from us sees the end of its input. Secret files exist unlinked, on an open handle.
"""

from __future__ import annotations

import contextlib
import queue
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import docker.errors
import requests.exceptions

from engine.errors import BackupError, Cancelled, ToolFailed, Unreachable
from engine.processes import diagnose
from engine.processes.base import CHUNK, Command, Completed
from engine.stopping import on_stop

OUTPUT_LIMIT = 16 * 1024 * 1024
_SEND = 256 * 1024
_END = re.compile(rb"backup-flows-end (\d+)\n$")
_MARK = b"backup-flows-pid "
# Ends a process group but for its leader, our wrapper, which must live to reap what dies. An orphan would
# fall to the container's first process, and where that is the postmaster it takes an unknown child that a
# signal killed for a crashed backend: it ends every session of the server and goes through recovery.
_END_GROUP = r"""
signal_group() {
  found=
  read -r me _ </proc/self/stat
  for stat in /proc/[0-9]*/stat; do
    read -r line 2>/dev/null <"$stat" || continue
    pid=${line%% *}; set -- "$1" "$2" ${line##*) }
    if [ "$5" = "$2" ] && [ "$pid" != "$2" ] && [ "$pid" != "$me" ] && [ "$3" != Z ]; then
      found=yes; kill "-$1" "$pid" 2>/dev/null
    fi
  done
  [ -n "$found" ]
}
end_group() {
  tries=0
  while signal_group TERM "$1" && [ "$tries" -lt 20 ]; do tries=$((tries + 1)); sleep 0.1; done
  while signal_group KILL "$1" && [ "$tries" -lt 40 ]; do tries=$((tries + 1)); sleep 0.1; done
}
"""
_WRAPPER = (
    _END_GROUP
    + r"""
# Nothing is said before we are asked to start: what came together with the engine's own answer would be
# lost in the buffer of the HTTP client that read that answer.
read -r _ || exit 125
echo "backup-flows-pid $$" >&2
mode=$1; gate=$2; files=$3; shift 3
umask 077
handle=10
for name in $files; do
  handle=$((handle + 1))
  path=/dev/shm; [ -w "$path" ] || path=/tmp
  path=$path/.backup-flows-$$-$name
  eval 'printf %s "$BF_FILE_'"$name"'"' >"$path" || exit 125
  eval "exec $((handle - 8))<\"\$path\""
  rm -f "$path"
  unset "BF_FILE_$name"
done
if [ "$gate" = gate ]; then read -r _ || exit 125; fi
if [ "$mode" = feeds ]; then
  "$@"
  status=$?
  echo "backup-flows-end $status" >&2
  exit "$status"
fi
exec 9<&0 </dev/null
"$@" 9<&- &
child=$!
( while read -r _ <&9; do :; done; end_group $$ ) >/dev/null 2>&1 &
guard=$!
exec 9<&-
wait "$child"; status=$?
kill "$guard" 2>/dev/null; wait "$guard" 2>/dev/null
echo "backup-flows-end $status" >&2
exit "$status"
"""
)


class ContainerProcess:
    """A program inside a container; see ``engine.processes.base.Process``."""

    def __init__(self, client: Any, container: Any, command: Command, timeout: float | None) -> None:
        self.command = command
        self._client = client
        self._container = container
        self._where = f"container {container.name}"
        self._ended: Completed | BackupError | None = None
        self._pid = 0
        self._exit: int | None = None
        self._stderr = bytearray()
        self._kept = bytearray()
        self._queue: queue.Queue[bytes | None] = queue.Queue(8)
        self._over = False
        self._stopping = False
        self._timed_out = self._stopped = False
        self._timeout = timeout
        names = list(command.secret_files)
        argv = [_with_files(part, names) for part in command.argv]
        try:
            self._exec = client.api.exec_create(
                container.id,
                [
                    "/bin/sh",
                    "-c",
                    _WRAPPER,
                    "sh",
                    "feeds" if command.feeds else "writes",
                    "gate" if command.gated else "open",
                    " ".join(names),
                    *argv,
                ],
                stdin=True,
                stdout=True,
                stderr=True,
                tty=False,
                environment={
                    **{f"BF_FILE_{name}": text for name, text in command.secret_files.items()},
                    "LC_ALL": "C.UTF-8",
                    "TZ": "UTC",
                    **command.env,
                },
            )["Id"]
            raw = client.api.exec_start(self._exec, socket=True, tty=False)
        except (docker.errors.APIError, requests.exceptions.RequestException) as error:
            raise Unreachable(f"{command.name} could not be started in {self._where}: {error}.") from None
        self._raw = raw
        self._socket: socket.socket = getattr(raw, "_sock", raw)
        self._socket.settimeout(None)
        self._socket.sendall(b"start\n")
        self._reader = threading.Thread(target=self._read, name="exec", daemon=True)
        self._reader.start()
        self._forget = on_stop(self._stop)
        self._timer = threading.Timer(timeout, self._expire) if timeout is not None else None
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def open_gate(self) -> None:
        """Let a gated program go on."""
        if self.command.gated:
            with contextlib.suppress(OSError):
                self._socket.sendall(b"go\n")

    def chunks(self) -> Iterator[bytes]:
        """Standard output until the program closes it."""
        while (data := self._next()) is not None:
            yield data
        self._over = True

    def _next(self) -> bytes | None:
        """The next output, or None at its end.

        The engine keeps the stream of a program that ended with input unread open for two minutes;
        for such a program, silence after its end is the end.
        """
        while not self._over:
            ended = self._exit is not None and self.command.feeds
            try:
                return self._queue.get(timeout=1.0)
            except queue.Empty:
                if ended:
                    break
        return None

    def write(self, data: bytes) -> None:
        """Feed standard input. Raises what ``wait`` raises when the program has ended."""
        assert self.command.feeds, "the command was not started with feeds=True"
        view = memoryview(data)
        try:
            while view:
                if not self._reader.is_alive() or self._exit is not None:
                    raise BrokenPipeError
                if select.select([], [self._socket], [], 1.0)[1]:
                    view = view[self._socket.send(view[:_SEND], socket.MSG_DONTWAIT) :]
        except OSError:
            self.wait()
            raise ToolFailed(f"{self.command.name} in {self._where} ended before it had read everything.") from None

    def close_input(self) -> None:
        """No more input follows."""
        if self.command.feeds:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def wait(self) -> Completed:
        """Wait for the end and check the exit status."""
        if self._ended is None:
            self.close_input()
            for data in self.chunks():
                if len(self._kept) < OUTPUT_LIMIT:
                    self._kept += data
            self._close()
            self._ended = self._outcome()
        if isinstance(self._ended, BackupError):
            raise self._ended
        return self._ended

    def kill(self) -> None:
        """End it and all it started, inside the container. Safe to repeat."""
        if self._ended is None:
            self._ended = ToolFailed(f"{self.command.name} in {self._where} was stopped.")
            self._stopping = True  # what still comes is read and thrown away: the engine waits for that
            self._kill_inside()
        self._close()

    def __enter__(self) -> ContainerProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        unfinished = self._ended is None
        if unfinished:
            self.kill()
        if unfinished and exc[0] is None:
            raise ToolFailed(f"{self.command.name} was left without its exit status being checked.")

    def _outcome(self) -> Completed | BackupError:
        status = self._status()
        words = bytes(self._stderr)
        if self._timed_out:
            return ToolFailed(
                f"{self.command.name} in {self._where} was stopped after {self._timeout:.0f} s.",
                remedy="raise timeout_seconds if the work is really that long",
            )
        if self._stopped:
            return Cancelled(f"{self.command.name} in {self._where} was stopped with the run that started it.")
        if status is None:
            return Unreachable(f"{self._where} or its engine went away while {self.command.name} ran.")
        if status != 0:
            return diagnose.failure(self.command, self._where, status, words)
        if self._exit is None:
            return Unreachable(f"The engine lost the last output of {self.command.name} in {self._where}.")
        return Completed(bytes(self._kept), words)

    def _status(self) -> int | None:
        """Exit status, or None when nobody can tell. The stream may end a moment before the engine knows it."""
        if self._exit is not None:
            return self._exit
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                state = self._client.api.exec_inspect(self._exec)
            except (docker.errors.APIError, requests.exceptions.RequestException):
                return None
            if not state["Running"] and state["ExitCode"] is not None:
                return int(state["ExitCode"])
            time.sleep(0.02)
        self._kill_inside()
        return None

    def _kill_inside(self) -> None:
        deadline = time.monotonic() + 2
        while not self._pid and self._reader.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._pid:
            with contextlib.suppress(docker.errors.APIError, requests.exceptions.RequestException):
                if not self._client.api.exec_inspect(self._exec)["Running"]:
                    return
                self._container.exec_run(["/bin/sh", "-c", f"{_END_GROUP} end_group {self._pid}"])

    def _expire(self) -> None:
        self._timed_out = True
        self._kill_inside()

    def _stop(self) -> None:
        self._stopped = True
        self._kill_inside()

    def _read(self) -> None:
        """Take the engine's frames apart: type (1 stdout, 2 stderr), three zeros, length, bytes."""
        try:
            for stream, data in _frames(self._socket):
                if stream == 2:
                    self._hear(data)
                else:
                    self._offer(data)
        except OSError:
            pass
        finally:
            self._offer(None)

    def _offer(self, data: bytes | None) -> None:
        while not self._stopping:
            try:
                return self._queue.put(data, timeout=0.5)
            except queue.Full:
                continue

    def _hear(self, data: bytes) -> None:
        self._stderr += data
        if not self._pid and self._stderr.startswith(_MARK) and b"\n" in self._stderr:
            line, _, rest = bytes(self._stderr).partition(b"\n")
            self._pid = int(line[len(_MARK) :])
            self._stderr = bytearray(rest)
        ended = _END.search(self._stderr)
        if ended:
            self._exit = int(ended[1])
            del self._stderr[ended.start() :]
        del self._stderr[: -diagnose.TAIL]

    def _close(self) -> None:
        self._stopping = True
        self._forget()
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._raw.close()
        self._reader.join(5)


class ContainerRunner:
    """Programs inside one container, run as its own user."""

    def __init__(self, client: Any, container: Any) -> None:
        self.client = client
        self.container = container

    def describe(self) -> str:
        return f"container {self.container.name}"

    def find(self, names: Iterable[str]) -> str | None:
        """Path of the first of these programs inside the container, or None."""
        script = 'for name in "$@"; do command -v "$name" && exit 0; done; exit 0'
        found = self.run(Command(("/bin/sh", "-c", script, "sh", *names))).text
        return found.splitlines()[0] if found else None

    def start(self, command: Command, *, timeout: float | None = None) -> ContainerProcess:
        """Start a program; one that is missing shows at ``wait`` as ToolMissing."""
        return ContainerProcess(self.client, self.container, command, timeout)

    def run(self, command: Command, *, input: bytes = b"", timeout: float | None = 60.0) -> Completed:
        """Start, feed, wait."""
        with self.start(command, timeout=timeout) as process:
            process.open_gate()
            if command.feeds:
                process.write(input)
            return process.wait()


def _with_files(part: str, names: list[str]) -> str:
    """``{name}`` becomes the handle on which the wrapper opened that file (3, 4...)."""
    for index, name in enumerate(names):
        part = part.replace("{" + name + "}", f"/dev/fd/{index + 3}")
    return part


def _frames(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Frames of the attach protocol; neighbouring stdout frames are joined up to CHUNK."""
    buffer = bytearray()
    view = memoryview(bytearray(CHUNK))
    pending: list[bytes] = []
    held = 0
    while True:
        got = connection.recv_into(view)
        if not got:
            break
        buffer += view[:got]
        at = 0
        while len(buffer) - at >= 8:
            stream, length = buffer[at], struct.unpack_from(">I", buffer, at + 4)[0]
            if len(buffer) - at - 8 < length:
                break
            data = bytes(memoryview(buffer)[at + 8 : at + 8 + length])
            at += 8 + length
            if stream == 2:
                yield 2, data
            else:
                pending.append(data)
                held += length
        del buffer[:at]
        if held:
            yield 1, b"".join(pending)
            pending, held = [], 0
