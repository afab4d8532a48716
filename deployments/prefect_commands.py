"""What the command line's ``apply``, ``up`` and ``down`` do. Prefect is only imported inside.

Which server: the one of ``PREFECT_API_URL`` where that is set, else the local one that ``up`` started.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.server import LocalServer, default_home
from engine.errors import BackupError, ConfigError, CredentialsRefused, UnknownName, Unreachable, nearest

if TYPE_CHECKING:
    from deployments.report import ApplyReport, Echo


@dataclass(frozen=True)
class Running:
    """A local server that is up.

    Attributes:
        url: Address of the UI.
        login: ``user:password`` for it.
        env_file: File to source, so that ``prefect`` and ``backups apply`` talk to this server.
    """

    url: str
    login: str
    env_file: Path
    server_pid: int
    worker_pid: int


def up(home: Path | None = None, port: int = 4200) -> Running:
    """Start a local server and worker, or find them running.

    Args:
        home: Directory of the server; by default under the user's state directory.
        port: Port on the loopback; 0 for any free one.
    """
    local = LocalServer(home or default_home()).start(port)
    return Running(local.url, local.auth, local.home / "client.env", local.server.pid() or 0, local.worker.pid() or 0)


def down(home: Path | None = None) -> list[str]:
    """Stop what ``up`` started, and only that; gives the names of what was running."""
    return LocalServer(home or default_home()).stop()


def alert(site_file: Path, name: str = "", home: Path | None = None) -> dict[str, BackupError | None]:
    """Send a test message to the addresses of a site, or to one of them; gives for each, by block, why not.

    Raises:
        UnknownName: The site has no such alert. And what asking the server raises, in words.
    """
    from deployments import site_file as site_files

    site = site_files.load(site_file)
    with _asking(home or default_home()):
        return _sent(site.site, name)


def _sent(site: str, name: str) -> dict[str, BackupError | None]:
    from blocks import load_alerts
    from tasks.alerts import deliver

    known = [address for address, _ in load_alerts(site)]
    chosen = [each for each in known if not name or each.endswith(f"-alert-{name}")]
    if not chosen:
        ours = [each.rpartition("-alert-")[2] for each in known]
        hint = nearest(name, ours) if ours else "Name some in the site file under alerts, and run: backups apply"
        raise UnknownName(f"Site {site} has no alert {name!r}." if name else f"Site {site} has no alerts.", remedy=hint)
    done: dict[str, BackupError | None] = {}
    for address in chosen:
        try:
            deliver(address, f"[test] {site}: this is a test", f"Alerts about the backups of {site} come here.")
            done[address] = None
        except BackupError as error:
            done[address] = error
    return done


def apply(site_file: Path, force: bool = False, echo: Echo = print, home: Path | None = None) -> ApplyReport:
    """Set a site up on the Prefect server.

    Args:
        site_file: The site's YAML file.
        force: Also undo edits that were made in the UI.
        echo: Gets a line for everything that changes.
        home: Local server to use where ``PREFECT_API_URL`` is not set.

    Raises:
        ConfigError: The site file is wrong, or no server is set up. Unreachable, CredentialsRefused.
    """
    from deployments import site_file as site_files

    site = site_files.load(site_file)
    with _asking(home or default_home()):
        from deployments.apply import apply_site

        return apply_site(site, text=Path(site_file).read_text(encoding="utf-8"), force=force, echo=echo)


@contextlib.contextmanager
def _asking(home: Path) -> Iterator[None]:
    """What a server that is not there, or refuses, comes to. Raises ConfigError, CredentialsRefused, Unreachable."""
    _choose_server(home)
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    address = os.environ["PREFECT_API_URL"]
    try:
        yield
    except PrefectHTTPStatusError as error:
        if error.response.status_code in {401, 403}:
            raise CredentialsRefused(
                f"The Prefect server at {address} refused the login.",
                remedy="set PREFECT_API_AUTH_STRING=user:password",
            ) from None
        raise
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise Unreachable(f"No Prefect server answers at {address}.", remedy="start one with: backups up") from None


def _choose_server(home: Path) -> None:
    """Must run before Prefect is imported: it reads its settings then."""
    if os.environ.get("PREFECT_API_URL"):
        return
    local = LocalServer(home)
    if local.server.pid() is None:
        raise ConfigError(
            "No Prefect server is set up here: PREFECT_API_URL is not set and none was started.",
            remedy="start one with: backups up",
        )
    os.environ.update(local.client_env())
