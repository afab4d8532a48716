"""A throwaway MySQL or MariaDB server on which a full backup is rolled forward.

It writes no binary log, starts no event and no replication, and nothing leads out of it: on this host it
has a socket only, in a container its network ends at this machine. Its one administrator has a name and a
password that nobody else has, so that account statements of the replayed logs never shut us out; every
other account of a fresh server is dropped, so that those of the source can take their places.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from pydantic import SecretStr

from engine.config import MySQLConfig
from engine.errors import BackupError, ConfigError, ToolFailed, ToolMissing, Unreachable, WrongTool
from engine.journal import Journal
from engine.manifest import Server
from engine.mysql.connection import literal, query, value
from engine.mysql.server import MySQLSource
from engine.mysql.tools import version_tuple
from engine.processes import Command
from engine.processes.local import LocalRunner
from engine.scratch import boxed, here, leftovers, room
from engine.site import Site

_SYSTEM_USER = "mysql"
_SYSTEM_ACCOUNTS = frozenset({"mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema", "PUBLIC", ""})
_READY_SECONDS = 180.0
_SERVERS = {"mariadb": ("mariadbd", "mysqld"), "mysql": ("mysqld",)}
_WORDS = {"mariadb": "MariaDB", "mysql": "MySQL"}
_ZONES = "/usr/share/zoneinfo"
_SERVER_ID = 4294967291
_ROOM = 2
"""A loaded database takes about this many times the bytes of its dump."""
RELAY = "scratch-relay"
"""How relay logs are called: ``scratch-relay.000001``."""


@dataclass(frozen=True)
class Settings:
    """What a scratch server may be told.

    Attributes:
        place: ``auto`` takes a container where the source is in one, else a server on this host.
        image: Of the container; empty for the one that the site file names, else that the source's container runs.
        work_directory: Where the private instance's directory is made; None: where the site file says, else the
            vault's state directory, or a temporary one where the server's user cannot reach that.
        time_zone: TZ of its process, as the source's: statements in a log may lean on it. None takes that
            of the source's container, or ours.
        buffer_pool: innodb_buffer_pool_size.
        lower_case_table_names: As on the source; None asks the source, and where it is down takes the default.
        options: More options of the server, such as ``--innodb-page-size=32k``.
    """

    place: Literal["auto", "local", "container"] = "auto"
    image: str = ""
    work_directory: Path | None = None
    time_zone: str | None = None
    buffer_pool: str = "256M"
    lower_case_table_names: int | None = None
    options: tuple[str, ...] = field(default=())


class _Place(Protocol):
    """Where a scratch server runs."""

    @property
    def alive(self) -> bool: ...

    def last_words(self) -> str: ...


@dataclass
class Scratch:
    """A running scratch server.

    Attributes:
        config: With which an ordinary MySQLSource reaches it.
        source: Such a source.
        work: A private directory for journals of work on it. They must stand nowhere else: a sweep would
            apply what they say to the configured server of that name.
    """

    config: MySQLConfig
    source: MySQLSource
    work: Path
    _place: _Place

    @property
    def flavour(self) -> str:
        return self.source.flavour

    def put(self, name: str, chunks: Iterable[bytes]) -> int:
        """A new file in the data directory, as the server's own, in constant memory; its size.

        Raises:
            DiskFull, ToolFailed, Unreachable.
        """
        data = str(value(self.source.session, "SELECT @@datadir"))
        if isinstance(self._place, here.HostServer):
            path = Path(data) / name
            size = here.write_file(path, chunks)
            self._place.give(path)
            return size
        script = 'umask 077; set -C; cat >"$1/$2" && chown "$(stat -c %u:%g "$1")" "$1/$2"'
        command = Command(("/bin/sh", "-c", script, "sh", data.rstrip("/"), name), feeds=True, title=f"writing {name}")
        size = 0
        with self.source.runner.start(command, timeout=self.config.timeout_seconds) as process:
            for chunk in chunks:
                process.write(chunk)
                size += len(chunk)
            process.close_input()
            process.wait()
        return size

    def refuse_without_room(self, what: str, dumps: int, logs: int = 0) -> None:
        """Raises DiskFull, unless so many bytes of dumps can be loaded here, and so many of logs be laid beside."""
        data = str(value(self.source.session, "SELECT @@datadir"))
        room.refuse_without(dumps * _ROOM + logs, room.free_there(self.source.runner, data), what, data)

    def of_another_series(self, made: Server) -> str:
        """``restored on 11.4.2, taken from 10.11.6``, where the server that something came from is of another series:
        what loads here may not load there. Empty where it is of the same."""
        if not made.version or version_tuple(made.version)[:2] == self.source.version[:2]:
            return ""
        words = [self.source.version_text, made.version]
        return "restored on {}, taken from {}".format(*(each.split("-")[0] for each in words))

    def load_time_zones(self) -> None:
        """Fill the tables of named time zones, from the zone files of the place where the server runs.

        Raises:
            ToolMissing: That place has no such program. ToolFailed: or no zone files.
        """
        names = ("mariadb-tzinfo-to-sql", "mysql_tzinfo_to_sql")
        runner = self.source.runner
        program = runner.find(names)
        if program is None:
            raise ToolMissing(f"A replayed statement names a time zone, and {names[-1]} is not on {runner.describe()}.",
                              remedy="install tzdata and the server's package there")  # fmt: skip
        argv = (program, *(["--skip-write-binlog"] if "mariadb" in program else []), _ZONES)
        client = self.source.client_command(["--force"], database="mysql")
        with runner.start(Command(argv), timeout=600) as zones, runner.start(client, timeout=600) as loader:
            for chunk in zones.chunks():
                loader.write(chunk)
            zones.wait()
            loader.close_input()
            loader.wait()

    def last_words(self) -> str:
        """The end of the server's own log."""
        return self._place.last_words()

    @property
    def alive(self) -> bool:
        return self._place.alive


