"""What people see: colour and bars on a terminal, plain lines elsewhere, nothing at all for ``--json``.

Results go to standard output; progress, warnings and errors go to standard error.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine import names
from engine.errors import BackupError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_MOST_DRAWN = 5_000  # rows; a drawn table of more takes minutes
_WIDE = 240  # columns for a table that no terminal shows: never cut a name short in a pipe


class Terminal:
    """Writes for a person.

    Args:
        quiet: Only errors.
        silent: A script reads standard output (``--json``): nothing but errors, and these only when
            they cannot go into the document.
    """

    def __init__(self, *, quiet: bool = False, silent: bool = False) -> None:
        self.quiet = quiet or silent
        self.silent = silent
        self._consoles: dict[bool, Console] = {}

    def console(self, *, error: bool = False) -> Console:
        """The rich console of a stream. Colour only on a terminal; NO_COLOR is respected by rich."""
        if error not in self._consoles:
            from rich.console import Console

            stream = sys.stderr if error else sys.stdout
            width = None if stream.isatty() else _WIDE
            self._consoles[error] = Console(stderr=error, highlight=False, markup=False, emoji=False, width=width)
        return self._consoles[error]

    def say(self, text: str, style: str = "") -> None:
        """A line of the result."""
        if not self.quiet:
            self.console().print(text, style=style or None, soft_wrap=True)

    def tell(self, text: str) -> None:
        """A line about what is going on."""
        if not self.quiet:
            self.console(error=True).print(text, style="dim", soft_wrap=True)

    def warn(self, text: str) -> None:
        """Something a person should know."""
        if not self.quiet:
            self.console(error=True).print(f"Warning: {text}", style="yellow", soft_wrap=True)

    def error(self, error: BackupError, *, about: str = "") -> None:
        """An error: what failed, what is safe, what to do."""
        if self.silent:
            return
        console = self.console(error=True)
        console.print(f"Error: {about}{error.message.rstrip()}", style="bold red", soft_wrap=True)
        if error.kept:
            console.print(f"Kept safe: {error.kept}", style="green", soft_wrap=True)
        if error.remedy:
            console.print(f"Next: {error.remedy}", style="cyan", soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """A table; columns in ``right`` (by index) hold figures."""
        if self.quiet:
            return
        if len(rows) > _MOST_DRAWN:
            self._plain(columns, rows, right)
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False, header_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, justify="right" if index in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.console().print(table)

    def _plain(self, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> None:
        """What is too long to be drawn: a line a row, as wide as it is."""
        widths = [max(len(each[index]) for each in (columns, *rows)) for index in range(len(columns))]
        for row in (columns, *rows):
            cells = [
                cell.rjust(width) if index in right else cell.ljust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            sys.stdout.write("  ".join(cells).rstrip() + "\n")

    @contextmanager
    def progress(self) -> Iterator[Steps]:
        """Listen to the engine's progress while something long is done."""
        if self.quiet:
            yield Steps()
        elif not sys.stderr.isatty():
            yield Lines(self)
        else:
            with _bars(self.console(error=True)) as bars:
                yield BarSteps(bars)


class Steps:
    """An ``engine.progress.Progress`` that shows nothing. Called from any thread."""

    def __call__(self, step: str, done: int, total: int | None = None) -> None:
        """Told by the engine."""


class Lines(Steps):
    """A line when a step begins: for logs. Threads that work side by side have steps of their own."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._thread = threading.local()

    def __call__(self, step: str, done: int, total: int | None = None) -> None:
        if step != getattr(self._thread, "step", ""):
            self._thread.step = step
            self._terminal.tell(step)


class BarSteps(Steps):
    """A bar a step."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._guard = threading.Lock()

    def __call__(self, step: str, done: int, total: int | None = None) -> None:
        with self._guard:
            if step not in self._tasks:
                self._tasks[step] = self._bars.add_task(step, total=total)
        self._bars.update(self._tasks[step], completed=done, total=total)


def _bars(console: Console) -> Bars:
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeElapsedColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        refresh_per_second=5,
    )


def size(count: int) -> str:
    """Bytes for people: ``1.2 GB`` (powers of ten)."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def moment(at: datetime) -> str:
    """A time in UTC and, where that is another, in this machine's zone."""
    return names.both_zones(at) if at.astimezone().utcoffset() else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def age(seconds: float) -> str:
    """How long ago, for people."""
    for limit, unit, step in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / step:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
