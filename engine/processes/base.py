"""Client programs: what to run, where, and what is known when it ends.

A ``Runner`` is a place where programs run: this host, or inside a container. A ``Process`` that was
started is always ended: by ``wait`` (exit status checked) or by ``kill`` (its whole process group).
What runs never outlives us: a lifeline (a pipe, or the exec's own connection) kills it when this
process dies, however it dies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

CHUNK = 1024 * 1024
GATHERED = 256 * 1024


def gathered(chunks: Iterable[bytes], size: int = GATHERED) -> Iterator[bytes]:
    """The same bytes in fewer chunks, of at most ``size`` where those that came were smaller.

    A client writes to its pipe in small pieces; what is done once a piece is then done less often.
    The first chunk passes at once: somebody may wait for the sign of life.
    """
    waiting: list[bytes] = []
    length = 0
    first = True
    for chunk in chunks:
        if first or length + len(chunk) > size:
            if waiting:
                yield b"".join(waiting)
            waiting, length = [], 0
            if first:
                first = False
                yield chunk
                continue
        waiting.append(chunk)
        length += len(chunk)
    if waiting:
        yield b"".join(waiting)


@dataclass(frozen=True)
class Command:
    """One program to run.

    Attributes:
        argv: Program and arguments. Never holds a secret.
        env: Added to the place's environment; secrets go here (or into ``secret_files``).
        secret_files: Files (0600, removed at the end) made where the program runs, by placeholder name;
            ``{name}`` in ``argv`` becomes their path. For ``--defaults-extra-file={my_cnf}``.
        feeds: The program reads its standard input from us (``Process.write``). Without it, standard
            input is empty.
        converses: With ``feeds``: its output is read with ``chunks`` by another thread while it is fed.
        gated: The program starts (its start-up cost paid) but waits for ``Process.open_gate``.
        title: What to call it in messages; the program's name when empty.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secret_files: Mapping[str, str] = field(default_factory=dict)
    feeds: bool = False
    converses: bool = False
    gated: bool = False
    title: str = ""

    @property
    def name(self) -> str:
        return self.title or self.argv[0].rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Completed:
    """A program that ended well: what it printed."""

    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "replace").strip()


class Process(Protocol):
    """A running program.

    Context manager: leaving it on an exception kills; leaving it normally without having waited
    kills too and raises, so that no exit status goes unchecked.
    """

    def open_gate(self) -> None:
        """Let a gated program go on."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Its standard output, in chunks of at most CHUNK bytes, until it closes it.

        Says nothing about success: the caller must ``wait``.
        """
        ...

    def write(self, data: bytes) -> None:
        """Feed its standard input (``feeds``), blocking while it is slow.

        Raises:
            ToolFailed: It ended before it had read everything; its own words are in the message.
        """
        ...

    def close_input(self) -> None:
        """Say that no more input follows."""
        ...

    def wait(self) -> Completed:
        """Wait for the end and check it. ``stdout`` holds what ``chunks`` did not consume.

        Raises:
            ToolFailed: Exit status not 0, with the tail of stderr.
            Unreachable, CredentialsRefused, MissingGrant, WrongTool...: where the client's own words
                make plain that this is the reason (see ``engine.processes.diagnose``).
        """
        ...

    def kill(self) -> None:
        """End it and everything it started, at once, where it runs. Safe to repeat."""
        ...

    def __enter__(self) -> Process: ...

    def __exit__(self, *exc: object) -> None: ...


class Runner(Protocol):
    """A place where client programs run."""

    def describe(self) -> str:
        """``this host``, or ``container workbench-postgres``."""
        ...

    def find(self, names: Iterable[str]) -> str | None:
        """Path of the first of these programs that exists there, or None."""
        ...

    def start(self, command: Command, *, timeout: float | None = None) -> Process:
        """Start a program.

        Args:
            timeout: Seconds from now after which it is killed and ``wait`` raises ToolFailed.

        Raises:
            ToolMissing: The program is not there.
        """
        ...

    def run(self, command: Command, *, input: bytes = b"", timeout: float | None = 60.0) -> Completed:
        """Start, feed, wait. For short commands. Output is limited to 16 MiB."""
        ...