@contextlib.contextmanager
def open_scratch(site: Site, source: str, server: Server, settings: Settings | None = None) -> Iterator[Scratch]:
    """A scratch server fit for what came from ``source``; gone when the block is left, however it is left.

    Args:
        server: The server that the full backup was taken from, as its manifest says.

    Raises:
        ConfigError: Neither this host nor a container engine has a fitting server; says what to set.
        ToolFailed, Unreachable, UnknownName: It could not be made or does not start.
    """
    config = site.config.source(source)
    if not isinstance(config, MySQLConfig):
        raise ConfigError(f"{source} is no MySQL or MariaDB server.")
    chosen = _as_the_source(site, source, _as_the_site_says(config, settings or Settings()))
    with leftovers.held(site.vault.state, source, "mysql") as journal, contextlib.ExitStack() as held:
        start = _boxed if _in_container(config, chosen) else _on_this_host
        scratch = start(journal, held, site, config, server, chosen)
        held.callback(scratch.source.close)
        yield scratch


def _as_the_site_says(config: MySQLConfig, settings: Settings) -> Settings:
    """Where nobody said otherwise."""
    image, directory = settings.image, settings.work_directory
    return replace(settings, image=image or config.scratch_image, work_directory=directory or config.scratch_parent)


def _as_the_source(site: Site, source: str, settings: Settings) -> Settings:
    """Whether names of tables know cases cannot be changed later, and no backup says it: ask, while it lives."""
    if settings.lower_case_table_names is not None:
        return settings
    with contextlib.suppress(BackupError):
        asked = site.source(source)
        assert isinstance(asked, MySQLSource)
        with contextlib.closing(asked.connect(patience=5)) as session:
            return replace(settings, lower_case_table_names=int(value(session, "SELECT @@lower_case_table_names")))
    return settings


def _in_container(config: MySQLConfig, settings: Settings) -> bool:
    if settings.place != "auto":
        return settings.place == "container"
    return bool(settings.image or config.container or config.service)


def _boxed(
    journal: Journal, held: contextlib.ExitStack, site: Site, config: MySQLConfig, server: Server, settings: Settings
) -> Scratch:
    image, environment = settings.image, dict[str, str]()
    if not image:
        image, environment = boxed.image_of(config, site.name)
    password = secrets.token_urlsafe(24)
    time_zone = settings.time_zone if settings.time_zone is not None else environment.get("TZ", "")
    # No zone tables at first: they take seconds, and are made when a statement asks for one.
    variables = {"MYSQL_ROOT_PASSWORD": password, "MARIADB_ROOT_PASSWORD": password, "MYSQL_INITDB_SKIP_TZINFO": "1",
                 "MARIADB_INITDB_SKIP_TZINFO": "1", **({"TZ": time_zone} if time_zone else {})}  # fmt: skip
    box = boxed.ContainerServer(journal, config.docker_host, image, _options(settings), variables)
    held.callback(box.close)
    work = leftovers.make_directory(journal, leftovers.journals(site.vault.state))
    reached = config.model_copy(update=_OWN_WAYS | {
        "user": "root", "password": SecretStr(password), "container": box.name, "service": None, "project": None,
    })  # fmt: skip
    scratch = _ready(box, reached, site.name, work)
    if scratch.flavour != server.flavour:
        scratch.source.close()
        raise WrongTool(
            f"The scratch server of image {image} is {_WORDS[scratch.flavour]}, not {_WORDS[server.flavour]}.",
            remedy=f"name an image of {_WORDS[server.flavour]}: scratch_image of {config.name} in the site file",
        )
    return scratch


