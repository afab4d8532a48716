"""One run of a command: its site, what it writes, and how it ends.

A command is a function that takes a ``Run`` and its own options, and gives an ``Outcome``. ``command``
adds the options that every command has (``-f``, ``--json``, ``--quiet``, ``--debug``) and turns every
way it can end into a message, one JSON document and an exit code.
"""

from __future__ import annotations

import inspect
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from deployments.cli import exits
from deployments.cli.rows import pieces
from deployments.cli.terminal import Terminal
from engine.errors import BackupError, Thawing, in_words

if TYPE_CHECKING:
    from engine.config import SiteConfig
    from engine.site import Site

SiteFile = Annotated[
    str | None,
    typer.Option(
        "--file",
        "-f",
        metavar="SITE.yaml",
        show_default=False,
        help="The site file, or the name of a shipped site. Default: $BACKUPS_SITE, or the only site file here.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


Wait = Annotated[bool, typer.Option("--wait", help="Where a backup is in cold storage: wait for its thaw, then go on.")]
THAW_POLL_SECONDS = float(os.environ.get("BACKUPS_THAW_POLL_SECONDS", "60"))


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


@dataclass
class Outcome:
    """How a command ended: facts for scripts, and the errors that it went on after.

    Attributes:
        facts: Goes into the JSON document.
        code: Exit code; ``exits.of`` the first error when 0 and there are errors.
        errors: Already shown to a person.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    code: int = exits.OK
    errors: list[BackupError] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return self.code or (exits.of(self.errors[0]) if self.errors else exits.OK)


@dataclass
class Run:
    """What a command works with."""

    name: str
    file: str | None
    json: bool
    debug: bool
    out: Terminal
    sweeps: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def config(self) -> SiteConfig:
        """The site file, read; weak keys are warned about. Raises ConfigError."""
        from deployments import site_file

        config = site_file.load(self.site_path())
        for warning in site_file.warnings(config):
            self.warn(warning)
        return config

    def warn_if_untold(self, config: SiteConfig) -> None:
        """Say so where nobody would hear of failures."""
        from deployments import site_file

        if told := site_file.untold(config):
            self.warn(told)

    def site_path(self) -> Path:
        """The site file that is meant. Raises ConfigError."""
        from deployments import site_file

        return site_file.find(self.file)

    @contextmanager
    def site(self, *, sweep: bool = False, thaw: bool = False) -> Iterator[Site]:
        """The site, opened; ``sweep`` first puts right what a dead run left, ``thaw`` lets what is read from cold
        storage be asked for. Raises ConfigError."""
        from engine.cold.thaw import Thaw
        from engine.site import Site

        with Site(self.config()) as site:
            if thaw:
                site.vault.thaw = Thaw()
            if sweep:
                self.sweep(site)
            yield site

    def sweep(self, site: Site, *, replicas: bool = True) -> None:
        """Put right what a dead run left; see ``Site.sweep``."""
        swept = site.sweep(replicas)
        self.sweeps += swept.done
        for line in swept.done:
            self.out.tell(f"left by an earlier run: {line}")
        for line in swept.problems:
            self.warn(line)

    def warn(self, text: str) -> None:
        """Tell a person, and the JSON document."""
        self.warnings.append(text)
        self.out.warn(text)

    @property
    def can_ask(self) -> bool:
        """Is there a person at a terminal?"""
        return not self.json and sys.stdin.isatty() and sys.stderr.isatty()

    def ask(self, question: str) -> str:
        """What a person at a terminal types; empty for a script, which must have said it with an option."""
        if not self.can_ask:
            return ""
        return str(typer.prompt(question, default="", show_default=False, err=True)).strip()

    def refuse(self, error: BackupError, *, about: str = "") -> BackupError:
        """Show an error that the command goes on after."""
        self.out.error(error, about=about)
        return error

    def foresee(self, failure: Exception, what: str) -> BackupError:
        """Words for whatever went wrong with one thing of several; the others are gone on with."""
        if self.debug and not isinstance(failure, BackupError):
            traceback.print_exception(failure)
        return in_words(failure, what)


Command = Callable[..., Outcome]
Wrapped = TypeVar("Wrapped", bound=Command)


def command(
    app: typer.Typer,
    name: str,
    *,
    example: str,
    stopped: str = "nothing was changed",
    panel: str = "Straight on the engine",
    group: str = "",
    waits: bool = False,
) -> Callable[[Wrapped], Wrapped]:
    """Register a command.

    Args:
        example: Command lines for its help, one a line.
        stopped: What is safe when it is stopped by Ctrl-C.
        group: The command that it is a part of.
        waits: It may read from cold storage: it gets the option ``--wait``, with which it is tried again until the
            thaw is over.
    """

    def register(function: Wrapped) -> Wrapped:
        def run(
            *, site_file: str | None, json_: bool, quiet: bool, debug: bool, wait: bool = False, **options: Any
        ) -> None:
            out = Terminal(quiet=quiet, silent=json_)
            started = Run(f"{group} {name}".strip(), site_file, json_, debug, out)
            work = waiting(function, started) if wait else function
            raise typer.Exit(_end(started, work, options, stopped))

        own = inspect.signature(function, eval_str=True)
        parameters = [each for each in own.parameters.values() if each.annotation is not Run]
        shared = [
            ("site_file", SiteFile, None),
            ("json_", Json, False),
            ("quiet", Quiet, False),
            ("debug", Debug, False),
            *([("wait", Wait, False)] if waits else []),
        ]
        parameters += [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for key, annotation, default in shared
        ]
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        )
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        run.__doc__ = _paragraphs(function.__doc__ or "")
        lines = [line.strip() for line in example.strip().splitlines()]
        epilog = "\n\n".join(["Examples:" if len(lines) > 1 else "Example:", *lines])
        app.command(name, epilog=epilog, rich_help_panel=panel)(run)
        return function

    return register


def waiting(function: Command, run: Run) -> Command:
    """The command, done again while what it reads is being thawed."""

    def work(*arguments: Any, **options: Any) -> Outcome:
        while True:
            try:
                outcome = function(*arguments, **options)
            except Thawing as error:
                first: BackupError = error
            else:
                thawing = [each for each in outcome.errors if isinstance(each, Thawing)]
                if not thawing:
                    return outcome
                first = thawing[0]
            run.out.tell(f"waiting: {first.message}")
            time.sleep(THAW_POLL_SECONDS)

    return work


def _paragraphs(text: str) -> str:
    """A docstring with a line a paragraph, so that help wraps it to the terminal."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _end(run: Run, function: Command, options: dict[str, Any], stopped: str) -> int:
    """Run a command to whatever end it comes to; its exit code."""
    try:
        outcome = function(run, **options)
    except BackupError as error:
        if run.debug:
            traceback.print_exc()
        run.out.error(error)
        outcome = Outcome(errors=[error])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        return exits.FAILED
    except (KeyboardInterrupt, typer.Abort) as interrupt:
        code = exits.TERMINATED if isinstance(interrupt, Terminated) else exits.STOPPED
        outcome = Outcome(code=code, errors=[_stopped(run, stopped)])
    except Exception as failure:
        if run.debug:
            traceback.print_exc()
        outcome = Outcome(code=exits.FAILED, errors=[_unforeseen(run, failure)])
    if run.json:
        for piece in document(run, outcome):
            sys.stdout.write(piece)
        print()
    return outcome.exit_code


def _stopped(run: Run, kept: str) -> BackupError:
    remedy = "run it again; the next run clears what is left"
    return run.refuse(BackupError(f"{run.name} was stopped.", kept=kept, remedy=remedy))


def _unforeseen(run: Run, failure: Exception) -> BackupError:
    """Only the kind of a failure that nobody put into words: its text could hold anything."""
    return run.refuse(in_words(failure, run.name))


def document(run: Run, outcome: Outcome) -> Iterator[str]:
    """What ``--json`` prints, in pieces."""
    code = outcome.exit_code
    body: dict[str, Any] = {"command": run.name, "ok": code == exits.OK, "exit_code": code, **outcome.facts}
    body["warnings"] = run.warnings
    if run.sweeps:
        body["swept"] = run.sweeps
    if outcome.errors:
        body["error"] = exits.describe(outcome.errors[0])
        body["errors"] = [exits.describe(each) for each in outcome.errors]
    return pieces(body)