def _on_this_host(
    journal: Journal, held: contextlib.ExitStack, site: Site, config: MySQLConfig, server: Server, settings: Settings
) -> Scratch:
    program = _program(config, server)
    host = here.HostServer(journal, here.parents(settings.work_directory, site.vault.state), _SYSTEM_USER)
    held.callback(host.kill)
    data = host.directory / "data"
    # A server that starts removes temporary tables from its temporary directory, other servers' too.
    environment = {"TMPDIR": str(host.folder("tmp"))}
    if settings.time_zone is not None:
        environment["TZ"] = settings.time_zone
    if server.flavour == "mariadb":
        host.folder("data")
        install = here.find_program(("mariadb-install-db", "mysql_install_db"), config.tools_path)
        if install is None:
            raise ConfigError("mariadb-install-db is not on this host.", remedy="install mariadb-server here")
        host.run([install, "--no-defaults", f"--datadir={data}", "--skip-test-db", "--skip-name-resolve",
                  "--auth-root-authentication-method=normal"], env=environment)  # fmt: skip
    else:
        host.run([program, "--no-defaults", f"--datadir={data}", "--initialize-insecure", *_at_first(settings)],
                 env=environment)  # fmt: skip
    socket = host.directory / "s"
    place = [f"--datadir={data}", f"--socket={socket}", f"--pid-file={host.directory / 'pid'}", "--skip-networking"]
    host.start([program, "--no-defaults", *place, *_options(settings)], socket.exists, environment)
    reached = config.model_copy(update=_OWN_WAYS | {
        "user": "root", "password": None, "socket": str(socket), "container": None, "service": None, "project": None,
    })  # fmt: skip
    return _ready(host, reached, site.name, leftovers.make_directory(journal, leftovers.journals(site.vault.state)))


_OWN_WAYS = {"host": "", "port": 0, "socket": None, "tls_ca": None, "databases": []}


def _program(config: MySQLConfig, server: Server) -> str:
    """The server program of this host. Raises ConfigError: none, of the other flavour, or an older one."""
    words = _WORDS[server.flavour]
    remedy = (f"install {words} {server.version.split('-')[0]} or newer here (it need not run), or name an image of it "
              f"that is on a container engine here: scratch_image of {config.name} in the site file")  # fmt: skip
    program = here.find_program(_SERVERS[server.flavour], config.tools_path)
    if program is None:
        raise ConfigError(f"This host has no {words} server to replay logs of {config.name} on.", remedy=remedy)
    text = LocalRunner([]).run(Command((program, "--no-defaults", "--version"))).text
    flavour = "mariadb" if "mariadb" in text.lower() else "mysql"
    found = version_tuple(text.partition("Ver ")[2])
    if flavour != server.flavour:
        raise ConfigError(f"{program} is not {words}'s, which logs of {config.name} need.", remedy=remedy)
    if found[:2] < version_tuple(server.version)[:2]:
        raise ConfigError(
            f"{program} is version {'.'.join(map(str, found))}, older than the server of {config.name} "
            f"({server.version}).", remedy=remedy,
        )  # fmt: skip
    return program


def _at_first(settings: Settings) -> list[str]:
    """Options that a data directory is made with, and keeps."""
    names = settings.lower_case_table_names
    return [*([f"--lower-case-table-names={names}"] if names is not None else []), *settings.options]


def _options(settings: Settings) -> list[str]:
    return [
        "--skip-log-bin", f"--server-id={_SERVER_ID}", "--replicate-same-server-id", f"--relay-log={RELAY}",
        f"--relay-log-index={RELAY}.index", "--relay-log-purge=0", "--event-scheduler=OFF",
        f"--innodb-buffer-pool-size={settings.buffer_pool}", "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=0", "--max-allowed-packet=1G", "--skip-name-resolve",
        "--performance-schema-instrument=%=OFF",  # MySQL tells its appliers' errors there
        "--loose-mysqlx=OFF", "--loose-gtid-mode=OFF_PERMISSIVE", *_at_first(settings),
    ]  # fmt: skip


def _ready(place: _Place, config: MySQLConfig, site: str, work: Path) -> Scratch:
    """Wait until it answers, then make it ours: one administrator of our own, no other account."""
    source = MySQLSource(config, site=site)
    _wait_until_it_answers(place, source)
    admin, password = leftovers.PREFIX + secrets.token_hex(4), secrets.token_urlsafe(24)
    with contextlib.closing(source.connect()) as session:
        query(session, f"CREATE USER {literal(admin)}@'%' IDENTIFIED BY {literal(password)}")
        query(session, f"GRANT ALL ON *.* TO {literal(admin)}@'%' WITH GRANT OPTION")
    source.close()
    ours = config.model_copy(update={"user": admin, "password": SecretStr(password)})
    source = MySQLSource(ours, site=site)
    for user, host in query(source.session, "SELECT User, Host FROM mysql.user"):
        if user not in _SYSTEM_ACCOUNTS | {admin}:
            query(source.session, f"DROP USER {literal(_text(user))}@{literal(_text(host))}")
    return Scratch(ours, source, work, place)


def _wait_until_it_answers(place: _Place, source: MySQLSource) -> None:
    """An image's entry point starts the server once without a network, so what answers is the real one."""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            source.connect(patience=10).close()
            return
        except BackupError as error:
            if not place.alive:
                raise ToolFailed(f"The scratch server ended while it started:\n{place.last_words()}") from None
            if time.monotonic() > deadline:
                raise Unreachable(f"The scratch server does not answer: {error}\n{place.last_words()}") from None
            time.sleep(0.1)


def _text(shown: object) -> str:
    return shown.decode("utf-8", "replace") if isinstance(shown, bytes) else str(shown)
